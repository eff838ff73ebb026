"""What is measured. Sizes: T steps, B rows, I input, H hidden. Knows no torch.

Written ``T,B,I,H[,xL][,bi][,packed][,resets]``: L layers, both directions, rows of different lengths as a
PackedSequence, episodes that end inside of rows. ``400>1150`` in the place of H stacks LSTMs of different sizes.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

MODES = ("inference", "training", "latency", "memory")
SYNTAX = "T,B,I,H[>H2>...][,xL][,bi][,packed][,resets]"


class ShapeError(ValueError):
    """Says what of a shape cannot be understood."""


@dataclass(frozen=True)
class Module:
    """One LSTM of a shape."""

    I: int
    H: int
    layers: int
    bidirectional: bool

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output(self) -> int:
        return self.directions * self.H

    def inputs(self) -> list[int]:
        """Input size of every layer."""
        return [self.I] + [self.output] * (self.layers - 1)

    def weights(self) -> int:
        return sum(self.directions * 4 * self.H * (i + self.H + 2) for i in self.inputs())


@dataclass(frozen=True)
class Shape:
    name: str
    T: int
    B: int
    I: int
    H: int
    layers: int = 1
    bidirectional: bool = False
    packed: bool = False  # lengths drawn uniformly from T/2..T, the first row's is T
    resets: bool = False  # one step in 50 begins an episode
    then: tuple[int, ...] = ()  # hidden sizes of further LSTMs on top

    def modules(self) -> list[Module]:
        sizes = [self.H, *self.then]
        inputs = [self.I] + [h * (2 if self.bidirectional else 1) for h in sizes[:-1]]
        return [Module(i, h, self.layers, self.bidirectional) for i, h in zip(inputs, sizes)]

    @property
    def spec(self) -> str:
        hidden = ">".join(map(str, (self.H, *self.then)))
        extras = [f"x{self.layers}"] * (self.layers > 1)
        extras += [name for name, on in (("bi", self.bidirectional), ("packed", self.packed)) if on]
        return ",".join([f"{self.T},{self.B},{self.I},{hidden}", *extras, *["resets"] * self.resets])

    def lengths(self) -> list[int]:
        """Of every row; the same at each call."""
        if not self.packed:
            return [self.T] * self.B
        dice = random.Random(0)
        return [self.T, *(dice.randint((self.T + 1) // 2, self.T) for _ in range(self.B - 1))]

    def rows(self) -> int:
        """(step, row) pairs with work in them."""
        return sum(self.lengths())

    def flops(self, mode: str = "inference") -> float:
        """Multiply-adds, times two; backward does each product of forward twice more."""
        a_row = sum(2.0 * m.directions * 4 * m.H * (i + m.H) for m in self.modules() for i in m.inputs())
        return self.rows() * a_row * (3 if mode == "training" else 1)

    def traffic(self, mode: str, itemsize: int) -> float:
        """Bytes that any implementation has to move: weights, x, y and the states between layers once; in training
        also gates and cells written and read, every gradient, and the weights once more in each pass."""
        weights = sum(m.weights() for m in self.modules())
        values = 0
        for m in self.modules():
            for i in m.inputs():
                values += i + m.output
                if mode == "training":
                    values += i + m.output + 2 * 5 * m.output + 4 * m.output
        return itemsize * (self.rows() * values + weights * (3 if mode == "training" else 1))

    def with_steps(self, T: int) -> Shape:
        return replace(self, T=T)

    def __str__(self) -> str:
        return f"{self.name} ({self.spec})" if self.name else self.spec


def _number(text: str, what: str, shape: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise ShapeError(f"{shape!r}: {what} must be a number from 1 on, not {text!r}; a shape is {SYNTAX}")
    return int(text)


def parse(text: str) -> Shape:
    """A name out of NAMED, or sizes."""
    text = text.strip()
    if text in NAMED:
        return NAMED[text]
    sizes = text.replace(" ", "").split(",")
    if len(sizes) < 4:
        raise ShapeError(f"{text!r} is neither the name of a shape ({', '.join(NAMED)}) nor {SYNTAX}")
    T, B, I = (_number(size, what, text) for size, what in zip(sizes, "TBI"))
    H, *then = (_number(size, "H", text) for size in sizes[3].split(">"))
    options: dict[str, object] = {}
    for extra in sizes[4:]:
        if re.fullmatch(r"x[0-9]+", extra):
            options["layers"] = _number(extra[1:], "the number of layers", text)
        elif extra in ("bi", "packed", "resets"):
            options["bidirectional" if extra == "bi" else extra] = True
        else:
            raise ShapeError(f"{text!r}: {extra!r} is none of xL, bi, packed, resets; a shape is {SYNTAX}")
    if "packed" in options and "resets" in options:
        raise ShapeError(f"{text!r}: packed and resets do not go together; ask for one of them")
    return Shape("", T, B, I, H, then=tuple(then), **options)


# What people run: sizes from the papers or the usual configurations.
NAMED = {
    shape.name: shape
    for shape in (
        Shape("sentiment", 256, 64, 300, 256, bidirectional=True),
        Shape("awd-lstm", 70, 80, 400, 1150, then=(1150, 400)),
        Shape("rnn-t", 1, 1, 640, 640),
        Shape("speech", 800, 16, 80, 512, layers=4, bidirectional=True),
        Shape("rl", 128, 64, 256, 256, resets=True),
        Shape("forecasting", 96, 512, 7, 64),
        Shape("char-lm", 128, 32, 128, 1024),
    )
}
LAYER = (
    Shape("latency", 128, 1, 128, 128),
    Shape("small", 128, 32, 128, 128),
    Shape("mid", 128, 32, 256, 256),
    Shape("mid", 128, 64, 512, 512),
    Shape("large", 64, 256, 256, 512),
    Shape("large", 256, 16, 1024, 1024),
)
STRUCTURE = (
    Shape("packed", 128, 32, 256, 256, packed=True),
    Shape("bidirectional", 128, 32, 256, 256, bidirectional=True),
    Shape("stacked", 128, 32, 256, 256, layers=2),
    Shape("odd", 100, 48, 100, 200),
    Shape("odd", 70, 7, 333, 333),
    Shape("odd", 70, 3, 650, 650),
)
STREAMING = (
    Shape("one step", 1, 1, 128, 128),
    Shape("one step", 1, 16, 256, 256),
    Shape("one step", 1, 64, 512, 512),
)
