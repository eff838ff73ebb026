"""Small problems through one family, forward and backward: what compute-sanitizer watches.

usage: python -m benchmarks.gpu.small FAMILY [--device cuda|cpu]
"""

from __future__ import annotations

import argparse

import torch

from .family import served_by
from .peers import Peers
from .plan import FAMILIES

SIZES = [(3, 3, 17, 33), (4, 9, 16, 128), (3, 17, 32, 256)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args = parser.parse_args()
    for dtype in ("bf16", "tf32"):
        for T, B, I, H in SIZES:
            for structure in ("bidirectional", "lengths"):
                part = dict(dtype=dtype, T=T, B=B, I=I, H=H, structure=structure)
                served = served_by(args.family, Peers(part, args.device))
                if args.device == "cuda":
                    torch.cuda.synchronize()
                print(f"{dtype} T{T} B{B} I{I} H{H} {structure}: served by {served}", flush=True)


if __name__ == "__main__":
    main()
