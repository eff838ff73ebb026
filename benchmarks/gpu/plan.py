"""What gets measured and checked, in which order, and what the project wants to reach. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

FAMILIES = ("stepwise", "cluster", "grid")
DTYPES = ("bf16", "fp16", "tf32", "fp32")  # tf32: float32 tensors, products in TF32
STRUCTURES = ("1 layer", "lengths", "bidirectional", "2 layers", "packed")
MODES = ("inference", "training")

# The most telling sizes first: time may run out.
HIDDEN = (256, 512, 1024, 128, 768, 2048)
BATCH = (64, 16, 256, 1)
STEPS = 128


@dataclass(frozen=True)
class Part:
    """One row of the grid by one family: nn.LSTM against FusedLSTM.

    structure: "lengths" gives FusedLSTM a rectangle and lengths, "packed" a PackedSequence; nn.LSTM gets packed data
    for both, as it knows nothing else.
    """

    dtype: str
    H: int
    B: int
    structure: str
    T: int
    family: str

    @property
    def key(self) -> str:
        return f"{self.dtype} H{self.H} B{self.B} T{self.T} {self.structure} {self.family}"

    def described(self) -> dict:
        return {"key": self.key, **asdict(self)}


def grid(stand_in: bool) -> list[Part]:
    """All parts; the quick TF32 and 16-bit rows of one layer first, float32 without TF32 last."""
    parts = list(_toy() if stand_in else _full())
    assert len({part.key for part in parts}) == len(parts)
    return parts


def _full() -> Iterator[Part]:
    quick = [dtype for dtype in DTYPES if dtype != "fp32"]
    for dtypes, structures in ((quick, STRUCTURES), (["fp32"], STRUCTURES)):
        for structure in structures:
            for B in BATCH:
                for H in HIDDEN:
                    for dtype in dtypes:
                        for family in FAMILIES:
                            yield Part(dtype, H, B, structure, STEPS, family)


def _toy() -> Iterator[Part]:
    for dtype, structure in [*(("bf16", structure) for structure in STRUCTURES), ("tf32", "1 layer")]:
        for family in FAMILIES:
            yield Part(dtype, 16, 3, structure, 4, family)


def correctness(stand_in: bool) -> list[dict]:
    """Cases of the section `families`: every family by name on shapes that it was made for and on odd ones."""
    sizes = [(5, 3, 16, 32)] if stand_in else [(7, 3, 33, 65), (33, 11, 48, 128), (64, 16, 256, 256), (16, 70, 96, 512)]
    if not stand_in:
        sizes += [(9, 20, 1024, 1024), (5, 4, 64, 2048)]
    dtypes = ("tf32",) if stand_in else DTYPES
    cases = []
    for family in FAMILIES:
        for dtype in dtypes:
            for T, B, I, H in sizes:
                for structure in ("1 layer", "lengths", "bidirectional"):
                    key = f"{family} {dtype} T{T} B{B} I{I} H{H} {structure}"
                    case = dict(family=family, dtype=dtype, T=T, B=B, I=I, H=H, structure=structure)
                    cases.append({"key": key, **case})
    return cases


def captures(stand_in: bool) -> list[dict]:
    """Cases of the section `graphs`: forward and backward in one CUDA graph."""
    sizes = [(4, 2, 16, 16)] if stand_in else [(32, 16, 256, 256), (16, 8, 512, 512), (16, 8, 1024, 1024)]
    cases = []
    for family in FAMILIES:
        for dtype in ("bf16",) if stand_in else ("bf16", "tf32"):
            for T, B, I, H in sizes:
                for structure in ("1 layer", "lengths", "bidirectional"):
                    key = f"{family} {dtype} T{T} B{B} I{I} H{H} {structure}"
                    case = dict(family=family, dtype=dtype, T=T, B=B, I=I, H=H, structure=structure)
                    cases.append({"key": key, **case})
    return cases


SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck")


@dataclass(frozen=True)
class Goal:
    """``least``: what the geometric mean, or the worst row, of nn.LSTM's time divided by ours should be."""

    text: str
    least: float
    of: str  # "worst" or "mean"
    dtypes: tuple[str, ...] = DTYPES
    structures: tuple[str, ...] = STRUCTURES
    modes: tuple[str, ...] = MODES
    largest_H: int = 1 << 30


GOALS = (
    Goal("everywhere", 1.0, "worst"),
    Goal("training", 2.0, "mean", modes=("training",)),
    Goal("bf16, H <= 512", 3.0, "mean", dtypes=("bf16",), largest_H=512),
    Goal("packed and lengths", 5.0, "mean", structures=("lengths", "packed")),
)
