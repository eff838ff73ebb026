"""The models to beat: logistic regression on n-grams weighted by TF-IDF or by naive Bayes, on the same texts and parts.

Ratings are met by ridge regression on the TF-IDF rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .examples import Example
from .metrics import Evaluation
from .tokens import tokenize

TFIDF, NAIVE_BAYES = "TF-IDF 1-{order}-grams + logistic regression", "NB-weighted 1-{order}-grams + logistic regression"
RIDGE = "TF-IDF 1-{order}-grams + ridge regression"
_TRAIN, _DEV = object(), object()  # beside the names of other parts, whatever these are
STRENGTHS = {TFIDF: (3.0, 30.0), NAIVE_BAYES: (0.03, 0.1, 0.3), RIDGE: (0.3, 3.0)}


class BaselineUnavailable(Exception):
    """scikit-learn is not installed; the message says how to get it."""


@dataclass
class Baseline:
    """Results of a linear model. ``strength`` is the one that was best on dev: C, or the penalty of ridge regression.

    ``outputs``: for each part the probabilities (N, classes), for ratings the numbers (N,).
    """

    name: str
    strength: float
    dev_score: float
    parts: dict[str, Evaluation]
    seconds: float
    outputs: dict[str, Any] = field(default_factory=dict)


def ngrams(text: str, order: int) -> list[str]:
    """All runs of 1 to ``order`` neighbouring tokens."""
    tokens = tokenize(text)
    return [" ".join(tokens[i : i + n]) for n in range(1, order + 1) for i in range(len(tokens) - n + 1)]


def run_baselines(
    train: Sequence[Example],
    dev: Sequence[Example],
    others: dict[str, Sequence[Example]],
    classes: Sequence[str],
    order: int,
) -> list[Baseline]:
    """Fits both models on ``train``, chooses the regularisation on ``dev``, evaluates ``others``. Deterministic.

    Raises `BaselineUnavailable` without scikit-learn.
    """
    _require_sklearn()
    number = {name: index for index, name in enumerate(classes)}
    started = time.perf_counter()
    count = _counter(train, order)
    counts = {name: count(examples) for name, examples in {_TRAIN: train, _DEV: dev, **others}.items() if examples}
    labels = {
        name: [number[e.label] for e in examples] for name, examples in {_TRAIN: train, _DEV: dev, **others}.items()
    }
    counted = time.perf_counter() - started

    results = []
    for name, weigh in ((TFIDF, _tfidf), (NAIVE_BAYES, _naive_bayes)):
        started = time.perf_counter()
        weighed = weigh(counts[_TRAIN], labels[_TRAIN], len(classes))
        rows = {part: weighed(part_counts) for part, part_counts in counts.items()}
        best = None
        for strength in STRENGTHS[name]:
            model = _Logistic(strength, len(classes)).fit(rows[_TRAIN], labels[_TRAIN])
            accuracy = Evaluation.of(classes, labels[_DEV], model(rows[_DEV]).argmax(axis=1).tolist()).accuracy
            if best is None or accuracy > best[0]:
                best = accuracy, strength, model
        accuracy, strength, model = best
        result = Baseline(name.format(order=order), strength, accuracy, {}, 0.0)
        for part in counts.keys() & others.keys():
            shares = result.outputs[part] = model(rows[part])
            result.parts[part] = Evaluation.of(classes, labels[part], shares.argmax(axis=1).tolist())
        result.seconds = counted + time.perf_counter() - started
        results.append(result)
    return results


def run_rating_baseline(
    train: tuple[Sequence[str], Sequence[float]],
    dev: tuple[Sequence[str], Sequence[float]],
    others: dict[str, Sequence[str]],
    order: int,
) -> Baseline:
    """Ridge regression on texts and numbers; its answers are in ``outputs``, ``dev_score`` is -MSE."""
    _require_sklearn()
    from sklearn.linear_model import Ridge

    started = time.perf_counter()
    count = _counter([Example("", text) for text in train[0]], order)
    tfidf = _tfidf(count([Example("", text) for text in train[0]]), [], 0)

    def transform(texts: Sequence[str]) -> Any:
        return tfidf(count([Example("", text) for text in texts]))(0)

    train_rows, dev_rows = transform(train[0]), transform(dev[0])
    best = None
    for strength in STRENGTHS[RIDGE]:
        model = Ridge(alpha=strength, solver="lsqr", random_state=0).fit(train_rows, list(train[1]))
        score = -float(((model.predict(dev_rows) - list(dev[1])) ** 2).mean())
        if best is None or score > best[0]:
            best = score, strength, model
    score, strength, model = best
    outputs = {part: model.predict(transform(texts)) for part, texts in others.items() if texts}
    return Baseline(RIDGE.format(order=order), strength, score, {}, time.perf_counter() - started, outputs)


def _require_sklearn() -> None:
    try:
        import sklearn.feature_extraction.text
        import sklearn.linear_model  # noqa: F401
    except ImportError as error:
        raise BaselineUnavailable(
            'the linear baseline needs scikit-learn: pip install "fused_lstm[sentiment]"'
        ) from error


# Counts of n-grams to the rows that the model of one class sees.
Rows = Callable[[int], Any]
Transform = Callable[[Any], Rows]


def _counter(train: Sequence[Example], order: int) -> Callable[[Sequence[Example]], Any]:
    """Texts to counts of the n-grams of ``train``, each text read once."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    vectoriser = CountVectorizer(analyzer=lambda example: ngrams(example.text, order), dtype=np.float64)
    rows = vectoriser.fit_transform(train)
    return lambda examples: rows if examples is train else vectoriser.transform(examples)


