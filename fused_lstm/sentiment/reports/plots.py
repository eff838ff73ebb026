"""A run as PNG files: curves, confusion matrix, reliability. Needs matplotlib; draws without a display."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import words

CURVES, CONFUSION, RELIABILITY = "curves.png", "confusion.png", "calibration.png"

# Class names may be Chinese; the first installed font that knows them is taken.
_FONTS = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Micro Hei", "SimHei", "PingFang SC"]


class PlotsUnavailable(Exception):
    """matplotlib is not installed; the message says how to get it."""


def draw_plots(history: list[dict[str, Any]], test: dict[str, Any]) -> dict[str, bytes]:
    """PNG files by name, from the values of metrics.json. Raises `PlotsUnavailable` without matplotlib."""
    files = {}
    if history:
        files[CURVES] = draw(lambda figure: _curves(figure, history, "ratings" in test), (9, 4))
    files[CONFUSION] = draw(lambda figure: _confusion(figure, test), (5, 4.5))
    if "ratings" not in test:
        files[RELIABILITY] = draw(lambda figure: _reliability(figure, test), (5, 4.5))
    return files


def draw(fill: Callable[[Any], None], size: tuple[float, float]) -> bytes:
    """One figure as PNG. Raises `PlotsUnavailable` without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotsUnavailable('plots need matplotlib: pip install "fused_lstm[sentiment]"') from error
    with matplotlib.rc_context({"font.family": _FONTS}), _quiet_about_fonts():
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        fill(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        return buffer.getvalue()


def _curves(figure: Any, history: list[dict[str, Any]], rated: bool) -> None:
    epochs = [m["epoch"] for m in history]
    loss, dev = figure.subplots(1, 2)
    for name in history[0]:
        values = [m[name] for m in history]
        if name.endswith("loss"):
            loss.plot(epochs, values, marker="o", label=name.removesuffix("_loss"))
        elif name.startswith("dev_"):
            dev.plot(epochs, values, marker="o", label=name.removeprefix("dev_").replace("_", " "))
    loss.set(title="Loss", xlabel="epoch", ylabel=words.loss_name(rated))
    dev.set(title="Dev, nearest label" if rated else "Dev", xlabel="epoch")
    for axes in (loss, dev):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()


def _confusion(figure: Any, test: dict[str, Any]) -> None:
    names, counts = test["confusion"]["classes"], test["confusion"]["true_by_predicted"]
    axes = figure.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class")
    places = range(len(names))
    axes.set_xticks(places, names, rotation=30, ha="right")
    axes.set_yticks(places, names)
    what = "Nearest label right:" if "ratings" in test else "Test accuracy"
    axes.set(title=f"{what} {test['accuracy']:.2%}", xlabel="predicted", ylabel="true")
    if len(names) <= 12:
        for t in places:
            for p in places:
                colour = "white" if shares[t][p] > 0.5 else "black"
                axes.text(p, t, str(counts[t][p]), ha="center", va="center", color=colour)


def _reliability(figure: Any, test: dict[str, Any]) -> None:
    told = test["calibration"]
    bins = told["bins"]
    axes = figure.subplots()
    axes.bar([b["low"] for b in bins], [b["count"] / test["count"] for b in bins],
             [b["high"] - b["low"] for b in bins], align="edge", color="0.85", label="share of texts")  # fmt: skip
    axes.plot([0, 1], [0, 1], "--", color="0.5", label="probabilities that mean what they say")
    axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], marker="o", label="this LSTM")
    axes.set(title=f"Expected calibration error {told['ece']:.4f}", xlabel="confidence", ylabel="share that was right")
    axes.set_xlim(min((b["low"] for b in bins), default=0), 1)
    axes.legend()


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
