"""Predictions as lines of text, JSON or TSV, with the weights of their tokens if asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO

from .highlight import coloured, strongest, uses_colour
from .predictor import Explanation, Prediction

FORMATS = ("text", "jsonl", "tsv")


class Writer:
    """Writes a line for each prediction to ``stream``; a second one explains it to people where there is no colour.

    ``rated``: the predictions are those of a rating model.
    """

    def __init__(self, classes: Sequence[str], how: str, stream: IO[str], rated: bool = False) -> None:
        self._classes, self._how, self._stream = classes, how, stream
        self._colour = uses_colour(stream)
        if how == "tsv":
            names = ("label", "probability", "text", *map(_on_one_line, classes), *(["rating"] if rated else []))
            print(*names, sep="\t", file=stream)

    def __call__(self, prediction: Prediction, explanation: Explanation | None = None, flush: bool = False) -> None:
        line = {"jsonl": self._json, "tsv": self._tsv, "text": self._text}[self._how](prediction, explanation)
        print(line, file=self._stream, flush=flush)

    def _json(self, prediction: Prediction, explanation: Explanation | None) -> str:
        row = {
            "text": prediction.text,
            "label": prediction.label,
            "probability": prediction.probability,
            "probabilities": dict(zip(self._classes, prediction.probabilities)),
        }
        if prediction.rating is not None:
            row["rating"] = prediction.rating
        if explanation is not None:
            row |= {"score": explanation.score, "tokens": explanation.tokens, "weights": explanation.weights}
        return json.dumps(row, ensure_ascii=False)

    def _tsv(self, prediction: Prediction, explanation: Explanation | None) -> str:
        shares = [f"{value:.6f}" for value in prediction.probabilities]
        if prediction.rating is not None:
            shares.append(f"{prediction.rating:.6f}")
        return "\t".join((prediction.label, f"{prediction.probability:.6f}", _on_one_line(prediction.text), *shares))

    def _text(self, prediction: Prediction, explanation: Explanation | None) -> str:
        number = prediction.probability if prediction.rating is None else prediction.rating
        start = f"{prediction.label}  {number:.3f}  "
        if explanation is None:
            return start + _on_one_line(prediction.text)
        if self._colour:
            return start + coloured([(_on_one_line(text), weight) for text, weight in explanation.pieces])
        return f"{start}{_on_one_line(prediction.text)}\n    {strongest(explanation.tokens, explanation.weights)}"


def _on_one_line(text: str) -> str:
    """Tabs and line ends, which would break rows and columns, become spaces."""
    return text.replace("\t", " ").replace("\n", " ").replace("\r", " ")
