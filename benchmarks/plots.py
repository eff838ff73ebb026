"""Plots of a results file, as PNG files beside it (``pip install ".[bench]"`` for matplotlib)."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

from . import parts
from .results_file import FileProblem

COLOURS = ("#4878a8", "#e0883c", "#5a9e6f", "#c44e52", "#8172b2", "#937860", "#da8bc3", "#8c8c8c", "#64b5cd", "#ccb974")


# What draw() may write: files of these names are of an earlier file of results.
FILES = ("ratio-*.png", "scaling-*.png", "roofline-*.png", "where-time-goes.png")


class NoMatplotlib(RuntimeError):
    """Says how to get it."""


def pyplot() -> ModuleType:
    try:
        import matplotlib
    except ImportError:
        raise NoMatplotlib('matplotlib is not installed: pip install ".[bench]", or go without: --no-plots') from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw(records: list[dict], folder: Path) -> list[Path]:
    """Every plot that the file has data for, and no older one beside them; returns what was written."""
    plt = pyplot()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileProblem(f"{folder} cannot hold plots: {error.strerror}") from None
    for old in (file for pattern in FILES for file in folder.glob(pattern)):
        old.unlink()
    rows = [record for record in records if record["kind"] == "row"]
    limits = [record for record in records if record["kind"] == "limits"]
    written = []
    for name, figure in {
        **heat_maps(plt, rows),
        **scaling(plt, rows),
        **rooflines(plt, rows, limits),
        **where_time_goes(plt, rows),
    }.items():
        file = folder / f"{name}.png"
        figure.savefig(file, dpi=100, bbox_inches="tight")
        plt.close(figure)
        written.append(file)
    return written


def _times(rows: list[dict], peer: str = "torch") -> list[dict]:
    return [row for row in rows if row["peer"] == peer and "ours_seconds" in row and row["low"] is not None]


def heat_maps(plt, rows: list[dict]) -> dict:
    """Ratio over B x H; one figure per dtype and number of threads, one map per mode."""
    groups: dict[tuple, list[dict]] = {}
    for row in _times(rows):
        if row["section"] == "grid":
            groups.setdefault((row["dtype"], row["threads"]), []).append(row)
    figures = {}
    for (dtype, threads), of_group in groups.items():
        modes = sorted({row["mode"] for row in of_group})
        figure, axes = plt.subplots(1, len(modes), figsize=(4.6 * len(modes), 4), squeeze=False)
        for axis, mode in zip(axes[0], modes):
            _heat_map(axis, [row for row in of_group if row["mode"] == mode], mode)
        figure.suptitle(f"torch.nn.LSTM's time / ours, {dtype}, {threads} thread(s)")
        figures[f"ratio-{dtype}-{threads}"] = figure
    return figures


def _heat_map(axis, rows: list[dict], mode: str) -> None:
    batch, hidden = sorted({row["B"] for row in rows}), sorted({row["H"] for row in rows})
    value = {(row["B"], row["H"]): row for row in rows}
    logs = [[math.log2(value[b, h]["ratio"]) if (b, h) in value else math.nan for h in hidden] for b in batch]
    axis.imshow(logs, cmap="RdBu", vmin=-1.5, vmax=1.5, aspect="auto")  # white: as fast as each other
    for (b, h), row in value.items():
        mark = "~" if row["status"] == "noisy" else ""
        axis.text(hidden.index(h), batch.index(b), f"{mark}{row['ratio']:.2f}", ha="center", va="center")
    axis.set_xticks(range(len(hidden)), hidden)
    axis.set_yticks(range(len(batch)), batch)
    axis.set(xlabel="H (= I)", ylabel="B", title=mode)


PART_COLOURS = dict(zip([*parts.FORWARD, "cell", *parts.BACKWARD, "rest"], COLOURS))
AXES = {"T": "T", "B": "B", "H": "H", "layers": "layers", "threads": "threads"}


def scaling(plt, rows: list[dict]) -> dict:
    """Time against one size; on both axes logarithms, and a line that grows in proportion."""
    figures = {}
    for axis_name, field in AXES.items():
        of_axis = [row for row in _times(rows) if row["section"] == f"scaling {axis_name}"]
        ticks = sorted({row[field] for row in of_axis})
        if len(ticks) < 2:
            continue
        figure, axis = plt.subplots(figsize=(5, 4))
        for mode, colour in zip(("inference", "training"), COLOURS):
            points = sorted((row for row in of_axis if row["mode"] == mode), key=lambda row: row[field])
            if not points:
                continue
            sizes = [row[field] for row in points]
            ours = [row["ours_seconds"] * 1e3 for row in points]
            axis.loglog(sizes, ours, "o-", color=colour, label=f"{mode}, ours")
            axis.loglog(sizes, [row["seconds"] * 1e3 for row in points], "x--", color=colour, label=f"{mode}, nn.LSTM")
            power = {"threads": -1, "H": 2}.get(field, 1)  # I grows with H
            axis.loglog(sizes, [ours[0] * (size / sizes[0]) ** power for size in sizes], ":", color="grey", linewidth=1)
        if field in ("layers", "threads"):
            axis.set_xticks(ticks, ticks)
            axis.set_xticks([], minor=True)
        title = f"time against {axis_name} (dotted: in proportion to the work)"
        axis.set(xlabel=field, ylabel="ms a call", title=title)
        axis.legend(fontsize=8)
        figures[f"scaling-{axis_name}"] = figure
    return figures


def rooflines(plt, rows: list[dict], limits: list[dict]) -> dict:
    figures = {}
    for limit in limits:
        dtype, threads = limit["dtype"], limit["threads"]
        points = [row for row in _times(rows) if (row["dtype"], row["threads"]) == (dtype, threads)]
        peak = limit["fma_gflops"].get(dtype) or limit["gemm_gflops"].get(dtype)
        if not points or not peak:
            continue
        figure, axis = plt.subplots(figsize=(6, 4))
        lowest = min(row["intensity"] for row in points) / 2
        ridge, highest = peak / limit["memory_gb_per_s"], 2 * max(row["intensity"] for row in points)
        xs = sorted({lowest, max(lowest, ridge), max(highest, 2 * ridge)})
        roof = [min(peak, x * limit["memory_gb_per_s"]) for x in xs]
        axis.loglog(xs, roof, color="black", label="multiply-adds, memory")
        gemm = limit["gemm_gflops"].get(dtype)
        if gemm:
            axis.axhline(gemm, color="grey", linestyle=":", label="torch.mm")
        for mode, colour in zip(("inference", "training", "latency"), COLOURS):
            of_mode = [row for row in points if row["mode"] == mode]
            if not of_mode:
                continue
            at = [row["intensity"] for row in of_mode]
            axis.scatter(at, [row["gflops"] for row in of_mode], color=colour, s=18, label=f"{mode}, ours")
            theirs = [row["gflops"] * row["ours_seconds"] / row["seconds"] for row in of_mode]
            axis.scatter(at, theirs, facecolors="none", edgecolors=colour, s=18, label=f"{mode}, nn.LSTM")
        axis.set(xlabel="FLOP a byte that has to be moved", ylabel="GFLOP/s", title=f"{dtype}, {threads} thread(s)")
        axis.legend(fontsize=7)
        figures[f"roofline-{dtype}-{threads}"] = figure
    return figures


def where_time_goes(plt, rows: list[dict]) -> dict:
    of_parts = [row for row in rows if "parts" in row]
    if not of_parts:
        return {}
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.6 * len(of_parts) + 2.4), sharey=True)
    for axis, mode in zip(axes, ("inference", "training")):
        left = [0.0] * len(of_parts)
        stacks = [parts.stack(row, mode) for row in of_parts]
        for name in stacks[0]:
            colour = PART_COLOURS[name]
            # a negative rest has no width: the parts then pass 100 %
            share = [max(0.0, 100 * stack[name] / row["whole"][mode]) for stack, row in zip(stacks, of_parts)]
            axis.barh(range(len(of_parts)), share, left=left, color=colour, label=name)
            left = [a + b for a, b in zip(left, share)]
        axis.set_yticks(range(len(of_parts)), [f"{row['shape']}" for row in of_parts])
        axis.axvline(100, color="black", linewidth=0.8)
        axis.set(xlabel="% of a call", title=mode)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncol=3)
    return {"where-time-goes": figure}
