"""Which measurements a suite consists of, in the order in which they are made: the most telling ones first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .shapes import LAYER, NAMED, STREAMING, STRUCTURE, Shape

# On the CPU a quick run shortens the heaviest shapes to these steps; time per step hardly depends on them.
QUICK_STEPS = {"sentiment": 64, "awd-lstm": 8, "speech": 16, "char-lm": 32}
SECTIONS = ("shapes", "structure", "latency", "grid", "peers", "scaling", "parts", "memory", "sentiment")
SUITES = ("quick", "full", "layer", "structure", "streaming", "all", "variants")


@dataclass(frozen=True)
class Group:
    """Measured together: ours and all peers on one problem."""

    section: str
    shape: Shape
    mode: str
    dtype: str = "float32"
    threads: int = 1
    peers: tuple[str, ...] = ("torch",)
    axis: str = ""  # of the section "scaling": what grows


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for; empty means: as the suite has it."""

    device: str = "cpu"
    suite: str = "quick"
    shapes: tuple[Shape, ...] = ()
    dtypes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    sections: tuple[str, ...] = ()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def doubled(most: int) -> list[int]:
    """Numbers of threads up to ``most``: 1, 2, 4 and so on."""
    return sorted({*(1 << k for k in range(most.bit_length())), most})


def groups(wishes: Wishes) -> list[Group]:
    """Without repetitions, and only what was wished for."""
    made = _of_shapes(wishes) if wishes.shapes else _of_suite(wishes)
    found: dict[tuple, Group] = {}
    for group in made:
        if wishes.sections and group.section not in wishes.sections:
            continue
        if wishes.dtypes and group.dtype not in wishes.dtypes:
            continue
        if wishes.modes and group.mode not in wishes.modes:
            continue
        group = replace(group, peers=wishes.peers) if wishes.peers else group
        found.setdefault((group.section, group.axis, group.shape.spec, group.mode, group.dtype, group.threads), group)
    return list(found.values())


def left_out(wishes: Wishes) -> list[str]:
    """Which sections the suite has but not in a dtype that was asked for, a line for each such dtype."""
    usual = {group.section for group in groups(replace(wishes, dtypes=()))}
    found = []
    for dtype in wishes.dtypes:
        measured = {group.section for group in groups(wishes) if group.dtype == dtype}
        if missing := [section for section in SECTIONS if section in usual - measured]:
            found.append(f"Not measured in {dtype}: {', '.join(missing)}")
    return found


def _threads(wishes: Wishes) -> tuple[int, ...]:
    if wishes.device == "cuda":
        return (1,)
    return wishes.threads or tuple(sorted({1, cores()}))


def _peers(wishes: Wishes) -> tuple[str, ...]:
    """Who runs on this device without minutes of compiling first."""
    from .peers import PEERS, RIVALS

    return tuple(name for name in RIVALS if wishes.device in PEERS[name].devices and not PEERS[name].slow)


def _dtypes(wishes: Wishes) -> tuple[str, ...]:
    return wishes.dtypes or (("tf32", "float32", "bfloat16", "float16") if wishes.device == "cuda" else ("float32",))


def _of_shapes(wishes: Wishes) -> Iterator[Group]:
    modes = wishes.modes or ("inference", "training")
    for shape in wishes.shapes:
        for mode in ("latency",) if shape.T == 1 and not wishes.modes else modes:
            for dtype in _dtypes(wishes):
                for threads in _threads(wishes):
                    section = "memory" if mode == "memory" else "latency" if mode == "latency" else "shapes"
                    peers = _peers(wishes) if mode != "memory" else ("torch", "fused-recompute")
                    yield Group(section, shape, mode, dtype, threads, peers)


def _of_suite(wishes: Wishes) -> Iterator[Group]:
    full = wishes.suite == "full"
    if wishes.suite in ("quick", "full"):
        everywhere = _threads(wishes)
        usual = everywhere if full else everywhere[:1]
        yield from _named(wishes, full, everywhere[:1])
        yield from _structure(wishes, full, usual)
        yield from _latency(wishes, usual)
        yield from _all_peers(wishes, full)
        yield from _parts(wishes, full)
        yield from _memory(wishes, full)
        yield Group("sentiment", NAMED["sentiment"], "training", threads=everywhere[0], peers=("torch",))
        yield from _named(wishes, full, everywhere[1:])
        yield from _grid(wishes, full, usual)
        yield from _scaling(wishes, full)
        return
    lists = {"layer": LAYER, "structure": STRUCTURE, "streaming": STREAMING}
    for shape in lists.get(wishes.suite) or LAYER + STRUCTURE + STREAMING:
        for mode in ("latency",) if shape.T == 1 else ("inference", "training"):
            for dtype in _dtypes(wishes):
                for threads in _threads(wishes):
                    section = "latency" if shape.T == 1 else "shapes"
                    yield Group(section, shape, mode, dtype, threads, _peers(wishes))


