"""The classifier: encoder, pooling over the valid steps, linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from .encoder import Encoder, EncoderSizes, drop_words, reversed_rows
from .pooling import POOLINGS, Pooling
from .recurrent import BACKENDS, BackendError
from .settings import at_least, positive, rate, setting
from .tokens import UNKNOWN_ID

__all__ = ["BACKENDS", "POOLINGS", "BackendError", "ModelConfig", "SentimentClassifier"]


@dataclass(frozen=True)
class ModelConfig:
    """Model.

    Sizes and rates that, with the weights, define a classifier. ``vocabulary``, which counts the special tokens too,
    and ``classes`` come from the data.
    """

    vocabulary: int = 0
    classes: int = 0
    embedding: int = setting(128, "size of a word vector", at_least(1))
    pair_buckets: int = setting(
        0, "vectors of pairs of words, found by hashing, to add to those of words; 0: none", at_least(0)
    )
    hidden: int = setting(128, "LSTM units in each direction", at_least(1))
    layers: int = setting(1, "LSTM layers", at_least(1))
    last_hidden: int = setting(0, "units of the last layer; 0: as the others", at_least(0))
    bidirectional: bool = setting(True, "read in both directions")
    backwards: bool = setting(False, "read texts from their end, as a backward language model")
    pooling: str = setting(
        "max", "what the classifier sees of the LSTM's outputs; concat: last, max and mean", choices=POOLINGS
    )
    word_sum: bool = setting(
        False, "the classifier also sees the sum of a text's word vectors, divided by the root of their number"
    )
    head_hidden: int = setting(0, "units between pooling and output; 0: none", at_least(0))
    regression: bool = setting(False, "labels are numbers (ratings): squared error, the nearest label is predicted")
    dropout: float = setting(0.5, "before the classifier", rate, metavar="P")
    embedding_dropout: float = setting(0.0, "words of the vocabulary zeroed in a whole batch", rate, metavar="P")
    input_dropout: float = setting(0.3, "on word vectors, one mask for a text", rate, metavar="P")
    layer_dropout: float = setting(0.3, "between layers, one mask for a text", rate, metavar="P")
    weight_dropout: float = setting(0.0, "recurrent weights zeroed (DropConnect)", rate, metavar="P")
    word_dropout: float = setting(0.1, "words replaced by the unknown word in training", rate, metavar="P")
    forget_bias: float = setting(1.0, "where the forget gate starts")
    embedding_std: float = setting(0.3, "how far word vectors are apart where they start", positive)
    recompute: bool = setting(False, "less memory in training for some more time (fused LSTM)")

    @property
    def encoder(self) -> EncoderSizes:
        hiddens = [self.hidden] * self.layers
        hiddens[-1] = self.last_hidden or self.hidden
        return EncoderSizes(
            self.vocabulary,
            self.embedding,
            tuple(hiddens),
            self.bidirectional,
            self.embedding_dropout,
            self.input_dropout,
            self.layer_dropout,
            self.weight_dropout,
            self.recompute,
            self.pair_buckets,
        )


class SentimentClassifier(nn.Module):
    """Scores for each class from padded token numbers.

    ``backend`` chooses what runs the LSTM, "fused" (`fused_lstm.FusedLSTM`) or "torch" (`torch.nn.LSTM`); parameters
    and their names are the same, so a state_dict of one loads into the other. `BackendError` if "fused" is not there.

    With ``config.regression``, ``ratings`` holds the number that each class stands for (`set_ratings`).
    """

    def __init__(self, config: ModelConfig, backend: str = "fused") -> None:
        super().__init__()
        self.config = config
        self.backend = backend
        self.encoder = Encoder(config.encoder, backend)
        self.pooling = Pooling(config.pooling, self.encoder.features)
        inputs = self.pooling.features + (config.embedding if config.word_sum else 0)
        self.inner = nn.Linear(inputs, config.head_hidden) if config.head_hidden else None
        self.output = nn.Linear(config.head_hidden or inputs, 1 if config.regression else config.classes)
        if config.regression:
            self.register_buffer("ratings", torch.arange(config.classes, dtype=torch.float32))

    def initialise(self, generator: torch.Generator) -> None:
        """Draws every parameter anew. The same generator state gives the same values with either backend."""
        self.encoder.initialise(generator, self.config.forget_bias, self.config.embedding_std)
        self.pooling.initialise(generator)
        for linear in filter(None, (self.inner, self.output)):
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)

    def use_vectors(self, vectors: Tensor, known: Tensor) -> None:
        """Takes word vectors: ``vectors`` (V, E) where ``known`` (V,) says so, scaled to what `initialise` draws."""
        with torch.no_grad():
            weight = self.encoder.embedding.weight
            scale = weight[known].std() / vectors[known].std()
            weight[known] = vectors[known].to(weight) * scale

    def set_ratings(self, classes: Sequence[str]) -> None:
        """The numbers that the classes of a regression stand for. `ValueError` for a class that is no number."""
        self.ratings.copy_(torch.tensor([float(name) for name in classes]))
        with torch.no_grad():
            self.output.bias.fill_(self.ratings.mean())

    def groups(self) -> list[nn.Module]:
        """The parts from the embedding to the head, as they are unfrozen from the end, and their rates fall."""
        head = nn.ModuleList([module for module in (self.pooling, self.inner, self.output) if module is not None])
        return [self.encoder.embedding, *self.encoder.layers, head]

    def forward(self, tokens: Tensor, lengths: Tensor, raw: bool = False) -> Tensor:
        """``tokens`` (B, T) int64, ``lengths`` (B,) int64 between 1 and T; returns scores (B, classes).

        What stands in ``tokens`` beyond a row's length has no influence. The softmax of the scores are probabilities;
        for a regression those of a normal distribution around the predicted number. ``raw`` gives that number (B, 1).
        """
        config = self.config
        if config.backwards:
            tokens = reversed_rows(tokens, lengths)
        if self.training and config.word_dropout > 0:
            tokens = drop_words(tokens, config.word_dropout, UNKNOWN_ID)
        words = self.encoder.look_up(tokens)
        steps, states = self.encoder.read(words, lengths=lengths)
        last = torch.cat(states[-1][0].unbind(), dim=-1)
        pooled = self.pooling(steps, last, lengths)
        if config.word_sum:
            pooled = torch.cat([pooled, _sum_of_words(words, lengths)], dim=1)
        pooled = dropout(pooled, config.dropout, self.training)
        if self.inner is not None:
            pooled = dropout(torch.relu(self.inner(pooled)), config.dropout / 2, self.training)
        result = self.output(pooled)
        if raw or not config.regression:
            return result
        return -((result - self.ratings) ** 2)


def _sum_of_words(words: Tensor, lengths: Tensor) -> Tensor:
    padding = (torch.arange(words.shape[1], device=words.device) >= lengths[:, None])[..., None]
    return words.masked_fill(padding, 0).sum(dim=1) / lengths[:, None].to(words.dtype).sqrt()
