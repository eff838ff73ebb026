"""Results files: what became slower or wrong since an old one, beyond the noise.

Ratios are compared, not times: a machine that is slower today slows both sides of a ratio. Two runs of the same build
differ by more than the interval of each says, as memory lies elsewhere in each process. How much is estimated from the
changes themselves: most rows of a change for speed stay what they were. A row counts only if its interval has left the
old one, and its change is outside of three times that spread; with more than one new file, in each of them.

A result of ours that is wrong or failed counts by itself: such a group has no rows of peers to be compared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from .results_file import BAD, key, ours_is_bad, rows
from .stats import interval
from .table import aligned, number

LEAST = 0.03  # changes below this are not spoken of, however narrow the intervals
SPREADS = 3.0
LEAST_PEAK = 1 << 20  # bytes; below it a peak is the allocator's, not the layer's
LEAST_WHOLE = 0.3  # of a call's time beside its parts: two runs of one build differ by up to 26 %


@dataclass(frozen=True)
class Change:
    row: dict
    before: dict | None  # None: the old file has no such row
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
    least, pace, known = threshold(_factors(both)), _pace(both), {key(row) for row in old}
    found = [_change(was, row, least, pace) for was, row in both]
    return found + [
        Change(row, None, math.nan, "wrong") for row in new if ours_is_bad(row) and key(row) not in known
    ]


def _pace(both: list[tuple[dict, dict]]) -> float:
    """How much longer torch.nn.LSTM took on one thread: what of a change in time is the machine's."""
    times = [
        row["seconds"] / was["seconds"]
        for was, row in both
        if row["peer"] == "torch" and row["threads"] == 1 and "seconds" in row and "seconds" in was
    ]
    return statistics.median(times) if times else 1.0


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


def _change(was: dict, row: dict, least: float, pace: float) -> Change:
    if row["status"] in BAD or was["status"] in BAD:
        both = row["status"] in BAD and was["status"] in BAD
        return Change(row, was, math.nan, "same" if both else "wrong" if row["status"] in BAD else "right again")
    if row["section"] == "memory" and "ours_peak" in row and "ours_peak" in was:
        factor = max(LEAST_PEAK, was["ours_peak"]) / max(LEAST_PEAK, row["ours_peak"])
        verdict = "more memory" if factor < 1 - LEAST else "less memory" if factor > 1 + LEAST else "same"
        return Change(row, was, factor, verdict)
    if "whole" in row and "whole" in was:
        return _whole(was, row, pace)
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


def _whole(was: dict, row: dict, pace: float) -> Change:
    """Calls beside their parts, which no rival ran against: their time, less what the machine's pace explains."""
    factors = [pace * was["whole"][mode] / row["whole"][mode] for mode in row["whole"]]
    if min(factors) < 1 / (1 + LEAST_WHOLE):
        return Change(row, was, min(factors), "slower")
    return Change(row, was, max(factors), "faster" if max(factors) > 1 + LEAST_WHOLE else "same")


def confirmed(files: list[list[Change]]) -> list[Change]:
    """What the first new file says, as far as all others say the same. That ours is wrong is no noise: once will do."""
    others = [{key(change.row): change.verdict for change in found} for found in files[1:]]
    kept = {key(change.row): change for found in files for change in found if _ours_went_bad(change)}
    for change in files[0]:
        same = all(verdicts.get(key(change.row)) == change.verdict for verdicts in others)
        kept.setdefault(key(change.row), change if same else replace(change, verdict="noisy"))
    return list(kept.values())


def _ours_went_bad(change: Change) -> bool:
    return change.verdict == "wrong" and ours_is_bad(change.row)


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
         _shown(c.before) if c.before else "", _shown(c.row), "" if math.isnan(c.factor) else f"{c.factor:.2f}"]
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
        f"{sum(c.before is not None for c in found)} rows in both, {bad} regressions, {noisy} undecided; "
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
    if "whole" in row:
        return ", ".join(number(seconds * 1e3) for seconds in row["whole"].values()) + " ms"
    if "ratio" not in row:
        return row["status"]
    bounds = "" if row.get("low") is None else f" ({row['low']:.2f}..{row['high']:.2f})"
    return f"{row['ratio']:.2f}{bounds}"
