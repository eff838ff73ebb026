"""MODEL_CARD.md, written with every model: what it is, learnt from what, how good, how to load it, where it ends.

The head is the metadata that model hubs read; values are quoted as JSON, which YAML includes.
"""

from __future__ import annotations

import json
from typing import Any

from . import words
from .tables import table

CARD = "MODEL_CARD.md"

_EMBEDDED_LIMIT = (
    "It was trained on the embedded corpus, sentences of an artificial grammar. It knows nothing about real sentiment "
    "and must not be used on real texts."
)
_USE = """\
```sh
pip install "fused_lstm[sentiment]"
fused-lstm-sentiment predict FOLDER "a text" "another text"
fused-lstm-sentiment evaluate FOLDER labelled.tsv
fused-lstm-sentiment export FOLDER OUTPUT        # ONNX and torch.export
```

```python
from pathlib import Path
from fused_lstm.sentiment.predictor import predict_texts
from fused_lstm.sentiment.store import load

model = load(Path("FOLDER"))
for prediction in predict_texts(model, ["a text"]):
    print(prediction.label, prediction.probability)
```

The folder holds tensors (`model.safetensors`) and JSON; checksums tie them together, and loading unpickles nothing."""


_ANSWER = "prediction.label, prediction.probability"
_RATING = "prediction.rating, prediction.label"  # the number, and the label nearest to it


def model_card(metrics: dict[str, Any]) -> str:
    """The card of the model that ``metrics`` tells about."""
    data, test = metrics["data"], metrics["parts"]["test"]
    classes, rows = test["confusion"]["classes"], words.rating_rows(metrics)
    gives = "predicts a number for a text and tells the nearest of" if rows else "gives a text one of"
    parameters = metrics["environment"].get("parameters", 0)
    sections = [
        _head(metrics),
        f"# Sentiment {'ratings' if rows else 'classifier'} trained on {data['name']}",
        "",
        f"An LSTM {'regressor' if rows else 'classifier'} of {parameters:,} parameters that {gives} {len(classes)} "
        f"labels: {words.listed(classes)}.",
        "",
        "## Use",
        "",
        _USE.replace(_ANSWER, _RATING) if rows else _USE,
        "",
        "## Data",
        "",
        _data(metrics),
        "",
        "## Results",
        "",
        *([table(words.RATING_HEADER, rows), "", words.rating_words(metrics), "", words.NEAREST, ""] if rows else []),
        table(words.ACCURACY_HEADER, words.accuracy_rows(metrics)),
        "",
        *(f"- {line}" for line in words.differences(metrics, "test")),
        *([] if rows else [f"- {words.calibration_words(test)}"]),
        f"- {words.speed_words(test)} on {metrics['environment'].get('threads', '?')} thread(s).",
        "",
        "The dev part chose the epoch, so its row is flattering; nothing was chosen on the others.",
        "",
        "## Intended use and limits",
        "",
        *(f"- {line}" for line in _limits(metrics)),
        "",
        "## Training",
        "",
        ", ".join(f"{name} {words.value_words(value)}" for name, value in metrics["settings"].items()) + ".",
        "",
        ", ".join(f"{name} {value}" for name, value in metrics["environment"].items()) + ".",
        "",
    ]
    return "\n".join(sections)


def _head(metrics: dict[str, Any]) -> str:
    test = metrics["parts"]["test"]
    name = json.dumps(metrics["data"]["name"], ensure_ascii=False)
    if told := test.get("ratings"):
        scores = [("mse", told["mse"]), ("mae", told["mae"]), ("pearsonr", told["pearson"])]
        scores.append(("spearmanr", told["spearman"]))
    else:
        scores = [("accuracy", test["accuracy"]), ("f1", test["macro"]["f1"])]
    lines = [
        "---",
        "library_name: fused_lstm",
        "pipeline_tag: text-classification",
        "tags: [sentiment, lstm]",
        "model-index:",
        "- name: fused_lstm.sentiment",
        "  results:",
        "  - task: {type: text-classification}",
        f"    dataset: {{name: {name}, type: {name}, split: test}}",
        "    metrics:",
        *(f"    - {{type: {kind}, value: {value:.6f}}}" for kind, value in scores),
        "---",
        "",
    ]
    return "\n".join(lines)


def _data(metrics: dict[str, Any]) -> str:
    data = metrics["data"]
    names = words.label_columns(data)
    rows = [
        (part, f"{count:,}", *(f"{data['labels'][part].get(name, 0):,}" for name in names), data["sha256"][part])
        for part, count in data["counts"].items()
    ]
    lines = [table(("part", "texts", *names, "SHA-256 of the rows"), rows)]
    lines += ["", *(f"- {note}" for note in data["notes"])] if data["notes"] else []
    return "\n".join(lines)


def _limits(metrics: dict[str, Any]) -> list[str]:
    data, test = metrics["data"], metrics["parts"]["test"]
    most = max(band["to"] for band in test["by_length"])
    longest = f"The longest test text had {most:,} tokens as the model reads them."
    lines = [_EMBEDDED_LIMIT] if data["embedded"] else [
        "For texts of the kind it was trained on. Other subjects, lengths, dialects or languages: measure first, with "
        "`evaluate` on labelled texts of your own.",
        "Not for decisions about people.",
    ]
    if words.is_rated(metrics):
        lines.append("Predicted numbers are not held within the range of the labels.")
        return [*lines, longest]
    if not data["embedded"]:
        lines.append("Probabilities are as reliable as the calibration above says, on such texts.")
    name, scores = min(test["per_class"].items(), key=lambda entry: entry[1]["recall"])
    lines.append(f"Weakest class on test: {name}, recall {scores['recall']:.2%} on {scores['support']:,} texts.")
    return [*lines, longest]
