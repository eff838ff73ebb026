"""Curves of a run and the confusion matrix as PNG files. Needs matplotlib; draws without a display."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .metrics import Evaluation
from .store import write_atomically
from .training import EpochMetrics

CURVES, CONFUSION = "curves.png", "confusion.png"

# Class names may be Chinese; the first installed font that knows them is taken.
_FONTS = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Micro Hei", "SimHei", "PingFang SC"]


class PlotsUnavailable(Exception):
    """matplotlib is not installed; the message says how to get it."""


def draw_plots(folder: Path, history: Sequence[EpochMetrics], evaluation: Evaluation) -> list[Path]:
    """Writes curves.png and confusion.png. Raises `PlotsUnavailable` without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotsUnavailable('plots need matplotlib: pip install "fused_lstm[sentiment]"') from error
    paths = []
    for name, draw, content in ((CURVES, _curves, history), (CONFUSION, _confusion, evaluation)):
        with matplotlib.rc_context({"font.family": _FONTS}), _quiet_about_fonts():
            figure = Figure(figsize=(9, 4) if name == CURVES else (5, 4.5), layout="constrained")
            FigureCanvasAgg(figure)
            draw(figure, content)
            write_atomically(folder / name, lambda path, figure=figure: figure.savefig(path, dpi=120))
        paths.append(folder / name)
    return paths


def _curves(figure: Any, history: Sequence[EpochMetrics]) -> None:
    epochs = [m.epoch for m in history]
    loss, share = figure.subplots(1, 2)
    loss.plot(epochs, [m.train_loss for m in history], marker="o", label="train")
    loss.plot(epochs, [m.dev_loss for m in history], marker="o", label="dev")
    loss.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")
    share.plot(epochs, [m.dev_accuracy for m in history], marker="o", label="accuracy")
    share.plot(epochs, [m.dev_macro_f1 for m in history], marker="o", label="macro F1")
    share.set(title="Dev", xlabel="epoch")
    for axes in (loss, share):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()


def _confusion(figure: Any, evaluation: Evaluation) -> None:
    axes = figure.subplots()
    supports = [max(1, sum(row)) for row in evaluation.confusion]
    shares = [[count / support for count in row] for row, support in zip(evaluation.confusion, supports)]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class")
    places = range(len(evaluation.classes))
    axes.set_xticks(places, evaluation.classes, rotation=30, ha="right")
    axes.set_yticks(places, evaluation.classes)
    axes.set(title=f"Test accuracy {evaluation.accuracy:.2%}", xlabel="predicted", ylabel="true")
    if len(evaluation.classes) <= 12:
        for t in places:
            for p in places:
                colour = "white" if shares[t][p] > 0.5 else "black"
                axes.text(p, t, str(evaluation.confusion[t][p]), ha="center", va="center", color=colour)


@contextmanager
def _quiet_about_fonts() -> Iterator[None]:
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            yield
    finally:
        logger.setLevel(level)
