"""Reads machine code as nvdisasm prints it: the loop over steps of a kernel, and what a warp executes in it.

How the loop is found. Instructions form a graph of blocks; a back edge leads to a block that dominates its source, and
its natural loop is all that reaches the source without passing the target. The loop over steps is the smallest natural
loop that multiplies (HMMA), waits for others (SYNCS.PHASECHK of an mbarrier; a strong load, as when a flag is polled)
and sends (STAS; a strong store). A kernel that exchanges nothing gets its largest loop that multiplies.

What a warp executes. Of all ways through one iteration the longest is taken, each inner loop passed once. Not counted
is what ptxas moved behind the loop (repeated waits, divergence) and blocks that call slow paths of a division. The way
is an upper bound: it takes every branch of optional arguments (resets, lengths) and of a row's last step. Where warps
have two roles (some bring their sums with BAR.ARV and are done), the second role's way is the longest one to its
BAR.ARV and the shortest one on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
LABEL = re.compile(r"^(\.L_\w+):")
SECTION = re.compile(r"^//-+ \.text\.(\S+) -+$", re.M)
TARGET = re.compile(r"`\((\.L_\w+)\)")

CLASSES = {
    "HMMA": r"HMMA|IMMA|HGMMA",
    "LDSM": r"LDSM",
    "LDS/STS": r"LDS|STS",
    "LDG/STG": r"LDG|STG|LD|ST",
    "push": r"STAS",
    "SHFL": r"SHFL",
    "BAR": r"BAR",
    "MUFU": r"MUFU",
    "MEMBAR/CCTL": r"MEMBAR|CCTL|ERRBAR|CGAERRBAR|UCGABAR_\w+",
}
WAIT = re.compile(r"SYNCS\.PHASECHK|LDG?\.E?\.?(\w+\.)*STRONG")
SEND = re.compile(r"STAS|STG?\.E?\.?(\w+\.)*STRONG")


@dataclass
class Instruction:
    address: int
    guard: str
    opcode: str
    operands: str

    @property
    def kind(self) -> str:
        base = self.opcode.split(".")[0]
        return next((name for name, bases in CLASSES.items() if re.fullmatch(bases, base)), "other")


@dataclass
class Block:
    instructions: list[Instruction] = field(default_factory=list)
    next: list[int] = field(default_factory=list)

    def has(self, opcode: re.Pattern[str] | str) -> bool:
        return any(re.match(opcode, i.opcode) for i in self.instructions)


@dataclass
class Loop:
    header: int
    body: set[int]  # blocks
    inner: int  # natural loops inside that are not mere waiting
    way: list[Instruction]  # the longest, from one wait to the next
    other_way: list[Instruction]  # of the second role, empty if there is none
    static: int  # instructions of the body, counted ones or not


def functions(text: str) -> dict[str, str]:
    """Kernels of a disassembly by mangled name."""
    parts = SECTION.split(text)
    return dict(zip(parts[1::2], parts[2::2]))


def blocks(body: str) -> list[Block]:
    """The graph: block 0 is the entry."""
    starts, lines = {}, []
    for line in body.splitlines():
        if label := LABEL.match(line):
            starts[label[1]] = len(lines)
        elif found := INSTRUCTION.match(line):
            lines.append(Instruction(int(found[1], 16), found[2] or "", found[3], found[4]))
    jumps = {n for n, i in enumerate(lines) if re.match(r"BRA|EXIT|RET|BRX|JMX|JMP|KILL|BPT", i.opcode)}
    if any(re.match(r"BRX|JMX", lines[n].opcode) for n in jumps):
        raise ValueError("an indirect branch: this reader does not follow those")
    begin = sorted({0, *(n + 1 for n in jumps), *starts.values()} - {len(lines)})
    number = {start: k for k, start in enumerate(begin)}
    graph = []
    for k, start in enumerate(begin):
        end = begin[k + 1] if k + 1 < len(begin) else len(lines)
        last, follow = lines[end - 1], []
        if last.opcode.startswith("BRA"):
            follow += [number[starts[name]] for name in TARGET.findall(last.operands) if starts[name] in number]
        conditional = last.guard or last.operands.startswith(("P", "!P", "UP", "!UP", "UR")) or ".DIV" in last.opcode
        if (end - 1 not in jumps or conditional) and end in number:
            follow.append(number[end])
        graph.append(Block(lines[start:end], follow))
    return graph


def natural_loops(graph: list[Block]) -> list[tuple[int, set[int]]]:
    """Header and blocks of each, smallest first; loops of one header are one."""
    before: list[list[int]] = [[] for _ in graph]
    for k, block in enumerate(graph):
        for n in block.next:
            before[n].append(k)
    dominators = _dominators(graph, before)
    loops: dict[int, set[int]] = {}
    for k, block in enumerate(graph):
        for header in block.next:
            if header in dominators[k]:
                body = loops.setdefault(header, {header})
                todo = [k]
                while todo:
                    at = todo.pop()
                    if at not in body:
                        body.add(at)
                        todo += before[at]
    return sorted(loops.items(), key=lambda loop: len(loop[1]))


def _dominators(graph: list[Block], before: list[list[int]]) -> list[set[int]]:
    """Of blocks that the entry reaches; others have none."""
    reached, todo = set(), [0]
    while todo:
        at = todo.pop()
        if at not in reached:
            reached.add(at)
            todo += graph[at].next
    found = [set(reached) if k in reached else set() for k in range(len(graph))]
    found[0] = {0}
    changed = True
    while changed:
        changed = False
        for k in sorted(reached - {0}):
            new = {k} | set.intersection(*(found[p] for p in before[k] if p in reached))
            if new != found[k]:
                found[k], changed = new, True
    return found


def step_loop(graph: list[Block]) -> Loop | None:
    """None: no loop multiplies."""
    loops = natural_loops(graph)

    def has(body: Iterable[int], opcode: re.Pattern[str] | str) -> bool:
        return any(graph[k].has(opcode) for k in body)

    multiply = [(h, body) for h, body in loops if has(body, "HMMA")]
    exchange = [(h, body) for h, body in multiply if has(body, WAIT) and has(body, SEND)]
    if not multiply:
        return None
    header, body = exchange[0] if exchange else multiply[-1]
    inside = [(h, inner) for h, inner in loops if h != header and inner < body]
    weights, back = _weights(graph, header, body), {(k, h) for h, inner in loops for k in inner if h in graph[k].next}
    ways = _Ways(graph, header, body, weights, back)
    arrive = [k for k in body if graph[k].has(r"BAR\.ARV")]
    first = ways.longest()
    second = max((ways.longest(k) for k in arrive), key=ways.length) if arrive and not set(arrive) & set(first) else []
    return Loop(
        header=graph[header].instructions[0].address,
        body=body,
        inner=sum(1 for _, inner in inside if not has(inner, WAIT)),
        way=_from_wait([i for k in first if weights[k] for i in graph[k].instructions]),
        other_way=_from_wait([i for k in second if weights[k] for i in graph[k].instructions]),
        static=sum(len(graph[k].instructions) for k in body),
    )


def _weights(graph: list[Block], header: int, body: set[int]) -> dict[int, int]:
    """Instructions that count, block by block: none behind the last jump back to the header, none that call."""
    latches = [graph[k].instructions[-1].address for k in body if header in graph[k].next]
    end = max(a for a in latches if a >= graph[header].instructions[0].address)
    return {
        k: 0 if graph[k].instructions[0].address > end or graph[k].has("CALL") else len(graph[k].instructions)
        for k in body
    }


def _from_wait(way: list[Instruction]) -> list[Instruction]:
    """The same round, begun at its first wait."""
    first = next((n for n, i in enumerate(way) if WAIT.match(i.opcode)), 0)
    return way[first:] + way[:first]


@dataclass
class _Ways:
    """Longest ways through a loop without its back edges."""

    graph: list[Block]
    header: int
    body: set[int]
    weights: dict[int, int]
    back: set[tuple[int, int]]

    def longest(self, through: int | None = None) -> list[int]:
        if through is None:
            return self._between(self.header, None)
        return self._between(self.header, through) + self._between(through, None, min)[1:]

    def length(self, way: list[int]) -> int:
        return sum(self.weights[k] for k in way)

    def _between(self, start: int, end: int | None, choose: Callable = max) -> list[int]:
        """To `end`, or to a jump back to the header."""
        best: dict[int, tuple[int, list[int]] | None] = {}
        stack = [start]
        while stack:
            k = stack[-1]
            follow = [n for n in self.graph[k].next if n in self.body and (k, n) not in self.back] if k != end else []
            missing = [n for n in follow if n not in best]
            if missing:
                stack += missing
                continue
            stack.pop()
            if k not in best:
                arrived = k == end or (end is None and self.header in self.graph[k].next)
                rest = [found for n in follow if (found := best[n])]
                rest += [(0, [])] if arrived else []
                length, way = choose(rest, key=lambda found: found[0], default=(0, None))
                best[k] = None if way is None else (self.weights[k] + length, [k, *way])
        found = best[start]
        return found[1] if found else []


def count(way: list[Instruction]) -> dict[str, int]:
    """Instructions by class; "total" is all of them."""
    counts = {name: 0 for name in [*CLASSES, "other"]}
    for i in way:
        counts[i.kind] += 1
    return {**counts, "total": len(way)}


def chain(way: list[Instruction]) -> int:
    """The longest sequence of products of which each adds to the one before."""
    depth: dict[str, int] = {}
    for i in way:
        if i.kind == "HMMA":
            to, _, _, onto = [register.strip().split(".")[0] for register in i.operands.split(",")[:4]]
            depth[to] = depth.get(onto, 0) + 1
    return max(depth.values(), default=0)


def critical(way: list[Instruction]) -> int:
    """How many of the way, which begins at a wait, come up to its last message: others wait for these."""
    return max((n + 1 for n, i in enumerate(way) if SEND.match(i.opcode)), default=len(way))
