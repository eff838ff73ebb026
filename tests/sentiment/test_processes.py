"""Two processes by torchrun (gloo): the same model as in one, and exact resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

WORKER = Path(__file__).with_name("processes_worker.py")
ROOT = WORKER.parents[2]


def test_two_processes_train_what_one_does(tmp_path):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(WORKER), str(tmp_path)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert (told["processes"], told["backend"]) == (2, "gloo")
        assert told["classifier resumed"]
        assert told["language model resumed"]
        assert max(told["weights"]) < 1e-5
        assert max(told["losses"]) < 1e-6
