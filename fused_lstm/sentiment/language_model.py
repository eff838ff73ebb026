"""A language model on the classifier's encoder: AWD-LSTM (Merity, Keskar & Socher 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from .encoder import Encoder, EncoderSizes, locked_dropout
from .recurrent import State
from .settings import at_least, nonnegative, rate, setting

SOFTMAXES = ("full", "adaptive")
NO_TARGET = -100
_CHUNK = 4096  # steps whose scores for all words are in memory at once, where no gradient is wanted


@dataclass(frozen=True)
class LanguageModelConfig:
    """Language model.

    The last layer has the size of the word vectors, which are the weights of the output as well.
    """

    vocabulary: int = 0
    embedding: int = setting(400, "size of a word vector, and of the last layer", at_least(1))
    hidden: int = setting(1150, "LSTM units of the layers before", at_least(1))
    layers: int = setting(3, "LSTM layers", at_least(1))
    backwards: bool = setting(False, "predict the word before instead of the next one")
    softmax: str = setting("full", "adaptive: rare words in less time, with weights of its own", choices=SOFTMAXES)
    embedding_dropout: float = setting(0.05, "words of the vocabulary zeroed in a whole batch", rate, metavar="P")
    input_dropout: float = setting(0.25, "on word vectors, one mask for a row", rate, metavar="P")
    layer_dropout: float = setting(0.15, "between layers, one mask for a row", rate, metavar="P")
    weight_dropout: float = setting(0.2, "recurrent weights zeroed (DropConnect)", rate, metavar="P")
    output_dropout: float = setting(0.1, "on the last layer's outputs, one mask for a row", rate, metavar="P")
    ar: float = setting(2.0, "penalty on large outputs", nonnegative)
    tar: float = setting(1.0, "penalty on outputs that change fast", nonnegative)
    forget_bias: float = setting(1.0, "where the forget gate starts")
    recompute: bool = setting(False, "less memory for some more time (fused LSTM)")

    @property
    def encoder(self) -> EncoderSizes:
        return EncoderSizes(
            self.vocabulary,
            self.embedding,
            (*[self.hidden] * (self.layers - 1), self.embedding),
            False,
            self.embedding_dropout,
            self.input_dropout,
            self.layer_dropout,
            self.weight_dropout,
            self.recompute,
        )


class LanguageModel(nn.Module):
    """Predicts each next word; texts are given as streams, or one a row with ``lengths``."""

    def __init__(self, config: LanguageModelConfig, backend: str = "fused") -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder, backend)
        if config.softmax == "adaptive":
            if config.vocabulary < 3:
                raise ValueError(f"an adaptive softmax needs 3 words, but the vocabulary has {config.vocabulary}")
            cutoffs = sorted({max(1, config.vocabulary // 10), max(2, config.vocabulary // 3)})
            narrower = 4.0 if config.embedding >= 64 else 2.0  # each class of rarer words has vectors so much shorter
            self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(config.embedding, config.vocabulary, cutoffs, narrower)
        else:
            self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def initialise(self, generator: torch.Generator) -> None:
        """Draws every parameter anew."""
        self.encoder.initialise(generator, self.config.forget_bias, 0.1)
        if self.config.softmax == "full":
            nn.init.zeros_(self.bias)
            return
        for parameter in self.adaptive.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor,
        states: list[State] | None = None,
        resets: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[State]]:
        """``tokens`` and ``targets`` (B, T); no loss where a target is `NO_TARGET`.

        Returns the sum of the losses, the penalties (AR and TAR, means over steps; 0 outside training), and the states.
        """
        outputs, states = self.encoder(tokens, states, lengths, resets)
        dropped = locked_dropout(outputs, self.config.output_dropout, self.training)
        penalty = outputs.new_zeros(())
        if self.training and self.config.ar:
            penalty = penalty + self.config.ar * _wide(dropped).pow(2).mean()
        if self.training and self.config.tar and outputs.shape[1] > 1:
            penalty = penalty + self.config.tar * _wide(outputs[:, 1:] - outputs[:, :-1]).pow(2).mean()
        wanted = targets != NO_TARGET
        return self._loss(dropped[wanted], targets[wanted]), penalty, states

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        chunk = max(1, len(targets)) if torch.is_grad_enabled() else _CHUNK
        parts = [self._loss_of(o, t) for o, t in zip(outputs.split(chunk), targets.split(chunk)) if len(t)]
        return torch.stack(parts).sum() if parts else outputs.sum() * 0.0

    def _loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.config.softmax == "adaptive":
            return -_wide(self.adaptive(outputs, targets).output).sum()
        scores = linear(outputs, self.encoder.embedding.weight, self.bias)
        return cross_entropy(_wide(scores), targets, reduction="sum")


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
