"""The model to beat: TF-IDF of n-grams and logistic regression, on the same tokens and the same parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .examples import Example
from .metrics import Evaluation
from .tokens import tokenize

NAME = "TF-IDF 1-{order}-grams + logistic regression"
STRENGTHS = (3.0, 30.0)


class BaselineUnavailable(Exception):
    """scikit-learn is not installed; the message says how to get it."""


@dataclass
class Baseline:
    """Results of the linear model; ``strength`` is the C that was best on dev."""

    name: str
    strength: float
    dev_accuracy: float
    parts: dict[str, Evaluation]
    seconds: float


def ngrams(text: str, order: int) -> list[str]:
    """All runs of 1 to ``order`` neighbouring tokens."""
    tokens = tokenize(text)
    return [" ".join(tokens[i : i + n]) for n in range(1, order + 1) for i in range(len(tokens) - n + 1)]


def run_baseline(
    train: Sequence[Example],
    dev: Sequence[Example],
    others: dict[str, Sequence[Example]],
    classes: Sequence[str],
    order: int,
) -> Baseline:
    """Fits on ``train``, chooses the regularisation on ``dev``, evaluates ``others``. Deterministic.

    Raises `BaselineUnavailable` without scikit-learn.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier
    except ImportError as error:
        raise BaselineUnavailable(
            'the linear baseline needs scikit-learn: pip install "fused_lstm[sentiment]"'
        ) from error

    started = time.perf_counter()
    vectoriser = TfidfVectorizer(analyzer=lambda text: ngrams(text, order), sublinear_tf=True)
    train_rows = vectoriser.fit_transform([e.text for e in train])
    dev_rows = vectoriser.transform([e.text for e in dev])
    number = {name: index for index, name in enumerate(classes)}
    train_labels = [number[e.label] for e in train]

    def evaluate(model: object, rows: object, examples: Sequence[Example]) -> Evaluation:
        return Evaluation.of(classes, [number[e.label] for e in examples], model.predict(rows).tolist())

    best = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, solver="liblinear", random_state=0)
        model = (model if len(classes) == 2 else OneVsRestClassifier(model)).fit(train_rows, train_labels)
        accuracy = evaluate(model, dev_rows, dev).accuracy
        if best is None or accuracy > best[0]:
            best = accuracy, strength, model
    accuracy, strength, model = best
    parts = {
        part: evaluate(model, vectoriser.transform([e.text for e in examples]), examples)
        for part, examples in others.items()
        if examples
    }
    return Baseline(NAME.format(order=order), strength, accuracy, parts, time.perf_counter() - started)