def _tfidf(counts: Any, labels: Sequence[int], classes: int) -> Transform:
    from sklearn.feature_extraction.text import TfidfTransformer

    weights = TfidfTransformer(sublinear_tf=True).fit(counts)

    def transform(counts: Any) -> Rows:
        rows = weights.transform(counts)
        return lambda number: rows

    return transform


def _naive_bayes(counts: Any, labels: Sequence[int], classes: int) -> Transform:
    """Presence of each n-gram times the logarithm of the ratio of its shares within and outside of the class (Wang &
    Manning, ACL 2012)."""
    import numpy as np

    def present(counts: Any) -> Any:
        rows = counts.copy()
        rows.data[:] = 1
        return rows

    rows, of = present(counts), np.asarray(labels)
    ratios = {}
    for number in _modelled(classes):
        inside = np.asarray(rows[of == number].sum(axis=0)).ravel() + 1
        outside = np.asarray(rows[of != number].sum(axis=0)).ravel() + 1
        ratios[number] = np.log((inside / inside.sum()) / (outside / outside.sum()))

    def transform(counts: Any) -> Rows:
        rows = present(counts)
        return lambda number: rows.multiply(ratios[number]).tocsr()

    return transform


def _modelled(classes: int) -> Sequence[int]:
    """The classes that get a model: the second of two, else each against the rest."""
    return [1] if classes == 2 else range(classes)


class _Logistic:
    """Logistic regression for each class that `_modelled` names. Called, it gives probabilities (N, classes)."""

    def __init__(self, strength: float, classes: int) -> None:
        from sklearn.linear_model import LogisticRegression

        self._models = {
            number: LogisticRegression(C=strength, solver="liblinear", random_state=0) for number in _modelled(classes)
        }

    def fit(self, rows: Rows, labels: Sequence[int]) -> _Logistic:
        for number, model in self._models.items():
            model.fit(rows(number), [label == number for label in labels])
        return self

    def __call__(self, rows: Rows) -> Any:
        import numpy as np

        shares = np.stack([m.predict_proba(rows(number))[:, 1] for number, m in self._models.items()], axis=1)
        if len(self._models) == 1:
            return np.concatenate([1 - shares, shares], axis=1)
        return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
