"""Which tokens speak for a prediction: gradient times input on the word vectors, or integrated gradients.

The score that is taken apart is the log-odds of the predicted class, or the predicted number of a rating model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .batches import NumberedTexts
from .model import SentimentClassifier


class Attribution(NamedTuple):
    """``score`` of the predicted class ``target``, and what each token adds to it."""

    target: int
    score: float
    weights: tuple[float, ...]


def attribute(
    network: SentimentClassifier, texts: Sequence[Sequence[int]], steps: int = 0, batch_size: int = 64
) -> list[Attribution]:
    """One entry for each of the ``texts``, non-empty lists of token numbers.

    ``steps`` 0: gradient x input (Denil et al. 2014). More: integrated gradients (Sundararajan et al. 2017) from word
    vectors of zero on, by that many steps; weights then add up to the score less that of the empty vectors.
    """
    was_training = network.training
    network.eval()
    try:
        numbered = NumberedTexts(texts, [0] * len(texts))
        result: list[Attribution] = []
        for rows in torch.arange(len(texts)).split(batch_size):
            batch = numbered.batch(rows)
            result += _attribute(network, batch.tokens, batch.lengths, steps)
        return result
    finally:
        network.train(was_training)


def _attribute(network: SentimentClassifier, tokens: Tensor, lengths: Tensor, steps: int) -> list[Attribution]:
    device = next(network.parameters()).device
    tokens, lengths = tokens.to(device), lengths.to(device)
    with _Vectors(network) as vectors:
        with torch.no_grad():
            targets = network(tokens, lengths).argmax(dim=1)
        # Midpoints of equal parts of the way from zero; gradient x input looks at its end alone.
        scales = [(k + 0.5) / steps for k in range(steps)] or [1.0]
        weights: Tensor | float = 0.0
        for scale in scales:
            vectors.scale = scale
            score = _score(network, tokens, lengths, targets)
            (gradient,) = torch.autograd.grad(score.sum(), vectors.seen)
            weights = weights + (gradient * vectors.seen.detach() / scale).sum(dim=-1) / len(scales)
        vectors.scale = 1.0
        with torch.no_grad():
            score = _score(network, tokens, lengths, targets)
    rows = zip(targets.tolist(), score.tolist(), weights.tolist(), lengths.tolist())
    # A model that reads from the end has looked up the vectors in that order.
    order = -1 if getattr(network.config, "backwards", False) else 1
    return [Attribution(target, value, tuple(row[:length][::order])) for target, value, row, length in rows]


def _score(network: SentimentClassifier, tokens: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
    if getattr(network.config, "regression", False):
        return network(tokens, lengths, raw=True)[:, 0].float()
    scores = network(tokens, lengths).float()
    target = scores.gather(1, targets[:, None])[:, 0]
    others = scores.scatter(1, targets[:, None], float("-inf"))
    return target - torch.logsumexp(others, dim=1)


class _Vectors:
    """Word vectors on their way through the network, held so that gradients to them can be asked for."""

    def __init__(self, network: nn.Module) -> None:
        self._embedding = next(m for m in network.modules() if isinstance(m, nn.Embedding))
        self.scale = 1.0
        self.seen: Tensor

    def __enter__(self) -> _Vectors:
        self._hook = self._embedding.register_forward_hook(self._take)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _take(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        self.seen = (output.detach() * self.scale).requires_grad_(torch.is_grad_enabled())
        return self.seen
