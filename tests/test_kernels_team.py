"""csrc/cpu/team.cpp and shards.h: members meet, and together do all of the work once."""

from __future__ import annotations

import pytest
import torch
from native_module import load


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_parts_cover_everything_once(count, n):
    parts = [load().part(count, i, n) for i in range(n)]
    assert [i for begin, end in parts for i in range(begin, end)] == list(range(count))
    sizes = [end - begin for begin, end in parts]
    assert max(sizes) - min(sizes) <= 1


# wanted, threads of the host, parts it gives to each; the size of the team that comes of it
TEAMS = [(1, 4, 1, 1), (4, 1, 1, 1), (2, 2, 1, 2), (3, 8, 1, 3), (8, 3, 1, 3), (4, 4, 2, 2), (5, 5, 2, 3), (4, 4, 4, 1)]


@pytest.mark.parametrize(("wanted", "threads", "parts_each", "size"), TEAMS)
def test_members_meet(wanted, threads, parts_each, size):
    for _ in range(5):
        members = load().meet(wanted, threads, parts_each, 50)
        came = [member for member in members if member[0] >= 0]
        assert came == [(i, size, True) for i in range(size)]


def share_out(members: int, both: bool, row_tile: int, steps: int, lengths: list[int]) -> list[tuple[int, ...]]:
    """Checks that (direction, row, part of the units) is each done once; returns the shards."""
    shards = load().shards(members, both, row_tile, steps, lengths)
    done = {}
    for member, d, begin, end, index, size, barrier in shards:
        assert 0 <= begin <= end <= len(lengths) and 0 <= index < size
        for row in range(begin, end):
            parts = done.setdefault((d, row), {})
            assert parts.setdefault("size", size) == size, "members that share a row must agree how many they are"
            assert index not in parts, "done twice"
            parts[index] = member
            if size > 1:
                assert parts.setdefault("barrier", barrier) == barrier, "and meet at one barrier"
    assert set(done) == {(d, row) for d in range(1 + both) for row in range(len(lengths))}
    for parts in done.values():
        assert sum(isinstance(key, int) for key in parts) == parts["size"]
    return shards


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("members", [1, 2, 3, 4, 7])
def test_shards_cover_the_work_once(members, both):
    for batch in [0, 1, 2, 4, 5, 6, 11, 12, 13, 17, 29, 42, 64, 129]:
        for row_tile in (5, 6):
            steps = 9
            for lengths in ([steps] * batch, torch.randint(0, steps + 1, (batch,)).tolist(), [0] * batch):
                share_out(members, both, row_tile, steps, lengths)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("members", [2, 3, 4])
def test_members_of_a_team_that_meets_have_a_barrier_to_themselves(members, both):
    shards = share_out(members, both, 6, 5, [5, 5])  # too few rows to split
    for _, d, _, _, _, size, barrier in shards:
        others = {shard[6] for shard in shards if shard[1] != d}
        assert size == 1 or barrier not in others
    expected = [members] if not both else [(members + 1) // 2, members // 2]
    assert [max(s[5] for s in shards if s[1] == d) for d in range(1 + both)] == expected


@pytest.mark.parametrize("members", [2, 3, 4, 7])
def test_rows_are_split_by_steps(members):
    for _ in range(30):
        lengths = torch.randint(0, 50, (64,)).tolist()
        shards = share_out(members, False, 6, 50, lengths)
        ordered = sorted(lengths, reverse=True)
        work = [sum(ordered[begin:end]) for _, _, begin, end, _, _, _ in shards]
        assert len(work) == members and max(work) <= sum(lengths) / members + max(lengths)


def test_threads_are_used_where_they_pay():
    useful = load().useful_threads
    for allowed in (1, 2, 8):
        assert useful(1, 1, 1, 1, allowed) == 1
        assert useful(100, 64, 512, 512, allowed) == allowed
    counts = [useful(50, 1, 64, hidden, 64) for hidden in (8, 64, 256, 1024)]
    assert counts == sorted(counts) and counts[0] == 1
