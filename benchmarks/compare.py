"""Results files: what became slower or wrong since an old one, beyond the noise.

Ratios are compared, not times: a machine that is slower today slows both sides of a ratio. Two runs of the same build
differ by more than the interval of each says, as memory lies elsewhere in each process. How much is estimated from the
changes themselves: most rows of a change for speed stay what they were. A row counts only if its interval has left the
old one, and its change is outside of three times that spread; with more than one new file, in each of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .results_file import key, rows
from .stats import interval
from .table import aligned

LEAST = 0.03  # changes below this are not spoken of, however narrow the intervals
SPREADS = 3.0
BAD = ("wrong", "failed")


@dataclass(frozen=True)
class Change:
    row: dict
    before: dict
    factor: float  # new ratio / old ratio: below 1 is a regression; not a number where there are no two ratios
    verdict: str  # "slower", "faster", "same", "noisy", "wrong", "right again", "more memory", "less memory"

    @property
    def regression(self) -> bool:
        return self.verdict in ("slower", "wrong", "more memory")


def pairs(old: Iterable[dict], new: Iterable[dict]) -> list[tuple[dict, dict]]:
    before = {key(row): row for row in old}
    return [(before[key(row)], row) for row in new if key(row) in before]


def changes(old: list[dict], new: list[dict]) -> list[Change]:
    both = pairs(old, new)
    least = threshold(_factors(both))
    return [_change(was, row, least) for was, row in both]


def _factors(both: list[tuple[dict, dict]]) -> list[float]:
    """Changes of the ratios that both files know."""
    return [
        row["ratio"] / was["ratio"] for was, row in both if row.get("low") is not None and was.get("low") is not None
    ]


def threshold(factors: list[float]) -> float:
    """The change that counts, as a logarithm. Deviations from the median, so that one common shift is no spread."""
    logs = [math.log(factor) for factor in factors]
    if len(logs) < 8:  # too few to estimate from
        return math.log(1 + LEAST)
    middle = statistics.median(logs)
    spread = 1.4826 * statistics.median(abs(value - middle) for value in logs)  # of a normal distribution
    return max(math.log(1 + LEAST), SPREADS * spread)


def _change(was: dict, row: dict, least: float) -> Change:
    if row["status"] in BAD or was["status"] in BAD:
        both = row["status"] in BAD and was["status"] in BAD
        return Change(row, was, math.nan, "same" if both else "wrong" if row["status"] in BAD else "right again")
    if row["section"] == "memory" and "ours_peak" in row and "ours_peak" in was:
        factor = was["ours_peak"] / max(1, row["ours_peak"])
        verdict = "more memory" if factor < 1 - LEAST else "less memory" if factor > 1 + LEAST else "same"
        return Change(row, was, factor, verdict)
    if "ratio" not in row or "ratio" not in was:
        return Change(row, was, math.nan, "same")
    factor = row["ratio"] / was["ratio"]
    if row.get("low") is None or was.get("low") is None:
        return Change(row, was, factor, "noisy")
    if abs(math.log(factor)) <= math.log(1 + LEAST):
        return Change(row, was, factor, "same")
    apart = row["high"] < was["low"] or row["low"] > was["high"]
    if not apart or abs(math.log(factor)) <= least:
        return Change(row, was, factor, "noisy")
    return Change(row, was, factor, "slower" if factor < 1 else "faster")


def confirmed(files: list[list[Change]]) -> list[Change]:
    """What the first new file says, as far as all others say the same."""
    others = [{key(change.row): change.verdict for change in found} for found in files[1:]]
    kept = []
    for change in files[0]:
        same = all(verdicts.get(key(change.row)) == change.verdict for verdicts in others)
        kept.append(change if same else Change(change.row, change.before, change.factor, "noisy"))
    return kept


def report(old_path: Path, new_paths: list[Path]) -> tuple[str, int]:
    """Text for people, and the exit status: 1 with a regression."""
    old, new = rows(old_path), [rows(path) for path in new_paths]
    found = confirmed([changes(old, each) for each in new])
    lines = []
    machines = list(dict.fromkeys(of[0]["run"]["machine"] for of in (old, *new) if of))
    if len(machines) > 1:
        lines += [f"Different machines: {', '.join(machines)}. Ratios of one say little of the other.", ""]
    shown = [change for change in found if change.verdict not in ("same", "noisy")]
    shown.sort(key=lambda change: (not change.regression, change.factor))
    header = ("", "section", "shape", "mode", "dtype", "threads", "against", "old", "new", "new / old")
    table = [
        [c.verdict, *(str(c.row[k]) for k in ("section", "shape", "mode", "dtype", "threads", "peer")),
         _shown(c.before), _shown(c.row), "" if math.isnan(c.factor) else f"{c.factor:.2f}"]
        for c in shown
    ]  # fmt: skip
    lines += list(aligned(header, table)) if table else ["Nothing changed beyond the noise."]
    factors = _factors(pairs(old, new[0]))
    shifted = _everything(factors)
    if factors:
        common = f"new / old over all rows: median {statistics.median(factors):.3f}"
        lines += ["", f"{common}{shifted}; changes below {math.expm1(threshold(factors)):.0%} are within the spread"]
    noisy, bad = sum(c.verdict == "noisy" for c in found), sum(c.regression for c in found)
    keys, others = {key(row) for row in new[0]}, {key(row) for row in old}
    lines.append(
        f"{len(found)} rows in both, {bad} regressions, {noisy} undecided; "
        f"{len(others - keys)} only in {old_path.name}, {len(keys - others)} only in {new_paths[0].name}"
    )
    if not found:
        lines.append("The files have no measurement in common, so nothing was compared.")
    return "\n".join(lines), 1 if bad or not found or "slower" in shifted else 0


def _everything(factors: list[float]) -> str:
    """Whether the rows as a whole have moved: a common shift hides in no single row's noise."""
    low, high = interval(factors)
    if high < 1 - LEAST:
        return " (everything is slower)"
    return " (everything is faster)" if low > 1 + LEAST else ""


def _shown(row: dict) -> str:
    if "ratio" not in row:
        return row["status"]
    bounds = "" if row.get("low") is None else f" ({row['low']:.2f}..{row['high']:.2f})"
    return f"{row['ratio']:.2f}{bounds}"
