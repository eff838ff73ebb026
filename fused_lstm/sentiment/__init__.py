"""Sentiment classification with an LSTM, from raw text to a stored model and a report.

On the command line: ``python -m fused_lstm.sentiment train|evaluate|predict --help``.

The rooms, in the order data passes through them: `corpus` (with `grammar`, `lexicon`, `splitmix`) or `readers` and
`folders` make `examples`; `splits` and `datasets` divide them; `tokens` and `batches` turn text into tensors; `model`
and `training` learn; `store` keeps the model and `predictor` uses it; `metrics`, `baseline`, `samples`, `plots` and
`report` tell; `experiment` leads one run through all of them as `options` say, `cli` with `arguments` takes the orders.
"""
