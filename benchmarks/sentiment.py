"""Training of the sentiment classifier from end to end: samples a second, by its own command line, ours against torch.

Runs come in pairs, each a process of its own, ours first and second in turn. The first epoch of a run warms up. The
application trains on a GPU where it sees one, so for the CPU it is shown none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .measure import described
from .plan import Group
from .stats import interval
from .timing import narrow

PAIRS = 6
SETTINGS = ("--corpus-size", "1200", "--epochs", "4", "--patience", "9", "--no-baseline", "--no-plots")


def samples_per_second(lstm: str, threads: int, settings: tuple[str, ...] = SETTINGS, device: str = "cpu") -> float:
    with tempfile.TemporaryDirectory(prefix="bench-sentiment-") as folder:
        command = [sys.executable, "-m", "fused_lstm.sentiment", "train", "--lstm", lstm, "--threads", str(threads)]
        command += [*settings, "--output", folder]
        seen = {**os.environ, "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else None
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=seen)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            raise RuntimeError(f"sentiment train --lstm {lstm}: {lines[-1]}")
        epochs = json.loads((Path(folder) / "metrics.json").read_text())["history"]
    rates = sorted(epoch["samples_per_second"] for epoch in epochs[1:] or epochs)
    return rates[len(rates) // 2]


def measure(
    group: Group, pairs: int = PAIRS, settings: tuple[str, ...] = SETTINGS, device: str = "cpu"
) -> list[dict]:
    """One row; ratio: samples a second, ours / torch's."""
    ours, theirs = [], []
    for i in range(pairs):
        for lstm in ("fused", "torch") if i % 2 == 0 else ("torch", "fused"):
            (ours if lstm == "fused" else theirs).append(samples_per_second(lstm, group.threads, settings, device))
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    ratio = (ratios[(pairs - 1) // 2] + ratios[pairs // 2]) / 2
    low, high = interval(ratios)
    bounded = low > float("-inf")
    row = {
        **described(group, device, "torch"),
        "name": "classifier, embedded corpus",
        "shape": "epochs 2 to 4",
        "status": "ok" if narrow(ratio, low, high) else "noisy",
        "ratio": ratio,
        "low": low if bounded else None,
        "high": high if bounded else None,
        "ours_samples_per_second": sorted(ours)[pairs // 2],
        "samples_per_second": sorted(theirs)[pairs // 2],
        "rounds": pairs,
        "clock": "wall, each epoch by itself",
    }
    return [row]
