"""csrc/cpu/memory.cpp: the pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from native_module import load

MIB = 2**20
HEADER = 64


@pytest.fixture(autouse=True)
def _empty_pool() -> Iterator[None]:
    load().trim_pool()
    yield
    load().poison_pool(False)
    load().trim_pool()


@pytest.mark.parametrize("size", [1, 63, 4096 - HEADER, 4096, 2 * MIB - HEADER, 2 * MIB, 5 * MIB + 1])
def test_blocks_are_aligned_and_their_own(size):
    m = load()
    blocks = [m.acquire(size) for _ in range(3)]
    assert len(set(blocks)) == 3 and all(block % 64 == 0 for block in blocks)
    for value, block in enumerate(blocks):
        m.fill(block, value, size)
    assert [m.content(block, size) for block in blocks] == [bytes([value]) * size for value in range(3)]
    for block in blocks:
        m.release(block)


@pytest.mark.parametrize("size", [100, 300_000, 3 * MIB])
def test_a_block_comes_back(size):
    m = load()
    block = m.acquire(size)
    m.release(block)
    assert m.acquire(size) == block
    other = m.acquire(size)
    assert other != block, "given away twice"
    m.release(block)
    m.release(other)


def test_a_block_serves_sizes_that_are_not_much_smaller():
    m = load()
    block = m.acquire(12 * MIB)
    m.release(block)
    other = m.acquire(4 * MIB)
    assert other != block
    again = m.acquire(10 * MIB)
    assert again == block
    m.release(other)
    m.release(again)
    assert m.acquire(12 * MIB) == block, "its size must not be forgotten"
    m.release(block)


def test_trimming_gives_back_what_is_idle():
    m = load()
    kept, idle = m.acquire(MIB), m.acquire(3 * MIB)
    m.fill(kept, 7, MIB)
    m.release(idle)
    assert m.trim_pool() == 4 * MIB, "3 MiB and a header, in huge pages"
    assert m.trim_pool() == 0
    assert m.content(kept, MIB) == b"\7" * MIB
    m.release(kept)
    assert m.trim_pool() == MIB + 4096


def test_the_pool_keeps_half_a_gibibyte_at_most_and_lets_the_oldest_go():
    m = load()
    m.trim_pool()
    old = m.acquire(30 * MIB)
    blocks = [m.acquire(200 * MIB) for _ in range(3)]  # address space only: nobody touches these pages
    m.release(old)
    for block in blocks:
        m.release(block)
    kept = m.trim_pool()  # two of the three; the oldest, which would have fitted beside them, went first
    assert 400 * MIB <= kept <= 405 * MIB


def test_poison():
    m = load()
    m.poison_pool(True)
    for size in (1, 1000, 3 * MIB):
        for _ in range(2):  # fresh, then from the pool
            block = m.acquire(size)
            assert m.content(block, size) == b"\xff" * size
            m.fill(block, 0, size)
            m.release(block)
    m.poison_pool(False)


def test_releasing_nothing():
    load().release(0)
