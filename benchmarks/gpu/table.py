"""What was found, for people: table.md and the summary at the end of the output."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from .plan import DTYPES, FAMILIES, GOALS, MODES, STRUCTURES, Goal, grid

KINDS = ("eager", "graph")


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def rows_of(state: dict, section: str) -> list[dict]:
    return state["sections"].get(section, {}).get("rows", [])


def measured(state: dict) -> list[dict]:
    return [row for row in rows_of(state, "grid") if "training" in row]


def ratio(row: dict, mode: str, kind: str) -> float | None:
    """Time of nn.LSTM divided by ours; None where one of the two has no such time."""
    times = row[mode].get(kind)
    return times.get("ratio") if isinstance(times, dict) else None


def place(row: dict) -> tuple:
    return row["dtype"], row["structure"], row["H"], row["B"], row["T"]


def best(rows: list[dict], mode: str, kind: str) -> dict[tuple, float]:
    """For each row of the grid the ratio of the family that did best."""
    found: dict[tuple, float] = {}
    for row in rows:
        value = ratio(row, mode, kind)
        if value is not None:
            found[place(row)] = max(value, found.get(place(row), 0.0))
    return found


# ---- goals


def concerned(goal: Goal, rows: Iterable[dict]) -> list[dict]:
    return [
        row for row in rows
        if row["dtype"] in goal.dtypes and row["structure"] in goal.structures and row["H"] <= goal.largest_H
    ]  # fmt: skip


def reached(goal: Goal, state: dict, kind: str) -> tuple[float | None, str]:
    """The number that the goal speaks of, and over how many of the values it concerns it was taken."""
    rows = concerned(goal, measured(state))
    values = [value for mode in goal.modes for value in best(rows, mode, kind).values()]
    if not values:
        return None, "not measured"
    everything = concerned(goal, (part.described() for part in grid(state["device"] == "cpu")))
    total = len({place(row) for row in everything}) * len(goal.modes)
    number = min(values) if goal.of == "worst" else geometric_mean(values)
    return number, f"{number:.2f} over {len(values)} of {total}"


def goal_lines(state: dict) -> Iterator[str]:
    yield "| goal: nn.LSTM's time / ours | eager | CUDA graphs |"
    yield "|---|---|---|"
    for goal in GOALS:
        cells = []
        for kind in KINDS:
            number, found = reached(goal, state, kind)
            judged = number is not None and state["device"] == "cuda"
            cells.append(found + (": met" if number >= goal.least else ": NOT met") if judged else found)
        what = "worst row" if goal.of == "worst" else "geometric mean"
        yield f"| {goal.text}: {what} >= {goal.least:g} | {cells[0]} | {cells[1]} |"


# ---- tables


def mean_lines(rows: list[dict]) -> Iterator[str]:
    columns = [f"{family}, {kind}" for family in FAMILIES for kind in KINDS]
    yield f"| dtype | mode | {' | '.join(columns)} | best, eager |"
    yield "|---" * (3 + len(columns)) + "|"
    for dtype in DTYPES:
        for mode in MODES:
            of_dtype = [row for row in rows if row["dtype"] == dtype]
            cells = []
            for family in FAMILIES:
                for kind in KINDS:
                    cells.append(_mean(best([r for r in of_dtype if r["family"] == family], mode, kind).values()))
            cells.append(_mean(best(of_dtype, mode, "eager").values()))
            yield f"| {dtype} | {mode} | " + " | ".join(cells) + " |"


def _mean(values: Iterable[float]) -> str:
    values = list(values)
    return f"{geometric_mean(values):.2f} ({len(values)})" if values else "–"


def _times(row: dict, mode: str) -> list[str]:
    eager, graph, T = row[mode]["eager"], row[mode].get("graph"), row["T"]
    cells = [f"{eager['torch_us'] / T:.2f}", f"{eager['ours_us'] / T:.2f}", f"{eager['ratio']:.2f}"]
    if not isinstance(graph, dict):
        return [*cells, "–", "–"]
    return [*cells, f"{graph['ours_us'] / T:.2f}", f"{graph['ratio']:.2f}" if "ratio" in graph else "–"]


def grid_lines(rows: list[dict]) -> Iterator[str]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["dtype"], row["structure"]].append(row)
    columns = "nn.LSTM | ours | ratio | graph, ours | graph, ratio"
    for dtype in DTYPES:
        for structure in STRUCTURES:
            if not groups[dtype, structure]:
                continue
            yield f"\n### {dtype}, {structure}\n"
            yield f"| H | B | family | forward: {columns} | forward + backward: {columns} | error (nn.LSTM's) |"
            yield "|---" * 14 + "|"
            for row in sorted(groups[dtype, structure], key=lambda r: (r["H"], r["B"], FAMILIES.index(r["family"]))):
                cells = [row["H"], row["B"], row["family"], *_times(row, "inference"), *_times(row, "training")]
                yield f"| {' | '.join(map(str, cells))} | {row['error']:.1e} ({row['torch_error']:.1e}) |"


def problems(state: dict) -> Iterator[str]:
    """Everything that is wrong or could not be found out."""
    for name, section in state["sections"].items():
        if section["status"] == "failed":
            yield f"{name}: {section.get('note', 'failed')}"
        for row in section["rows"]:
            if row.get("status") == "failed":
                yield f"{name}: {row['key']}: {row['error'].splitlines()[0] if row['error'] else 'failed'}"
            elif row.get("right") is False:
                what = [f"{key} {row[key]}" for key in ("error", "errors", "counts") if key in row]
                yield f"{name}: {row['key']}: WRONG {', '.join(what)}"
            elif row.get("same_bits") is False:
                yield f"{name}: {row['key']}: two runs differ"


def left_over(state: dict) -> Iterator[str]:
    for name, section in state["sections"].items():
        if section["status"] == "not run":
            yield f"{name}: {section.get('note', 'not asked for')}"
        elif section.get("left"):
            yield f"{name}: {len(section['left'])} parts, from {section['left'][0]}"


def section_lines(state: dict) -> Iterator[str]:
    yield "| section | status | seconds | rows | right | wrong or failed | note |"
    yield "|---|---|---|---|---|---|---|"
    for name, section in state["sections"].items():
        rows = section["rows"]
        bad = sum(row.get("status") == "failed" or row.get("right") is False for row in rows)
        right = sum(row.get("right") is True for row in rows)
        note = section.get("note", "").replace("\n", " ").replace("|", "/")[:200]
        yield f"| {name} | {section['status']} | {section.get('seconds', 0)} | {len(rows)} | {right} | {bad} | {note} |"


def machine_line(state: dict) -> str:
    identity = state.get("identity")
    if state["device"] == "cpu":
        return "REHEARSAL ON THE CPU: no GPU was used, the times say nothing."
    if not identity:
        return f"No library was found that serves CUDA tensors here, {state['started']}"
    library = f"fused_lstm {identity['version']} ({identity['commit']})"
    return f"{identity['device']}, torch {identity['torch']}, {library}, {state['started']}"


def served_lines(state: dict) -> Iterator[str]:
    """How often each family did what it was asked to do."""
    for section in ("families", "graphs", "grid"):
        for family in FAMILIES:
            rows = [row for row in rows_of(state, section) if row["family"] == family and "served" in row]
            own = sum(family in row["served"].split("/") for row in rows)
            if rows:
                yield f"* {section}: {family} served {own} of {len(rows)} calls itself"


def profile_lines(state: dict) -> Iterator[str]:
    for row in rows_of(state, "profile"):
        for which in ("torch", "fused"):
            if row.get(which):
                yield f"\n{row['key']}, {'nn.LSTM' if which == 'torch' else 'ours'}, one training step\n"
                yield "| kernel | calls | µs |\n|---|---|---|"
                yield from (f"| {e['kernel'].replace('|', '/')} | {e['calls']} | {e['us']:.0f} |" for e in row[which])


def listed(lines: Iterable[str], most: int = 40) -> list[str]:
    lines = list(lines)
    return [f"* {line}" for line in lines[:most]] + ([f"* and {len(lines) - most} more"] if len(lines) > most else [])


def document(state: dict) -> str:
    rows = measured(state)
    parts: list[tuple[str, Callable[[], Iterable[str]]]] = [
        ("Goals", lambda: goal_lines(state)),
        ("Sections", lambda: section_lines(state)),
        ("Who served", lambda: served_lines(state)),
        ("Wrong or failed", lambda: listed(problems(state)) or ["nothing"]),
        ("Not measured", lambda: listed(left_over(state)) or ["nothing"]),
        ("Geometric means of nn.LSTM's time / ours (values)", lambda: mean_lines(rows)),
        ("The grid, µs per step", lambda: grid_lines(rows)),
        ("Where time goes", lambda: profile_lines(state)),
    ]
    lines = ["# fused_lstm on a GPU", "", machine_line(state), ""]
    lines += LEGEND
    for title, of in parts:
        lines += ["", f"## {title}", "", *of()]
    return "\n".join(lines) + "\n"


LEGEND = (
    "A ratio is the median over pairs timed in turn with the second-level cache emptied; above 1 FusedLSTM is faster.",
    "For the goals, the fastest family of a row counts. Rows of a family that handed the problem to another are not",
    "shown. nn.LSTM gets packed input where we get lengths; packing itself is not timed. tf32 and fp32 are float32",
    "tensors, products in TF32 or not.",
)


def summary(state: dict) -> str:
    lines = ["", "=" * 100, machine_line(state)]
    for name, section in state["sections"].items():
        bad = sum(row.get("status") == "failed" or row.get("right") is False for row in section["rows"])
        lines.append(f"{name:12} {section['status']:9} {len(section['rows']):5} rows, {bad} wrong or failed")
    rows = measured(state)
    for goal in GOALS:
        lines.append(f"goal {goal.text:20} {goal.of:5} >= {goal.least:g}: {reached(goal, state, 'eager')[1]}")
    if rows:
        slowest = min(rows, key=lambda row: row["training"]["eager"]["ratio"])
        lines.append(f"worst ratio in training: {ratio(slowest, 'training', 'eager'):.2f}, {slowest['key']}")
    lines += [f"WRONG OR FAILED {line}"[:200] for line in list(problems(state))[:12]]
    lines += [f"not measured    {line}"[:200] for line in left_over(state)]
    return "\n".join(lines)
