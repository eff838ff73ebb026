"""A run that is killed at any moment and repeated ends with the same bits as one that was left alone."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

WORKER = Path(__file__).with_name("resume_worker.py")
ROOT = WORKER.parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
KILLS = 5


def command(kind: str, folder: Path) -> list[str]:
    return [sys.executable, str(WORKER), kind, str(folder)]


def finished(kind: str, folder: Path) -> str:
    done = subprocess.run(command(kind, folder), capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("step-*")), default="")


def test_killed_five_times_at_random(tmp_path):
    expected = finished("classifier", tmp_path / "whole")
    folder, chance, ends = tmp_path / "killed", random.Random(time.time_ns()), []
    for _ in range(KILLS):
        run = subprocess.Popen(command("classifier", folder), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        with run as process:
            assert process.stdout.readline() == "begun\n"
            time.sleep(chance.uniform(0, 0.2))
            process.kill()
            assert process.wait() < 0, "it was over before it could be killed"
        ends.append(newest(folder))
    assert ends == sorted(ends)
    assert ends[-1] > ends[0], "it must get on between kills"
    assert finished("classifier", folder) == expected
