"""The classifier: embedding, LSTM, pooling over the valid steps, linear layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .errors import UserError
from .settings import at_least, rate, setting
from .tokens import PAD_ID, UNKNOWN_ID

POOLINGS = ("max", "mean", "last")
BACKENDS = ("fused", "torch")


class BackendError(UserError):
    """The LSTM that was asked for cannot be used on this machine."""


@dataclass(frozen=True)
class ModelConfig:
    """Model.

    Sizes and rates that, with the weights, define a classifier. ``vocabulary``, which counts the special tokens too,
    and ``classes`` come from the data.
    """

    vocabulary: int = 0
    classes: int = 0
    embedding: int = setting(128, "size of a word vector", at_least(1))
    hidden: int = setting(128, "LSTM units in each direction", at_least(1))
    layers: int = setting(1, "LSTM layers", at_least(1))
    bidirectional: bool = setting(True, "read in both directions")
    pooling: str = setting("max", "what the classifier sees of the LSTM's outputs", choices=POOLINGS)
    dropout: float = setting(0.5, "before the classifier and between layers", rate, metavar="P")
    embedding_dropout: float = setting(0.3, "on word vectors, one mask for a text", rate, metavar="P")
    word_dropout: float = setting(0.1, "words replaced by the unknown word in training", rate, metavar="P")
    forget_bias: float = setting(1.0, "where the forget gate starts")


class SentimentClassifier(nn.Module):
    """Scores for each class from padded token numbers.

    ``backend`` chooses what runs the LSTM, "fused" (`fused_lstm.FusedLSTM`) or "torch" (`torch.nn.LSTM`); parameters
    and their names are the same, so a state_dict of one loads into the other. `BackendError` if "fused" is not there.
    """

    def __init__(self, config: ModelConfig, backend: str = "fused") -> None:
        super().__init__()
        if config.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)} but is {config.pooling!r}")
        self.config = config
        self.backend = backend
        self.embedding = nn.Embedding(config.vocabulary, config.embedding, padding_idx=PAD_ID)
        self.lstm = make_lstm(config, backend)
        directions = 2 if config.bidirectional else 1
        self.output = nn.Linear(config.hidden * directions, config.classes)

    def initialise(self, generator: torch.Generator) -> None:
        """Draws every parameter anew. The same generator state gives the same values with either backend."""
        nn.init.normal_(self.embedding.weight, std=0.3, generator=generator)
        for name, parameter in self.lstm.named_parameters():
            if "weight_hh" in name:
                for gate in parameter.data.chunk(4):
                    nn.init.orthogonal_(gate, generator=generator)
            elif "weight" in name:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)
        nn.init.xavier_uniform_(self.output.weight, generator=generator)
        nn.init.zeros_(self.output.bias)
        with torch.no_grad():
            self.embedding.weight[PAD_ID] = 0
            # A forget gate that starts open lets the first words reach the end of the sentence.
            for name, parameter in self.lstm.named_parameters():
                if "bias_ih" in name:
                    parameter.chunk(4)[1].fill_(self.config.forget_bias)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """``tokens`` (B, T) int64, ``lengths`` (B,) int64 between 1 and T; returns scores (B, classes).

        What stands in ``tokens`` beyond a row's length has no influence.
        """
        if self.training and self.config.word_dropout > 0:
            tokens = drop_words(tokens, self.config.word_dropout)
        embedded = locked_dropout(self.embedding(tokens), self.config.embedding_dropout, self.training)
        steps, last = self._run_lstm(embedded, lengths)
        pooled = pool(steps, last, lengths, self.config.pooling)
        return self.output(dropout(pooled, self.config.dropout, self.training))

    def _run_lstm(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """All steps (B, T, D*H), and the top layer's state at each row's end (B, D*H)."""
        if self.backend == "fused":
            steps, (h_n, _) = self.lstm(embedded, lengths=lengths)
        else:
            packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
            packed_steps, (h_n, _) = self.lstm(packed)
            steps, _ = pad_packed_sequence(packed_steps, batch_first=True, total_length=embedded.shape[1])
        directions = 2 if self.config.bidirectional else 1
        return steps, torch.cat(h_n[-directions:].unbind(), dim=-1)


def make_lstm(config: ModelConfig, backend: str) -> nn.LSTM:
    """The recurrent part. torch applies dropout between layers only, hence none for a single layer."""
    if backend == "fused":
        try:
            from fused_lstm import FusedLSTM as lstm_class
        except (ImportError, OSError, RuntimeError) as error:
            raise BackendError(
                f"fused_lstm.FusedLSTM cannot be used: {error}. Build the extension, or choose --lstm torch."
            ) from error
    elif backend == "torch":
        lstm_class = nn.LSTM
    else:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} but is {backend!r}")
    return lstm_class(
        config.embedding,
        config.hidden,
        num_layers=config.layers,
        batch_first=True,
        dropout=config.dropout if config.layers > 1 else 0.0,
        bidirectional=config.bidirectional,
    )


def drop_words(tokens: Tensor, rate: float) -> Tensor:
    """Replaces words by the unknown one at random, so that the unknown word is met in training. Padding stays."""
    dropped = (torch.rand(tokens.shape, device=tokens.device) < rate) & (tokens != PAD_ID)
    return tokens.masked_fill(dropped, UNKNOWN_ID)


def locked_dropout(embedded: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout with one mask for all steps of a row: (B, T, E) to the same (Gal & Ghahramani 2016)."""
    if not training or rate == 0:
        return embedded
    return embedded * dropout(torch.ones_like(embedded[:, :1]), rate)


def pool(steps: Tensor, last: Tensor, lengths: Tensor, how: str) -> Tensor:
    """One vector per row: ``steps`` (B, T, F), ``last`` (B, F), ``lengths`` (B,) to (B, F), padding left out."""
    if how == "last":
        return last
    padding = (torch.arange(steps.shape[1], device=steps.device) >= lengths[:, None])[..., None]
    if how == "max":
        return steps.masked_fill(padding, float("-inf")).max(dim=1).values
    return steps.masked_fill(padding, 0).sum(dim=1) / lengths[:, None].to(steps.dtype)
