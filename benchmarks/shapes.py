"""What is measured. Sizes: T steps, B rows, I input, H hidden."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    name: str
    T: int
    B: int
    I: int
    H: int
    layers: int = 1
    bidirectional: bool = False
    packed: bool = False  # lengths drawn uniformly from T/2..T

    def flops(self) -> float:
        """Multiply-adds of one forward pass, times two; training counts three times as many."""
        directions = 2 if self.bidirectional else 1
        inputs = [self.I] + [self.H * directions] * (self.layers - 1)
        valid = 0.75 if self.packed else 1.0
        return sum(2.0 * valid * self.T * self.B * directions * 4 * self.H * (i + self.H) for i in inputs)

    def __str__(self) -> str:
        extra = (f" x{self.layers}" if self.layers > 1 else "") + (" bi" if self.bidirectional else "")
        return f"({self.T},{self.B},{self.I},{self.H}){extra}{' packed' if self.packed else ''}"


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
)
STREAMING = (
    Shape("one step", 1, 1, 128, 128),
    Shape("one step", 1, 1, 640, 640),
    Shape("one step", 1, 16, 256, 256),
    Shape("one step", 1, 64, 512, 512),
)
SUITES = {"layer": LAYER, "structure": STRUCTURE, "streaming": STREAMING, "all": LAYER + STRUCTURE + STREAMING}