def _named(wishes: Wishes, full: bool, threads: tuple[int, ...]) -> Iterator[Group]:
    for each in threads:
        for shape in NAMED.values():
            if not full and wishes.device == "cpu":
                shape = shape.with_steps(QUICK_STEPS.get(shape.name, shape.T))
            for dtype in _dtypes(wishes) + (("bfloat16",) if full and wishes.device == "cpu" else ()):
                for mode in ("latency",) if shape.T == 1 else ("inference", "training"):
                    yield Group("shapes", shape, mode, dtype, each, _peers(wishes))


def _structure(wishes: Wishes, full: bool, threads: tuple[int, ...]) -> Iterator[Group]:
    for each in threads:
        for shape in STRUCTURE:
            shape = shape if full or wishes.device == "cuda" else shape.with_steps(shape.T // 2)
            for mode in ("inference", "training"):
                yield Group("structure", shape, mode, _dtypes(wishes)[0], each, _peers(wishes))


def _latency(wishes: Wishes, threads: tuple[int, ...]) -> Iterator[Group]:
    for each in threads:
        for shape in STREAMING:
            yield Group("latency", shape, "latency", _dtypes(wishes)[0], each, _peers(wishes))


def _all_peers(wishes: Wishes, full: bool) -> Iterator[Group]:
    """Every peer there is, among them those that take long to compile, on one middling shape; full: on three more."""
    from .peers import PEERS, RIVALS

    everybody = tuple(name for name in RIVALS if wishes.device in PEERS[name].devices)
    shapes = [Shape("middling", 32, 16, 128, 128)]
    if full:
        shapes += [Shape("one row", 64, 1, 128, 128), Shape("large", 32, 64, 512, 512), NAMED["forecasting"]]
    for shape in shapes:
        for mode in ("inference", "training"):
            yield Group("peers", shape, mode, _dtypes(wishes)[0], 1, everybody)


GRID_B, GRID_H = (1, 16, 64, 256), (128, 256, 512, 1024)


def _grid(wishes: Wishes, full: bool, threads: tuple[int, ...]) -> Iterator[Group]:
    batch, hidden = (GRID_B, GRID_H) if full or wishes.device == "cuda" else (GRID_B[:3], (128, 512))
    for each in threads:
        for dtype in _dtypes(wishes) if wishes.device == "cuda" or wishes.dtypes else ("float32", "bfloat16"):
            for mode in ("training", "inference"):
                for H in hidden:
                    for B in batch:
                        T = 64 if full and B * H < 1 << 16 else 24
                        yield Group("grid", Shape("", T, B, H, H), mode, dtype, each, ("torch",))


def _scaling(wishes: Wishes, full: bool) -> Iterator[Group]:
    """How time grows with one size while the others stay."""
    base = Shape("", 32, 16, 128, 128)
    long = (64, 1024, 8192, 65536) if not full else (16, 64, 256, 1024, 4096, 16384, 65536)
    axes: dict[str, list[Shape]] = {
        "T": [Shape("", T, 1, 64, 64) for T in long],
        "B": [replace(base, B=B) for B in ((1, 8, 64, 256) if not full else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512))],
        "H": [replace(base, I=H, H=H) for H in ((64, 256, 1024) if not full else (32, 64, 128, 256, 512, 1024, 2048))],
        "layers": [replace(base, layers=n) for n in ((1, 2, 4) if not full else (1, 2, 3, 4, 6, 8))],
    }
    dtype = _dtypes(wishes)[0]
    for axis, shapes in axes.items():
        for shape in shapes:
            for mode in ("inference", "training") if full or axis == "T" else ("training",):
                yield Group("scaling", shape, mode, dtype, 1, ("torch",), axis)
    if wishes.device == "cpu":
        for threads in doubled(cores()):
            for mode in ("inference", "training"):
                yield Group("scaling", Shape("", 64, 64, 256, 256), mode, dtype, threads, ("torch",), "threads")


def _parts(wishes: Wishes, full: bool) -> Iterator[Group]:
    """Of kernels for the CPU, in float32."""
    if wishes.device == "cpu":
        for shape in LAYER if full else (LAYER[0], LAYER[1], LAYER[2].with_steps(64), LAYER[3].with_steps(16)):
            yield Group("parts", shape, "training", "float32", 1, ())


def _memory(wishes: Wishes, full: bool) -> Iterator[Group]:
    shapes = [Shape("", 256, 32, 512, 512)] if not full else [Shape("", 1024, 32, 512, 512), NAMED["sentiment"]]
    for shape in shapes:
        for dtype in wishes.dtypes or ("float32",):
            yield Group("memory", shape, "memory", dtype, 1, ("torch", "fused-recompute"))
