"""Two results files: what became slower or wrong, beyond the noise of both.

Ratios are compared, not times: a machine that is slower today slows both sides of a ratio. Where both runs are of one
machine, times of ours without a rival to speak of (memory) are compared as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .results_file import key, rows
from .table import aligned

LEAST = 0.03  # changes below this are not spoken of, however narrow the intervals


@dataclass(frozen=True)
class Change:
    row: dict
    before: dict
    factor: float  # new ratio / old ratio: below 1 is a regression
    verdict: str  # "slower", "faster", "same", "noisy", "wrong", "right again", "more memory", "less memory"

    @property
    def regression(self) -> bool:
        return self.verdict in ("slower", "wrong", "more memory")


def changes(old: list[dict], new: list[dict]) -> Iterator[Change]:
    before = {key(row): row for row in old}
    for row in new:
        if (was := before.get(key(row))) is not None:
            yield _change(was, row)


def _change(was: dict, row: dict) -> Change:
    bad = ("wrong", "failed")
    if row["status"] in bad or was["status"] in bad:
        both = row["status"] in bad and was["status"] in bad
        verdict = "same" if both else "wrong" if row["status"] in bad else "right again"
        return Change(row, was, float("nan"), verdict)
    if row["section"] == "memory" and "ours_peak" in row and "ours_peak" in was:
        factor = was["ours_peak"] / max(1, row["ours_peak"])
        verdict = "more memory" if factor < 1 - LEAST else "less memory" if factor > 1 + LEAST else "same"
        return Change(row, was, factor, verdict)
    if "ratio" not in row or "ratio" not in was:
        return Change(row, was, float("nan"), "same")
    factor = row["ratio"] / was["ratio"]
    if None in (row.get("low"), was.get("low")):
        return Change(row, was, factor, "noisy" if abs(factor - 1) > LEAST else "same")
    apart = row["high"] < was["low"] or row["low"] > was["high"]
    if abs(factor - 1) <= LEAST:
        verdict = "same"
    elif not apart:
        verdict = "noisy"  # a difference, but not beyond the intervals
    else:
        verdict = "slower" if factor < 1 else "faster"
    return Change(row, was, factor, verdict)


def report(old_path: Path, new_path: Path) -> tuple[str, int]:
    """Text for people, and the exit status: 1 with a regression."""
    old, new = rows(old_path), rows(new_path)
    found = list(changes(old, new))
    lines = []
    machines = [of[0]["run"]["machine"] for of in (old, new) if of]
    if len(set(machines)) > 1:
        lines += [f"Two machines: {' and '.join(machines)}. Ratios of one say little of the other.", ""]
    shown = [change for change in found if change.verdict not in ("same", "noisy")]
    shown.sort(key=lambda change: (not change.regression, change.factor))
    header = ("", "section", "shape", "mode", "dtype", "threads", "against", "old", "new", "new / old")
    table = [
        [c.verdict, *(str(c.row[k]) for k in ("section", "shape", "mode", "dtype", "threads", "peer")),
         _shown(c.before), _shown(c.row), "" if c.factor != c.factor else f"{c.factor:.2f}"]
        for c in shown
    ]  # fmt: skip
    lines += list(aligned(header, table)) if table else ["Nothing changed beyond the noise."]
    keys, others = {key(row) for row in new}, {key(row) for row in old}
    noisy, bad = sum(c.verdict == "noisy" for c in found), sum(c.regression for c in found)
    lines.append("")
    lines.append(
        f"{len(found)} rows in both, {bad} regressions, {noisy} undecided; "
        f"{len(others - keys)} only in {old_path.name}, {len(keys - others)} only in {new_path.name}"
    )
    if not found:
        lines.append("The two files have no measurement in common, so nothing was compared.")
    return "\n".join(lines), 1 if bad or not found else 0


def _shown(row: dict) -> str:
    if "ratio" not in row:
        return row["status"]
    bounds = "" if row.get("low") is None else f" ({row['low']:.2f}..{row['high']:.2f})"
    return f"{row['ratio']:.2f}{bounds}"
