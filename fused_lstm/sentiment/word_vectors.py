"""Vectors of words, and of what stands beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from .tokens import PAD_ID

_FIRST, _SECOND, _PRIME = 2_654_435_761, 2_246_822_519, 2_147_483_647  # which pairs share a vector has no pattern


class WordVectors(nn.Embedding):
    """An embedding whose words also carry a vector of the pair that they form with the word before (Joulin et al.
    2017). A pair's vector is the one of ``pairs`` that its hash names; they start as zeros, as unseen ones remain."""

    def __init__(self, words: int, size: int, pairs: int = 0) -> None:
        super().__init__(words, size, padding_idx=PAD_ID)
        self.pairs = nn.Parameter(torch.zeros(pairs, size)) if pairs else None

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = super().forward(tokens)
        if self.pairs is None:
            return vectors
        before = pad(tokens, (1, 0), value=PAD_ID)[:, :-1]
        buckets = (before * _FIRST + tokens * _SECOND) % _PRIME % self.pairs.shape[0]
        return vectors + embedding(buckets, self.pairs) * (tokens != PAD_ID)[..., None]
