"""Token numbers to LSTM outputs: what a classifier and a language model have in common.

The regularisation of AWD-LSTM (Merity, Keskar & Socher 2017): whole words dropped from the embedding, locked dropout on
word vectors and between layers, DropConnect on the recurrent weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from .recurrent import State, make_layer
from .tokens import PAD_ID
from .word_vectors import WordVectors


@dataclass(frozen=True)
class EncoderSizes:
    """``hiddens`` are the units of each layer and direction; rates as in `Encoder`."""

    vocabulary: int
    embedding: int
    hiddens: tuple[int, ...]
    bidirectional: bool = False
    embedding_dropout: float = 0.0
    input_dropout: float = 0.0
    layer_dropout: float = 0.0
    weight_dropout: float = 0.0
    recompute: bool = False
    pair_buckets: int = 0


class Encoder(nn.Module):
    """Embedding and LSTM layers, each a module of its own, so that sizes and masks may differ.

    While training: ``embedding_dropout`` removes words of the vocabulary everywhere in a batch (Gal & Ghahramani 2016),
    ``input_dropout`` and ``layer_dropout`` are locked: one mask for all steps of a row, another one for every layer.
    """

    def __init__(self, sizes: EncoderSizes, backend: str) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = WordVectors(sizes.vocabulary, sizes.embedding, sizes.pair_buckets)
        directions = 2 if sizes.bidirectional else 1
        inputs = [sizes.embedding, *(hidden * directions for hidden in sizes.hiddens[:-1])]
        self.layers = nn.ModuleList(
            make_layer(backend, i, h, sizes.bidirectional, sizes.weight_dropout, sizes.recompute)
            for i, h in zip(inputs, sizes.hiddens)
        )

    @property
    def features(self) -> int:
        """The size of one step of the output."""
        return self.sizes.hiddens[-1] * (2 if self.sizes.bidirectional else 1)

    def initialise(self, generator: torch.Generator, forget_bias: float, embedding_std: float) -> None:
        """Draws every parameter anew. The same generator state gives the same values with either backend."""
        nn.init.normal_(self.embedding.weight, std=embedding_std, generator=generator)
        with torch.no_grad():
            self.embedding.weight[PAD_ID] = 0
            if self.embedding.pairs is not None:
                self.embedding.pairs.zero_()
        for name, parameter in self.layers.named_parameters():
            if "weight_hh" in name:
                for gate in parameter.data.chunk(4):
                    nn.init.orthogonal_(gate, generator=generator)
            elif "weight" in name:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)
            if "bias_ih" in name:
                # A forget gate that starts open lets the first words reach the end of the sentence.
                parameter.data.chunk(4)[1].fill_(forget_bias)

    def forward(
        self,
        tokens: Tensor,
        states: list[State] | None = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, list[State]]:
        """``tokens`` (B, T) to the top layer's steps (B, T, F) and each layer's last (h, c)."""
        return self.read(self.look_up(tokens), states, lengths, resets)

    def look_up(self, tokens: Tensor) -> Tensor:
        """``tokens`` (B, T) to word vectors (B, T, E), after dropout."""
        return locked_dropout(self._embed(tokens), self.sizes.input_dropout, self.training)

    def read(
        self,
        x: Tensor,
        states: list[State] | None = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, list[State]]:
        """The rest of `forward`, from word vectors on."""
        last = []
        for index, layer in enumerate(self.layers):
            if index:
                x = locked_dropout(x, self.sizes.layer_dropout, self.training)
            x, state = layer(x, None if states is None else states[index], lengths=lengths, resets=resets)
            last.append(state)
        return x, last

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens)
        rate = self.sizes.embedding_dropout
        if not self.training or not rate:
            return embedded
        kept = dropout(embedded.new_ones(self.sizes.vocabulary), rate)
        return embedded * kept[tokens][..., None]


def locked_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout with one mask for all steps of a row: (B, T, F) to the same (Gal & Ghahramani 2016)."""
    if not training or rate == 0:
        return x
    return x * dropout(torch.ones_like(x[:, :1]), rate)


def drop_words(tokens: Tensor, rate: float, replacement: int) -> Tensor:
    """Replaces words by ``replacement`` at random, so that the unknown word is met in training. Padding stays."""
    dropped = (torch.rand(tokens.shape, device=tokens.device) < rate) & (tokens != PAD_ID)
    return tokens.masked_fill(dropped, replacement)


def reversed_rows(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Every row read from its end: (B, T) to the same, padding staying behind."""
    steps = torch.arange(tokens.shape[1], device=tokens.device)
    places = lengths[:, None] - 1 - steps
    return torch.where(places >= 0, tokens.gather(1, places.clamp(min=0)), tokens)
