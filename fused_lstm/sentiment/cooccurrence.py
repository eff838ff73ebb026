"""Word vectors from texts without labels: positive pointwise mutual information of words that stand near each other,
and its leading singular vectors (Levy, Goldberg & Dagan, TACL 2015). Minutes on one core, the same numbers every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .tokens import UNKNOWN_ID

if TYPE_CHECKING:
    import numpy as np

SMOOTHING = 0.75  # of how frequent a context is: rare ones would otherwise seem telling
LEAST_WEIGHT = 0.5  # pairs that met once and far apart are left out: most of the memory, little of the sense
POWER_ITERATIONS = 3
_PIECE = 1 << 22  # tokens that are counted at once


class VectorsUnavailable(UserError):
    """scikit-learn, which brings the decomposition, is not installed; the message says how to get it."""


def learn_vectors(
    texts: Iterable[Sequence[int]], words: int, size: int, window: int, seed: int = 0
) -> np.ndarray:
    """Vectors (words, size), float32, of the words that ``texts`` hold by their numbers; zero for those that never met
    another. ``window``: how far apart two words are still near; they count by the inverse of their distance.

    Raises ValueError if there are fewer meetings of words than ``size`` asks for.
    """
    import numpy as np

    try:
        from sklearn.utils.extmath import randomized_svd
    except ImportError as error:
        raise VectorsUnavailable(
            'learning word vectors needs scikit-learn: pip install "fused_lstm[sentiment]"'
        ) from error
    information = _positive_information(_meetings(texts, words, window))
    met = information.getnnz(axis=1) > 0
    if min(met.sum(), words - 1) < size:
        raise ValueError(f"too few words stand near each other for {size} numbers a word; give more texts")
    left, values, _ = randomized_svd(information, size, n_iter=POWER_ITERATIONS, random_state=seed)
    return (left * np.sqrt(values) * met[:, None]).astype(np.float32)  # rounding leaves them not quite zero


def _meetings(texts: Iterable[Sequence[int]], words: int, window: int) -> Any:
    """How often two words were near, (words, words), symmetric."""
    import numpy as np
    from scipy.sparse import coo_matrix, csr_matrix

    total = csr_matrix((words, words), dtype=np.float32)
    for tokens in _pieces(texts, window):
        for distance in range(1, window + 1):
            left, right = tokens[:-distance], tokens[distance:]
            known = (left > UNKNOWN_ID) & (right > UNKNOWN_ID)
            weights = np.full(int(known.sum()), 1.0 / distance, dtype=np.float32)
            total = total + coo_matrix((weights, (left[known], right[known])), shape=(words, words)).tocsr()
    total = (total + total.T).tocsr()
    total.data[total.data < LEAST_WEIGHT] = 0
    total.eliminate_zeros()
    return total


def _pieces(texts: Iterable[Sequence[int]], window: int) -> Iterator[np.ndarray]:
    """Texts one after the other, so far apart that their words never meet."""
    import numpy as np

    gap = np.zeros(window, dtype=np.int32)
    parts, count = [], 0
    for text in texts:
        parts += [np.asarray(text, dtype=np.int32), gap]
        count += len(text) + window
        if count >= _PIECE:
            yield np.concatenate(parts)
            parts, count = [], 0
    if parts:
        yield np.concatenate(parts)


def _positive_information(meetings: Any) -> Any:
    """max(0, log p(word, context) / (p(word) p(context)^0.75)), as a sparse matrix."""
    import numpy as np

    together = meetings.tocoo()
    often = np.asarray(meetings.sum(axis=1), dtype=np.float64).ravel()
    context = often**SMOOTHING
    context /= context.sum() or 1.0
    together.data = np.log(together.data / (often[together.row] * context[together.col])).clip(min=0).astype(np.float32)
    result = together.tocsr()
    result.eliminate_zeros()
    return result
