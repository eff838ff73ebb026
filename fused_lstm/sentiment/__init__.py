"""Sentiment classification with an LSTM, from raw text to a stored model and a report.

On the command line: ``python -m fused_lstm.sentiment COMMAND --help``.

The rooms, in the order data passes through them: `corpus` (with `grammar`, `lexicon`, `splitmix`) or `readers` and
`folders` make `examples`; `splits` and `datasets` divide them; `tokens` and `batches` make tensors, `order` says
which together; `recurrent`, `encoder`, `pooling` and `model` are the classifier; `language_model` with `streams` and
`pretraining` is what `transfer` starts it from; both learn by `loop`, with `schedules`, `averaging`, `devices`,
`progress` and `logs`, `checkpoints` and `run_state` keep the run; `store` keeps the model and `predictor` uses it;
`metrics`, `baseline`, `samples` and the folder `reports` tell; `experiment` leads one run through all of them as
`options` say. What a stored model says goes out by `answers`, explained by `attribution` and `highlight`; `exporting`
and `export_usage` hand the model to others.

Orders come in by `cli`: `arguments` and `config_file` read them, `commands` holds a module for each command. A setting
is a field of a group (`settings`): adding one there adds its flag, its key in files, help and its line in the record.
"""
