"""Accuracy over seeds: the metrics of runs of the sentiment application, put together.

usage: python -m benchmarks.accuracy RUNS OUTPUT

RUNS holds folders written by `train`, named SET-SEED, and may hold SET.json, written by `ensemble --json`. Writes
OUTPUT.json (every number shown, settings, hashes of the data) and OUTPUT.md (the table).
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

HEADER = "| data | test texts | mean ± sd | seeds | 95 % interval of the median seed |{} best linear | minutes a seed |"


def gather(runs: Path) -> dict[str, Any]:
    """By set: its seeds, mean and deviation, linear rows, an ensemble if there is one."""
    found: dict[str, list[tuple[str, dict]]] = {}
    for path in sorted(runs.glob("*-*/metrics.json")):
        name, _, seed = path.parent.name.rpartition("-")
        found.setdefault(name, []).append((seed, json.loads(path.read_text(encoding="utf-8"))))
    return {name: _summary(name, seeds, runs) for name, seeds in found.items()}


def _summary(name: str, seeds: list[tuple[str, dict]], runs: Path) -> dict[str, Any]:
    first = seeds[0][1]
    parts = [part for part in ("test", "compose") if part in first["parts"]]
    varying = ("seed", "output", "baseline")
    settings = _settings(first, varying)
    for seed, metrics in seeds:
        other = _settings(metrics, varying)
        if other != settings or metrics["data"]["sha256"] != first["data"]["sha256"]:
            raise SystemExit(f"{name}-{seed}: differs from {name}-{seeds[0][0]} in more than the seed")
    ensemble = runs / f"{name}.json"
    return {
        "sha256": first["data"]["sha256"],
        "counts": first["data"]["counts"],
        "environment": first["environment"],
        "settings": settings,
        "seeds": {seed: _seed(metrics, parts) for seed, metrics in seeds},
        "parts": {part: _spread([m["parts"][part]["accuracy"] for _, m in seeds]) for part in parts},
        "linear": {
            b["name"]: {part: _measured(b["parts"][part]) for part in parts}
            for _, metrics in seeds for b in metrics["baselines"]
        },
        "ensemble": _measured(json.loads(ensemble.read_text())["ensemble"]) if ensemble.exists() else None,
    }  # fmt: skip


def _settings(metrics: dict, varying: tuple[str, ...]) -> dict[str, Any]:
    """What was set, but for where things lie."""
    found = metrics["settings"]
    kept = {k: v for k, v in found.items() if k not in (*varying, "data") and not k.endswith("_file")}
    if kept.get("vectors"):
        kept["vectors"] = Path(kept["vectors"]).name
    return kept


def _seed(metrics: dict, parts: list[str]) -> dict[str, Any]:
    history = metrics["history"]
    return {
        "dev": history[metrics["best_epoch"] - 1]["dev_accuracy"],
        "best_epoch": metrics["best_epoch"],
        "epochs": len(history),
        "training_seconds": sum(epoch["seconds"] for epoch in history),
        **{part: _measured(metrics["parts"][part]) for part in parts},
    }


def _measured(part: dict) -> dict[str, Any]:
    return {"accuracy": part["accuracy"], "interval_95": part["accuracy_interval_95"]}


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def table(sets: dict[str, Any]) -> str:
    """Markdown; accuracy in %."""
    together = any(told["ensemble"] for told in sets.values())
    lines = [HEADER.format(" seeds together |" if together else ""), "|---" * (8 if together else 7) + "|"]
    for name, told in sets.items():
        for part, spread in told["parts"].items():
            lines.append(_row(name, part, spread, told, together))
    return "\n".join(lines) + "\n"


def _row(name: str, part: str, spread: dict, told: dict, together: bool) -> str:
    seeds = sorted((seed[part] for seed in told["seeds"].values()), key=lambda seed: seed["accuracy"])
    minutes = statistics.median(seed["training_seconds"] for seed in told["seeds"].values()) / 60  # one may have waited
    low, high = seeds[len(seeds) // 2]["interval_95"]
    linear = max((row[part]["accuracy"] for row in told["linear"].values()), default=None)
    cells = [
        name if part == "test" else f"{name}, {part}",
        f"{told['counts'][part]:,}",
        f"{_percent(spread['mean'])} ± {_percent(spread['sd'])}",
        ", ".join(_percent(seed[part]["accuracy"]) for seed in told["seeds"].values()),
        f"{_percent(low)} to {_percent(high)}",
    ]
    if together:
        shown = told["ensemble"] if part == "test" else None
        cells.append(_percent(shown["accuracy"]) if shown else "")
    cells += ["" if linear is None else _percent(linear), f"{minutes:.1f}"]
    return "| " + " | ".join(cells) + " |"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    runs, output = map(Path, sys.argv[1:])
    sets = gather(runs)
    if not sets:
        raise SystemExit(f"{runs}: holds no folder SET-SEED with a metrics.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(sets, indent=1) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text(table(sets), encoding="utf-8")
    print(table(sets))


if __name__ == "__main__":
    main()
