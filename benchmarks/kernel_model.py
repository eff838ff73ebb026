"""Microseconds of a step, predicted from machine code. Arithmetic with estimates; nothing here was measured by us.

A step, from one wait to the next, as cycles of a multiprocessor with four schedulers and four tensor cores:

    products   the larger of: products of a tensor core at the rate of mma.sync; the longest chain of dependent ones
    cell       the larger of: other instructions of the critical part, one a cycle and scheduler; MUFU; a latency
    barriers   BAR.SYNC, each with its wait
    memory     if anything is loaded from global memory between the wait and the last message: one such load
    exchange   from the last message of a step to the end of the wait for it; or what is executed meanwhile, or the
               bytes that come in, if longer. Through L2 (grid) the bytes are fetched after the flag, so they add up.

The lower figure lets products and other instructions overlap and takes the smaller latencies, the upper one neither.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from . import ptxas, sass

GHZ = 1.75  # H200
MULTIPROCESSORS = 132
SCHEDULERS = 4
ROWS = 8  # of a tile, where the shape does not say

# Latencies in cycles: smaller, larger.
MESSAGE = {"cluster": (250, 350), "grid": (600, 800)}  # push and wait; flag through L2
LOAD = (263, 480)  # from L2 (arXiv 2402.13499); from HBM (from memory, unverified)
CELL = (100, 100)
BARRIER = 60
MMA_LATENCY = 24  # arXiv 2501.12084, as the next
MMA_CYCLES = 4 / 0.63  # m16n8k16 of 16-bit numbers or m16n8k8 of TF32 at the 63 % of peak that mma.sync reaches
MUFU_CYCLES = 8  # of a warp's instruction, 4 lanes a cycle and scheduler
BYTES_A_CYCLE = 64  # into a multiprocessor, assumed

# Attainable forward microseconds a step for B = 1, 16, 64, 256: estimates made before any kernel was written, "expect
# first working kernels 1.5 to 2 times above". Backward: 1.3 to 1.6 times forward.
BATCHES = (1, 16, 64, 256)
BUDGET = {
    ("cluster", 16): {128: ".3/.35/.35/.4", 256: ".4/.45/.45/.5", 512: ".5/.55/.75/1.4"},
    ("cluster", 32): {128: ".4-.6", 256: ".6-.8", 512: "1.0-1.3, B <= 64"},
    ("grid", 16): {
        128: ".9/1.0/1.2/2.2",
        256: ".9/1.0/1.2/2.2",
        512: "1.0/1.0/1.2/2.2",
        1024: "1.0/1.3/2.1/5",
        2048: "1.4/2.1/4.5/-",
    },
    ("grid", 32): {512: "1.0-1.3, B <= 64", 1024: "1.4-1.8, B <= 16"},
}
BACKWARD = (1.3, 1.6)


@dataclass
class Prediction:
    products: float  # cycles, this one and the next two without any latency of others
    issue: float
    barriers: float
    memory: tuple[float, float]
    exchange: tuple[float, float]
    microseconds: tuple[float, float]  # while all clusters run at once
    rounds: dict[int, int]  # cluster kernels: for each batch size, how many times the clusters that fit have to run

    def as_json(self) -> dict:
        return asdict(self)


def family(name: str) -> str:
    return "grid" if "grid" in name else "cluster"


def predict(kernel: ptxas.Kernel, loop: sass.Loop, kind: str) -> Prediction | None:
    """As if loops inside the step were passed once. None: the number of threads is not known."""
    if not kernel.threads:
        return None
    warps = kernel.threads / 32
    first = warps / kernel.shape.get("kSplit", 1) if loop.other_way else warps
    roles = [(first, loop.way), (warps - first, loop.other_way)]
    urgent = loop.way[: sass.critical(loop.way)]
    counts = sass.count(urgent)

    per_core = sum(n * sass.count(way)["HMMA"] for n, way in roles) / SCHEDULERS
    products = max(per_core * MMA_CYCLES, sass.chain(loop.way) * MMA_LATENCY)
    issue = (first * (len(urgent) - counts["HMMA"]) + (warps - first) * _others(loop.other_way)) / SCHEDULERS
    cell = max(issue, first / SCHEDULERS * counts["MUFU"] * MUFU_CYCLES)
    barriers = BARRIER * sum(1 for i in urgent if i.opcode.startswith("BAR.SYNC"))
    memory = tuple(float(n) for n in LOAD) if _loads(urgent) else (0.0, 0.0)
    meanwhile = first * (len(loop.way) - len(urgent)) / SCHEDULERS
    exchange = tuple(_exchange(kind, latency, meanwhile, kernel.shape) for latency in MESSAGE[kind])

    low = max(products + CELL[0], cell) + barriers + memory[0] + exchange[0]
    high = products + max(CELL[1], cell) + barriers + memory[1] + exchange[1]
    return Prediction(
        products, issue, barriers, memory, exchange, (low / GHZ / 1e3, high / GHZ / 1e3), _rounds(kernel, kind)
    )


def _others(way: list[sass.Instruction]) -> int:
    return len(way) - sass.count(way)["HMMA"]


def _loads(way: list[sass.Instruction]) -> int:
    """From global memory, but for the wait itself."""
    return sum(1 for i in way if i.opcode.split(".")[0] in ("LDG", "LD") and not sass.WAIT.match(i.opcode))


def _exchange(kind: str, latency: float, meanwhile: float, shape: dict[str, int]) -> float:
    bytes_in = shape.get("kInboxBytes") or shape.get("kBufferBytes") or 0
    ingest = bytes_in / BYTES_A_CYCLE
    return max(latency + ingest, meanwhile) if kind == "grid" else max(latency, ingest, meanwhile)


def _rounds(kernel: ptxas.Kernel, kind: str) -> dict[int, int]:
    if kind != "cluster" or "kBlocks" not in kernel.shape:
        return {}
    at_once = MULTIPROCESSORS // kernel.shape["kBlocks"]
    rows = at_once * kernel.shape.get("kRows", ROWS)
    return {batch: -(-batch // rows) for batch in BATCHES}


def budget(kind: str, hidden: int | None, element: int, backward: bool) -> str:
    """What was thought attainable; "-" where nothing was said."""
    found = BUDGET.get((kind, element), {}).get(hidden, "-")
    return f"{BACKWARD[0]} to {BACKWARD[1]} x ({found})" if backward and found != "-" else found
