"""Adversarial training on word vectors (Miyato, Dai & Goodfellow 2017): a step also learns from the texts of its batch
with their vectors moved to where the loss grows fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .tokens import PAD_ID


class Adversary:
    """Moves the vectors of a text by ``size``, over all words together; the unit is the root mean square of the numbers
    in them, so that they cannot outgrow it.
    """

    def __init__(self, embedding: nn.Embedding, size: float) -> None:
        self.embedding, self.size = embedding, size
        self._tokens: Tensor
        self._seen: Tensor
        self._random: dict[torch.device, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The one forward pass within is the one to attack, once its loss was taken backward."""
        self._random = _random_state(self.embedding.weight.device)
        with self._hooked(self._watch):
            yield

    @contextmanager
    def attacking(self) -> Iterator[None]:
        """The same forward pass, masks of dropout included, with vectors moved; random numbers go on from its end."""
        for device, state in self._random.items():
            _set_random_state(device, state)
        with self._hooked(self._move):
            yield

    @contextmanager
    def _hooked(self, hook) -> Iterator[None]:
        handle = self.embedding.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _watch(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        self._tokens = inputs[0]
        self._seen = output if output.requires_grad else output.detach().requires_grad_(True)  # frozen vectors
        self._seen.retain_grad()
        return self._seen

    def _move(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        gradient, seen = self._seen.grad, self._seen.detach()
        numbers = (self._tokens != PAD_ID).sum(dim=1) * seen.shape[-1]
        unit = seen.flatten(1).norm(dim=1) / numbers.sqrt()
        slope = gradient.flatten(1).norm(dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
        return output + gradient * (self.size * unit / slope)[:, None, None]


def _random_state(device: torch.device) -> dict[torch.device, Tensor]:
    states = {torch.device("cpu"): torch.get_rng_state()}
    if device.type == "cuda":
        states[device] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(device: torch.device, state: Tensor) -> None:
    torch.set_rng_state(state) if device.type == "cpu" else torch.cuda.set_rng_state(state, device)
