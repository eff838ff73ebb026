"""Tables that a person reads, made of a results file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import parts
from .peers import OUR_WAYS
from .stats import geometric_mean

COLUMNS = (
    "shape", "mode", "dtype", "threads", "against", "ratio", "95 % interval", "µs a step", "theirs", "% peak", "% mm",
    "% memory", "",
)  # fmt: skip
LEGEND = (
    "ratio: their time / ours, median over rounds timed in turn; above 1 FusedLSTM is faster. Its interval is by",
    "order statistics; a row whose interval is wider than 3 % either way is marked noisy and proves nothing finer.",
    "% peak: of the multiply-adds measured on this machine (CUDA: of torch's matrix product); % mm: of torch.mm;",
    "% memory: the least traffic that the layer can do with, of the measured bandwidth, above 100 where caches hold",
    "the weights between calls. Everybody was compared with float64 first; who is wrong is not timed. machine busy:",
    "others held the cores in so many rounds that the number in brackets means nothing; such rows are in no mean.",
    "not compiled: torch.compile made nothing of it.",
)


def number(value: float) -> str:
    """Three digits, and all of a whole number."""
    return f"{value:.0f}" if value >= 999.5 else f"{value:.3g}"


def ratio_of(row: dict) -> str:
    if "ratio" not in row:
        return row["status"]
    return f"{row['ratio']:.2f}" if known(row) else f"({row['ratio']:.2f})"


def known(row: dict) -> bool:
    """Whether enough rounds were undisturbed for the ratio to mean anything."""
    return row.get("low") is not None or row["section"] == "memory"


def interval_of(row: dict) -> str:
    if row.get("low") is None:
        return "" if row.get("status") != "noisy" else "unknown"
    return f"{row['low']:.2f}..{row['high']:.2f}"


def note_of(row: dict) -> str:
    notes = []
    if row.get("status") == "noisy":
        notes.append("noisy" + (", machine busy" if row.get("low") is None and row.get("disturbed") else ""))
    if row.get("status") not in ("ok", "noisy"):
        notes.append(row.get("note", ""))
    if row["peer"].removesuffix("+graph").endswith("-compile") and "ratio" in row:
        if not row.get("graphs"):
            notes.append("not compiled" if "graphs" in row else "perhaps not compiled")  # older files counted nothing
    if row.get("checked_steps", row["T"]) < row["T"]:
        notes.append(f"checked at T {row['checked_steps']}")
    return ", ".join(notes)


def cells(row: dict) -> list[str]:
    label = f"{row['name']} {row['shape']}" if row.get("name") else row["shape"]
    start = [label, row["mode"], row["dtype"], str(row["threads"]), row["peer"] or "–"]
    if "ours_seconds" not in row:
        return [*start, ratio_of(row), interval_of(row), "", "", "", "", "", note_of(row)]
    step = 1e6 / row["T"]
    of_mm = f"{100 * row['gemm_share']:.0f}" if "gemm_share" in row else ""
    return [
        *start, ratio_of(row), interval_of(row), number(row["ours_seconds"] * step), number(row["seconds"] * step),
        f"{100 * row['peak_share']:.0f}", of_mm, f"{100 * row['memory_share']:.0f}", note_of(row),
    ]  # fmt: skip


def markdown(header: Iterable[str], lines: Iterable[list[str]]) -> Iterator[str]:
    header = list(header)
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for line in lines:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in line)} |"


def aligned(header: Iterable[str], lines: Iterable[list[str]]) -> Iterator[str]:
    lines = [list(header), *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()


def sections(rows: list[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row["section"], []).append(row)
    return found


def told(row: dict) -> bool:
    """Refusals are what a peer says of itself, not news; who is missing gets a list. Both stay in the file."""
    return row["status"] not in ("refused", "missing")


def document(records: list[dict], form=aligned) -> str:
    run = records[0]
    rows = [record for record in records if record["kind"] == "row"]
    lines = [*head(run, records), "", *LEGEND]
    for name, of_section in sections(rows).items():
        lines += ["", f"## {name}", "", *_section(name, of_section, form)]
    lines += ["", "## Means and worst", "", *means(rows, form), "", *worst(rows, form), *slower_than(rows, form)]
    missing = [r for r in records if r["kind"] == "peer" and "missing" in r]
    if missing:
        lines += ["", "## Not compared with", ""]
        lines += [f"* {r['peer']}: {r['missing']}. To have it: {r['install']}" for r in missing]
    return "\n".join(lines) + "\n"


def head(run: dict, records: list[dict]) -> Iterator[str]:
    end = next((r for r in reversed(records) if r["kind"] == "end"), {})
    library = run["fused_lstm"]
    device = run.get("gpu", {}).get("name") or f"{run['processor']} ({run['isa']}, {run['cores']} cores)"
    built = f"{run['commit']}, built from {library['commit']}"
    yield f"{device}, torch {run['torch']}, fused_lstm {library['version']} ({built})"
    load = f"load {run['load'][0]} at the start, {end.get('load', ['?'])[0]} at the end"
    yield f"{run['time']}, {load}, {end.get('minutes', '?')} minutes"
    for limit in (r for r in records if r["kind"] == "limits"):
        dtype = limit["dtype"]
        fma = limit["fma_gflops"].get(dtype)
        fma = f"multiply-adds {fma:.0f} GFLOP/s, " if fma else ""
        gemm = f"torch.mm {limit['gemm_gflops'][dtype]:.0f} GFLOP/s"
        yield f"{dtype}, {limit['threads']} thread(s): {fma}{gemm}, memory {limit['memory_gb_per_s']:.0f} GB/s"


def _section(name: str, rows: list[dict], form) -> Iterator[str]:
    if name == "parts":
        yield from part_lines(rows, form)
    elif name == "memory":
        header = ("shape", "against", "ratio of peaks", "ours MiB", "theirs MiB", "ours saved", "theirs saved", "")
        yield from form(header, [_memory_cells(row) for row in rows])
    elif name == "sentiment":
        header = ("what", "threads", "ratio", "95 % interval", "samples/s", "torch", "")
        yield from form(header, [_sentiment_cells(row) for row in rows])
    else:
        yield from form(COLUMNS, [cells(row) for row in rows if told(row)])


def _memory_cells(row: dict) -> list[str]:
    mib = lambda key: f"{row[key] / 2**20:.0f}" if key in row else ""  # noqa: E731
    sizes = map(mib, ("ours_peak", "peak", "ours_saved", "saved"))
    return [row["shape"], row["peer"] or "–", ratio_of(row), *sizes, note_of(row)]


def _sentiment_cells(row: dict) -> list[str]:
    rates = [f"{row[key]:.0f}" if key in row else "" for key in ("ours_samples_per_second", "samples_per_second")]
    return [row["name"], str(row["threads"]), ratio_of(row), interval_of(row), *rates, note_of(row)]


def part_lines(rows: list[dict], form) -> Iterator[str]:
    """Per cent of a call, and GFLOP/s of the products among the parts."""
    for mode in ("inference", "training"):
        stacks = [(row, parts.stack(row, mode)) for row in rows if "parts" in row]
        if not stacks:
            break
        names = list(stacks[0][1])
        lines = []
        for row, stack in stacks:
            shares = [f"{100 * stack[name] / row['whole'][mode]:.0f}" for name in names]
            lines.append([row["shape"], number(row["whole"][mode] * 1e3), *shares])
        yield f"{mode}: per cent of a call"
        yield ""
        yield from form(("shape", "ms", *names), lines)
        yield ""
    of_parts = [row for row in rows if "parts" in row]
    if of_parts:
        names = list(of_parts[0]["gflops"])
        lines = [
            [row["shape"], *(f"{row['gflops'][n]:.0f}" for n in names), *_nanoseconds(row["barriers"])]
            for row in of_parts
        ]
        yield "GFLOP/s of the products; ns of a barrier by threads"
        yield ""
        yield from form(("shape", *names, *(f"barrier, {n}" for n in of_parts[0]["barriers"])), lines)
    for row in rows:
        if "parts" not in row:
            yield f"{row['shape']}: {row['status']}, {row.get('note', '')}"


def _nanoseconds(barriers: dict[str, float]) -> list[str]:
    return [f"{seconds * 1e9:.0f}" for seconds in barriers.values()]


def compared(rows: list[dict]) -> list[dict]:
    """Rows whose ratio is one of times, and known."""
    return [row for row in rows if "ratio" in row and "ours_seconds" in row and known(row)]


def means(rows: list[dict], form) -> Iterator[str]:
    groups: dict[tuple, list[dict]] = {}
    for row in compared(rows):
        if row["section"] in ("shapes", "structure", "latency", "grid"):
            groups.setdefault((row["peer"], row["dtype"], row["mode"], row["threads"]), []).append(row)
    lines = []
    for (peer, dtype, mode, threads), of_group in groups.items():
        ratios = [row["ratio"] for row in of_group]
        lines.append(
            [peer, dtype, mode, str(threads), str(len(ratios)), f"{geometric_mean(ratios):.2f}", f"{min(ratios):.2f}",
             str(sum(row["status"] == "noisy" for row in of_group))]
        )  # fmt: skip
    header = ("against", "dtype", "mode", "threads", "rows", "geometric mean", "worst", "noisy")
    yield from form(header, lines)


MOST = 5  # rows in a list of the worst


def worst(rows: list[dict], form) -> Iterator[str]:
    of_torch = [row for row in compared(rows) if row["peer"] in ("torch", "torch+graph")]
    for dtype in dict.fromkeys(row["dtype"] for row in of_torch):
        found = sorted((row for row in of_torch if row["dtype"] == dtype), key=lambda row: row["ratio"])[:MOST]
        yield from _listed(f"The {len(found)} worst ratios to torch.nn.LSTM in {dtype}", found, form)


def slower_than(rows: list[dict], form) -> Iterator[str]:
    """Where ours lost against whomever, other ways to use it aside."""
    rivals = [row for row in compared(rows) if row["peer"].removesuffix("+graph") not in OUR_WAYS]
    for dtype in dict.fromkeys(row["dtype"] for row in rivals):
        of_dtype = [row for row in rivals if row["dtype"] == dtype]
        found = sorted((row for row in of_dtype if row["ratio"] < 1), key=lambda row: row["ratio"])
        title = f"Slower than a peer in {dtype}: {len(found)} of {len(of_dtype)} rows"
        title += f", the {MOST} worst" if len(found) > MOST else ""
        yield from _listed(title, found[:MOST], form) if found else (title, "")


def _listed(title: str, rows: list[dict], form) -> Iterator[str]:
    yield title
    yield ""
    yield from form(("section", *COLUMNS), [[row["section"], *cells(row)] for row in rows])
    yield ""
