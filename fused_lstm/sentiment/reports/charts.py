"""Charts as SVG text for an HTML page: they take their colours from the page, light or dark, and need nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
Interval = tuple[str, float, float, float]  # label, value, low, high

# Units are pixels on a phone 360 wide; wider screens scale the whole.
_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 18, 12, 40
_ROW = 34


def line_chart(
    name: str, series: Mapping[str, Points], x_label: str, y_label: str, percent: bool = False
) -> str:
    """One line for each entry of ``series``. ``percent``: y holds shares. Empty text if there are no points."""
    points = [point for line in series.values() for point in line if math.isfinite(point[1])]
    if not points:
        return ""
    axes = _Axes(_range([x for x, _ in points], 0), _range([y for _, y in points], 0.06))
    parts = [axes.frame(x_label, y_label, percent, whole_x=True)]
    for index, (label, line) in enumerate(series.items()):
        finite = [axes.place(x, y) for x, y in line if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in finite)
        parts.append(f'<polyline class="line s{index % 6}" points="{path}"/>')
        for (x, y), value in zip(finite, [p for p in line if math.isfinite(p[1])]):
            told = f"{label}, {x_label} {value[0]:g}: {_number(value[1], percent)}"
            parts.append(_dot(x, y, index % 6, told))
    return _figure(name, _WIDTH, _HEIGHT, parts) + _legend(list(series))


def reliability_chart(name: str, bins: Sequence[Mapping[str, float]], classes: int) -> str:
    """Accuracy against confidence; on the diagonal, probabilities mean what they say. Bars show how many texts."""
    low = min([1 / classes, *(b["low"] for b in bins)])
    axes = _Axes((low, 1.0), (0.0, 1.0))
    most = max((b["count"] for b in bins), default=1)
    parts = [axes.frame("confidence", "share that was right", True)]
    (x0, y0), (x1, y1) = axes.place(low, low), axes.place(1, 1)
    for b in bins:
        left, base = axes.place(b["low"], 0)
        right, _ = axes.place(b["high"], 0)
        height = 40 * b["count"] / most
        parts.append(
            f'<rect class="count" x="{left + 1:.1f}" y="{base - height:.1f}" width="{max(1.0, right - left - 2):.1f}" '
            f'height="{height:.1f}"/>'
        )
    parts.append(f'<line class="ideal" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')
    places = [axes.place(b["confidence"], b["accuracy"]) for b in bins]
    parts.append(f'<polyline class="line s0" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
    for b, (x, y) in zip(bins, places):
        told = f"{b['count']:,} texts, confidence {b['confidence']:.1%}, right {b['accuracy']:.1%}"
        parts.append(_dot(x, y, 0, told))
    return _figure(name, _WIDTH, _HEIGHT, parts)


def interval_chart(
    name: str, rows: Sequence[Interval], x_label: str, percent: bool = True, one_colour: bool = False
) -> str:
    """A dot with its 95 % interval for each row."""
    if not rows:
        return ""
    height = _ROW * len(rows) + _BOTTOM + 4
    ends = [end for _, value, low, high in rows for end in (value, low, high)]
    axes = _Axes(_range(ends, 0.04), (0, 1), left=12, top=4, height=height)
    parts = [axes.frame(x_label, "", percent, percent_x=percent, y_ticks=False)]
    for index, (label, value, low, high) in enumerate(rows):
        y = 4 + _ROW * index + 24
        (x0, _), (x, _), (x1, _) = (axes.place(v, 0) for v in (low, value, high))
        shade = 0 if one_colour else index % 6
        told = f"{label}: {_number(value, percent)} ({_number(low, percent)} to {_number(high, percent)})"
        parts.append(
            f'<text class="label" x="16" y="{y - 9}">{escape(_shortened(label))}</text>'
            f'<line class="bar s{shade}" x1="{x0:.1f}" y1="{y}" x2="{x1:.1f}" y2="{y}"/>'
            f"{_dot(x, y, shade, told)}"
        )
    return _figure(name, _WIDTH, height, parts)


class _Axes:
    """Values to places within the frame."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        left: int = _LEFT,
        top: int = _TOP,
        height: int = _HEIGHT,
    ) -> None:
        self.x, self.y, self.left, self.top = x, y, left, top
        self.right, self.bottom = _WIDTH - _RIGHT, height - _BOTTOM

    def place(self, x: float, y: float) -> tuple[float, float]:
        return (
            self.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left),
            self.bottom - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top),
        )

    def frame(
        self,
        x_label: str,
        y_label: str,
        percent: bool,
        whole_x: bool = False,
        percent_x: bool | None = None,
        y_ticks: bool = True,
    ) -> str:
        """Grid, ticks and labels."""
        parts = []
        for tick in _ticks(*self.x, whole_x):
            x, _ = self.place(tick, self.y[0])
            text = _number(tick, not whole_x if percent_x is None else percent_x, short=True)
            parts.append(f'<line class="grid" x1="{x:.1f}" y1="{self.top}" x2="{x:.1f}" y2="{self.bottom}"/>')
            parts.append(f'<text class="tick" x="{x:.1f}" y="{self.bottom + 14}" text-anchor="middle">{text}</text>')
        for tick in _ticks(*self.y) if y_ticks else []:
            _, y = self.place(self.x[0], tick)
            parts.append(f'<line class="grid" x1="{self.left}" y1="{y:.1f}" x2="{self.right}" y2="{y:.1f}"/>')
            text = _number(tick, percent, short=True)
            parts.append(f'<text class="tick" x="{self.left - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        middle = (self.left + self.right) / 2
        below = self.bottom + 32
        parts.append(f'<text class="tick" x="{middle}" y="{below}" text-anchor="middle">{escape(x_label)}</text>')
        if y_label:
            height = (self.top + self.bottom) / 2
            turn = f'transform="rotate(-90 10 {height})" text-anchor="middle"'
            parts.append(f'<text class="tick" x="10" y="{height}" {turn}>{escape(y_label)}</text>')
        return "".join(parts)


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    spare = (high - low) * margin or (0.5 if high == low else 0.0)
    return low - spare, high + spare


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """About five round numbers within the range."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        step = max(1, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float, percent: bool, short: bool = False) -> str:
    if percent:
        return f"{100 * value:.4g} %" if short else f"{value:.2%}"
    return f"{value:.4g}"


def _shortened(label: str) -> str:
    return label if len(label) <= 56 else label[:55] + "…"


def _figure(name: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">'
        f"<title>{escape(name)}</title>{''.join(parts)}</svg>"
    )


def _dot(x: float, y: float, shade: int, told: str) -> str:
    """A point that says its values when pointed at."""
    return f'<circle class="s{shade}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(told)}</title></circle>'


def _legend(labels: Sequence[str]) -> str:
    entries = "".join(
        f'<li><span class="key s{index % 6}"></span>{escape(label)}</li>' for index, label in enumerate(labels)
    )
    return f'<ul class="legend">{entries}</ul>'
