"""A stored model as ONNX and torch.export programs with any batch and time, compared with the original before use."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .errors import UserError
from .model import SentimentClassifier

# Rows and steps of the texts on which original and export must agree; a batch or a time of one is where exports break.
SHAPES = ((3, 7), (1, 1), (1, 12), (4, 1), (9, 40))
TOLERANCE = 1e-5

Run = Callable[[Tensor, Tensor], Tensor]


class ExportError(UserError):
    """The model cannot be exported here, or its export does not compute the same."""


@dataclass(frozen=True)
class Exported:
    """A program as bytes. ``deviation`` is the largest one from the original; None: not checked, for ``reason``."""

    content: bytes
    deviation: float | None
    reason: str = ""


class Answers(nn.Module):
    """What is exported: tokens (B, T) and lengths (B,) to probabilities (B, classes), or to ratings (B,)."""

    def __init__(self, network: SentimentClassifier) -> None:
        super().__init__()
        self.network = network

    @property
    def output(self) -> str:
        """The name of the result."""
        return "ratings" if getattr(self.network.config, "regression", False) else "probabilities"

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        if self.output == "ratings":
            return self.network(tokens, lengths, raw=True)[:, 0]
        return torch.softmax(self.network(tokens, lengths), dim=1)


def export_torch(network: SentimentClassifier) -> Exported:
    """A .pt2 file; whoever loads it needs ``import fused_lstm`` for the operator in it."""
    answers = Answers(network).eval()
    with _quiet(), torch.no_grad():
        program = torch.export.export(answers, _example(network, *SHAPES[0]), dynamic_shapes=_dynamic())
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        buffer.seek(0)
        loaded = torch.export.load(buffer).module()
        return Exported(buffer.getvalue(), _check("torch.export", answers, loaded))


def export_onnx(network: SentimentClassifier, labels: tuple[str, ...]) -> Exported:
    """An ONNX file of standard nodes, with the labels in its metadata. Raises `ExportError` without onnx."""
    try:
        import onnx  # noqa: F401

        from .. import onnx as translation

        table = translation.translation_table()
    except ImportError as error:
        raise ExportError(
            'export to ONNX needs onnx and onnxscript: pip install "fused_lstm[onnx]", or choose --programs torch'
        ) from error
    answers = Answers(network).eval()
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            answers,
            _example(network, *SHAPES[0]),
            dynamo=True,
            custom_translation_table=table,
            dynamic_shapes=_dynamic(),
            input_names=["tokens", "lengths"],
            output_names=[answers.output],
            verbose=False,
        )
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "labels", json.dumps(labels, ensure_ascii=False)
    content = model.SerializeToString()
    try:
        import onnxruntime
    except ImportError:
        return Exported(content, None, "onnxruntime is not installed")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(tokens: Tensor, lengths: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"tokens": tokens.numpy(), "lengths": lengths.numpy()})[0])

    return Exported(content, _check("ONNX", answers, run))


def _example(network: SentimentClassifier, rows: int, steps: int) -> tuple[Tensor, Tensor]:
    """Any tokens, lengths from 1 to ``steps``; every row but the first may be shorter."""
    generator = torch.Generator().manual_seed(rows * 1000 + steps)
    tokens = torch.randint(1, network.config.vocabulary, (rows, steps), generator=generator)
    lengths = torch.randint(1, steps + 1, (rows,), generator=generator)
    lengths[0] = steps
    return tokens, lengths


def _dynamic() -> dict[str, Any]:
    rows, steps = torch.export.Dim("rows", min=1, max=1 << 16), torch.export.Dim("steps", min=1, max=1 << 20)
    return {"tokens": {0: rows, 1: steps}, "lengths": {0: rows}}


def _check(name: str, answers: Answers, run: Run) -> float:
    """The largest deviation from the original. Raises `ExportError` if it is not small."""
    worst = 0.0
    for rows, steps in SHAPES:
        example = _example(answers.network, rows, steps)
        expected, found = answers(*example), run(*example)
        deviation = (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")
        if not deviation <= TOLERANCE * max(1.0, expected.abs().max().item()):
            raise ExportError(
                f"the {name} program gives other results than the model ({deviation:.2g} away for {rows} texts of "
                f"{steps} tokens); nothing was written"
            )
        worst = max(worst, deviation)
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn about what nobody who exports can change."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
