"""README's speed tables, made of the results files that their opening marker names.

    <!-- speed: benchmarks/results/epyc-zen4/full-cpu.jsonl ... -->
    ...
    <!-- /speed -->
"""

from __future__ import annotations

import re
from pathlib import Path

from .results_file import read
from .table import geometric_mean, head, known, markdown

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
MARKED = re.compile(r"(<!-- speed: (\S+(?: \S+)*) -->\n)(.*?)(<!-- /speed -->)", re.DOTALL)
FOOT = (
    "~: the 95 % interval is wider than 3 % either way; ?: others used the cores all the time. Every shape was",
    "compared with float64 first, the heaviest on fewer steps.",
)
SHOWN = ("shapes", "structure", "latency")


class ReadmeProblem(ValueError):
    """Why the table cannot be put in its place."""


def section(paths: list[Path]) -> str:
    """Who measured, then a table for each dtype, of all files together; against torch.nn.LSTM."""
    text, rows = [], []
    for path in paths:
        records = read(path)
        text += [line + "  " for line in list(head(records[0], records))[:2]]
        rows += [r for r in records if r["kind"] == "row" and r["section"] in SHOWN and r["peer"] == "torch"]
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        text += ["", *_table(dtype, [row for row in rows if row["dtype"] == dtype])]
    return "\n".join([*text, "", *FOOT]) + "\n"


def _table(dtype: str, rows: list[dict]) -> list[str]:
    """A row for each shape, a column for each mode and number of threads."""
    threads = sorted({row["threads"] for row in rows})
    columns = [(mode, n) for mode in ("inference", "training") for n in threads]
    shapes: dict[str, dict] = {}
    for row in rows:
        mode = "inference" if row["mode"] == "latency" else row["mode"]
        entry = shapes.setdefault(row["shape"], {"name": row["name"], "mode": row["mode"]})
        entry[mode, row["threads"]] = row
    lines = []
    for spec, entry in shapes.items():
        label = f"{entry['name']} {spec}" if entry["name"] and entry["name"] != "one step" else spec
        label += ", one step" if entry["mode"] == "latency" else ""
        lines.append([label, *(_cell(entry.get(column)) for column in columns)])
    means = ["geometric mean without one step"]
    for mode, n in columns:
        found = [e[mode, n] for e in shapes.values() if (mode, n) in e and e["mode"] != "latency"]
        values = [row["ratio"] for row in found if "ratio" in row and known(row)]
        whole = values and len(values) == len(found)  # a mean of those that happened to be undisturbed says little
        means.append(f"**{geometric_mean(values):.2f}**" if whole else "")
    lines.append(means)
    header = (f"{dtype}: T,B,I,H", *(f"{mode}, {n} thread{'s' * (n > 1)}" for mode, n in columns))
    return list(markdown(header, lines))


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    if "ratio" not in row:
        return row["status"]
    if not known(row):
        return "?"
    return ("~" if row["status"] == "noisy" else "") + f"{row['ratio']:.2f}"


def renewed(text: str, root: Path = ROOT) -> str:
    """README with the table that its marker asks for."""
    found = MARKED.search(text)
    if not found:
        raise ReadmeProblem("README.md has no lines <!-- speed: FILE --> and <!-- /speed --> to put the table between")
    tables = section([root / path for path in found[2].split()])
    return f"{text[: found.start(3)]}\n{tables}\n{text[found.end(3) :]}"


def update(readme: Path = README, check: bool = False) -> int:
    text = readme.read_text()
    new = renewed(text, readme.parent)
    if new == text:
        return 0
    if check:
        print(f"{readme.name} is not in step with its results file: python -m benchmarks readme")
        return 1
    readme.write_text(new)
    return 0
