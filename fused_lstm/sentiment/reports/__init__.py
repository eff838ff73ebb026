"""What a run, an evaluation or several runs side by side have to say.

Numbers: `outcomes` (what a model said about each text), `calibration`, `pairing`, `ratings`, `fingerprints`; `measure`
makes them from a model and a part. `run_report` collects a run as JSON values, the contents of metrics.json,
`evaluation` those of stored models on other texts; from these alone come `run_text` (Markdown), `run_page` (HTML),
`card` (the model card), `plots` (PNG) and `comparison`. Shared by them: `words` and `tables`, `page` with `style` and
`charts`, `files`.
"""
