"""Puts the one wheel of a folder into another, tagged manylinux by auditwheel where that exists, and says what it is.

usage: finish_wheel.py FROM TO
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path


def main(source: Path, destination: Path) -> None:
    (wheel,) = source.glob("*.whl")
    destination.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("auditwheel") and sys.platform == "linux":
        auditwheel = [sys.executable, "-m", "auditwheel"]
        subprocess.run([*auditwheel, "show", str(wheel)], check=True)
        # libtorch.so is the torch that the wheel is installed beside; everything else has to be on any such system.
        repair = ["repair", "--exclude", "libtorch.so", "--wheel-dir", str(destination), str(wheel)]
        subprocess.run([*auditwheel, *repair], check=True)
    else:
        print("auditwheel is not installed: the wheel keeps the plain linux tag")
        shutil.copy2(wheel, destination)
    for result in destination.glob("*.whl"):
        print(f"{result}: {result.stat().st_size / 1024:.0f} KiB, tag {'-'.join(result.stem.split('-')[2:])}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
