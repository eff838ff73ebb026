"""A model on labelled texts: everything a report says about a part."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..examples import Example
from ..highlight import Piece
from ..metrics import Evaluation
from ..predictor import explain_texts, number_examples, predict_ratings, predicts_ratings
from ..store import StoredModel
from ..training import predict
from .calibration import Calibration, at_temperature
from .fingerprints import fingerprint, text_key
from .outcomes import Outcomes, macro_f1_interval
from .ratings import RatingEvaluation

MISTAKES = 12


@dataclass
class Ratings:
    """True and predicted numbers (N,) of a part, for a model whose labels are numbers."""

    true: np.ndarray
    predicted: np.ndarray

    def evaluation(self) -> RatingEvaluation:
        return RatingEvaluation.of(self.true, self.predicted)

    @property
    def squared_errors(self) -> np.ndarray:
        return (self.predicted - self.true) ** 2

    def hardest(self, count: int) -> list[int]:
        """Places of the largest errors, these first."""
        return np.argsort(-self.squared_errors, kind="stable")[:count].tolist()


@dataclass
class PartResult:
    """One evaluated part. ``kinds``: construction -> (correct, total), empty outside the embedded corpus; ``mistakes``:
    the surest wrong answers, of ratings the farthest; ``sha256`` of the rows; ``tokens``: how many were read in
    ``seconds``."""

    outcomes: Outcomes
    evaluation: Evaluation
    loss: float
    seconds: float
    tokens: int
    sha256: str
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    ratings: Ratings | None = None

    def as_dict(self) -> dict[str, Any]:
        kinds = {name: {"correct": correct, "count": total} for name, (correct, total) in self.kinds.items()}
        return {
            **self.evaluation.as_dict(),
            "macro_f1_interval_95": list(macro_f1_interval(self.evaluation)),
            "loss": self.loss,
            "calibration": self.outcomes.calibration().as_dict(),
            "by_length": self.outcomes.by_length(),
            "mistakes": self.mistakes,
            "seconds": self.seconds,
            "samples_per_second": self.evaluation.total / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
            "sha256": self.sha256,
            **({"constructions": kinds} if kinds else {}),
            **({"ratings": self.ratings.evaluation().as_dict()} if self.ratings else {}),
        }


def measure(model: StoredModel, examples: Sequence[Example], mistakes: int = MISTAKES) -> PartResult:
    """Runs the model over ``examples``, at least one, whose labels it all knows."""
    settings = model.settings
    texts = number_examples(examples, model.vocabulary, settings.classes, settings.max_length)
    started = time.perf_counter()
    probabilities = predict(model.network, texts)
    seconds = time.perf_counter() - started
    outcomes = Outcomes(
        settings.classes,
        texts.labels.numpy(),
        probabilities.double().numpy(),
        texts.lengths.numpy(),
        [text_key(example.text) for example in examples],
    )
    ratings = None
    if predicts_ratings(model.network):
        true = _numbers(settings.classes)[outcomes.true]
        ratings = Ratings(true, predict_ratings(model.network, texts).double().numpy())
    result = _part(examples, outcomes, ratings, seconds, int(texts.lengths.sum()))
    hardest = _hardest(result, mistakes)
    explained = explain_texts(model, [examples[place].text for place in hardest])
    result.mistakes = _mistakes(examples, result, hardest, [told.pieces for told in explained])
    return result


def measure_together(
    models: Sequence[StoredModel], examples: Sequence[Example], mistakes: int = MISTAKES
) -> list[PartResult]:
    """Of each of ``models``, which have the same classes, and of all together: the mean of their probabilities, of
    rating models that of their numbers. Mistakes are those of all, and nothing explains them."""
    parts = [measure(model, examples, mistakes=0) for model in models]
    outcomes, ratings = parts[0].outcomes, parts[0].ratings
    if ratings is None:
        shares = np.mean([part.outcomes.probabilities for part in parts], axis=0)
    else:
        ratings = Ratings(ratings.true, np.mean([part.ratings.predicted for part in parts], axis=0))
        shares = _near(ratings.predicted, _numbers(outcomes.classes))
    seconds, tokens = sum(part.seconds for part in parts), sum(part.tokens for part in parts)
    together = _part(examples, replace(outcomes, probabilities=shares), ratings, seconds, tokens)
    hardest = _hardest(together, mistakes)
    pieces = [[(examples[place].text, 0.0)] for place in hardest]
    together.mistakes = _mistakes(examples, together, hardest, pieces)
    return [*parts, together]


def _part(
    examples: Sequence[Example], outcomes: Outcomes, ratings: Ratings | None, seconds: float, tokens: int
) -> PartResult:
    return PartResult(
        outcomes,
        outcomes.evaluation(),
        outcomes.loss(),
        seconds,
        tokens,
        fingerprint(examples),
        _kinds(examples, outcomes.hits.tolist()),
        ratings=ratings,
    )


def _numbers(classes: Sequence[str]) -> np.ndarray:
    return np.array([float(name) for name in classes])


def _near(predicted: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """What a rating model says of its classes: the softmax of minus the squared distances."""
    scores = -((predicted[:, None] - numbers) ** 2)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _hardest(part: PartResult, count: int) -> list[int]:
    return part.ratings.hardest(count) if part.ratings else part.outcomes.hardest(count)


def calibrated(part: Outcomes, temperature: float) -> dict[str, Any]:
    """What dividing the scores by ``temperature`` would make of the calibration."""
    better = Calibration.of(at_temperature(part.probabilities, temperature), part.true)
    return {"temperature": temperature, "ece": better.ece, "brier": better.brier}


def _kinds(examples: Sequence[Example], hits: Sequence[bool]) -> dict[str, tuple[int, int]]:
    totals, correct = Counter[str](), Counter[str]()
    for example, right in zip(examples, hits):
        if example.kind:
            totals[example.kind] += 1
            correct[example.kind] += right
    return {kind: (correct[kind], total) for kind, total in totals.items()}


def _mistakes(
    examples: Sequence[Example], part: PartResult, places: Sequence[int], pieces: Sequence[Sequence[Piece]]
) -> list[dict[str, Any]]:
    """The answers at ``places``, with what each piece of the text adds to them."""
    outcomes, ratings = part.outcomes, part.ratings
    return [
        {
            "text": examples[place].text,
            "true": outcomes.classes[int(outcomes.true[place])],
            "predicted": outcomes.classes[int(outcomes.predicted[place])],
            "probability": float(np.max(outcomes.probabilities[place])),
            **({"rating": float(ratings.predicted[place])} if ratings else {}),
            "pieces": [[text, round(weight, 3)] for text, weight in told],
        }
        for place, told in zip(places, pieces)
    ]
