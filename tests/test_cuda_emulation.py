"""csrc/cuda/emulator.h and primitives_emulated.h: the rules hold, and whoever breaks one is told where."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

SEEDS = range(12)  # every kind of schedule four times


def neighbours(blocks: int, threads: int, rounds: int) -> np.ndarray:
    start = np.arange(threads) + 100 * np.arange(blocks)[:, None]
    return np.roll(start, -rounds, axis=1).ravel()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_block_meets(emulation, seed):
    emulation.options(seed)
    out = emulation.small("neighbours", clusters=2, cluster_size=2, threads=96, rounds=3)
    np.testing.assert_array_equal(out, neighbours(4, 96, 3))


@pytest.mark.parametrize("seed", SEEDS)
def test_warps_hand_over(emulation, seed):
    emulation.options(seed)
    out = emulation.small("handing_over", threads=128).reshape(4, 32)[1:]
    np.testing.assert_array_equal(out, 1000 * np.arange(1, 4)[:, None] + np.arange(32))


def ring(clusters: int, size: int, threads: int, rounds: int) -> np.ndarray:
    rank = (np.arange(size) - rounds) % size
    values = 1000 * np.arange(clusters)[:, None] + 10 * rank + rounds
    return np.repeat(values.ravel(), threads)


@pytest.mark.parametrize("size", [1, 2, 3, 16])
@pytest.mark.parametrize("seed", SEEDS[:6])
def test_pushes_reach_the_peer(emulation, seed, size):
    emulation.options(seed)
    out = emulation.small("ring", clusters=2, cluster_size=size, threads=32, rounds=5)
    np.testing.assert_array_equal(out, ring(2, size, 32, 5))
    assert emulation.trace()["pushes"] == 2 * size * 32 * 5


@pytest.mark.parametrize("seed", SEEDS)
def test_flags_order_blocks_of_a_cooperative_launch(emulation, seed):
    emulation.options(seed)
    out = emulation.small("relay", clusters=7, threads=32, cooperative=True)[:7]
    np.testing.assert_array_equal(out, np.cumsum(np.arange(7)))


def passing_on(blocks: int, threads: int) -> np.ndarray:
    block, me = np.arange(blocks)[:, None], np.arange(threads)
    return ((me + 4 * block) % threads + block).ravel()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_block_publishes_reaches_the_others(emulation, seed):
    emulation.options(seed)
    out = emulation.small("passing_on", clusters=5, threads=64, cooperative=True)
    np.testing.assert_array_equal(out, passing_on(5, 64))


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_arrive_when_waited_for(emulation, seed):
    emulation.options(seed)
    out = emulation.small("copied", clusters=16, threads=32, rounds=4)[: 4 * 32 * 4].reshape(4, 32, 4)
    np.testing.assert_array_equal(out, np.broadcast_to(1 + np.arange(16).reshape(4, 1, 4), out.shape))


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_a_seed_repeats(emulation):
    def run(seed: int) -> dict[str, int]:
        emulation.options(seed)
        emulation.small("ring", cluster_size=3, threads=64, rounds=4)
        return {key: value for key, value in emulation.trace().items() if key != "launches"}

    traces = [run(seed) for seed in SEEDS]
    assert traces == [run(seed) for seed in SEEDS]
    assert len({trace["order"] for trace in traces}) == len(traces)


# --- the warp's operations against numpy ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "depth", "bits"), [("bfloat16", 16, 16), ("float16", 16, 13), ("float32", 8, 13)], ids=str
)
def test_product(emulation, dtype, depth, bits):
    """`bits` of the mantissa are cut off beforehand, so that operands and products are exact."""

    def operand(*shape: int) -> np.ndarray:
        drawn = torch.randn(shape, dtype=torch.float32).numpy()
        return (drawn.view(np.uint32) >> bits << bits).view(np.float32)

    left, right = operand(16, depth), operand(depth, 8)
    expected = 1 + left.astype(np.float64) @ right.astype(np.float64)
    np.testing.assert_allclose(emulation.product(dtype, left, right), expected, rtol=1e-6, atol=1e-5)


def test_tf32_products_do_not_see_the_lower_bits(emulation):
    left, right = torch.randn(16, 8).numpy(), torch.randn(8, 8).numpy()
    cut = [(x.view(np.uint32) >> 13 << 13).view(np.float32) for x in (left, right)]
    full, short = emulation.product("float32", left, right), emulation.product("float32", *cut)
    np.testing.assert_array_equal(full, short)


def test_matrices(emulation):
    words = np.arange(256, dtype=np.uint16)
    rows = words.reshape(4, 8, 4, 2)  # matrix, row, pair, value
    pairs = (rows[..., 0] | rows[..., 1].astype(np.uint32) << 16).reshape(4, 32).T
    np.testing.assert_array_equal(emulation.matrices(words), pairs.reshape(16, 2, 4)[:, ::-1].reshape(32, 4))


# --- mistakes ---------------------------------------------------------------------------------------------------------


def caught(emulation: ModuleType, expected: np.ndarray, name: str, seeds: range = SEEDS, **arguments: int) -> list[str]:
    """What was noticed under each seed: an error's text, "wrong", or "" where the result is right."""
    noticed = []
    for seed in seeds:
        emulation.options(seed, arguments.get("forgotten", []), arguments.get("push_shift", 0))
        shape = {k: v for k, v in arguments.items() if k not in ("forgotten", "push_shift")}
        try:
            right = np.array_equal(emulation.small(name, **shape), expected)
            noticed.append("" if right else "wrong")
        except emulation.Error as error:
            noticed.append(str(error))
    return noticed


def test_a_missing_block_barrier_is_caught_under_every_seed(emulation):
    noticed = caught(emulation, neighbours(1, 96, 3), "neighbours", forgotten=["block_sync"], threads=96, rounds=3)
    assert all(noticed)
    assert any("shared_load: byte" in text and "was never written" in text for text in noticed)


def test_a_missing_named_barrier_is_caught(emulation):
    expected = emulation.small("handing_over", threads=128)
    noticed = caught(emulation, expected, "handing_over", forgotten=["named_sync"], threads=128)
    assert sum(map(bool, noticed)) >= len(SEEDS) * 2 // 3


@pytest.mark.parametrize("forgotten", ["mbarrier_wait", "cluster_sync", "mbarrier_expect"])
def test_a_forgotten_step_of_the_exchange_is_caught(emulation, forgotten):
    noticed = caught(emulation, ring(1, 3, 32, 5), "ring", forgotten=[forgotten], cluster_size=3, threads=32, rounds=5)
    assert sum(map(bool, noticed)) >= len(SEEDS) * 2 // 3


@pytest.mark.parametrize("shift", [-16, 16, 32, 8, 4096])
def test_a_push_to_the_wrong_place_is_caught_under_every_seed(emulation, shift):
    noticed = caught(emulation, ring(1, 2, 32, 3), "ring", push_shift=shift, cluster_size=2, threads=32, rounds=3)
    assert all(noticed)


def test_a_missing_flag_is_caught(emulation):
    expected = np.cumsum(np.arange(5))
    arguments = {"clusters": 5, "threads": 32, "cooperative": True}
    out = []
    for seed in SEEDS:
        emulation.options(seed, ["flag_wait"])
        out.append(np.array_equal(emulation.small("relay", **arguments)[:5], expected))
    assert not all(out)


@pytest.mark.parametrize("forgotten", ["flag_wait", "flag_release", "block_sync"])
def test_a_forgotten_step_of_publishing_is_caught(emulation, forgotten):
    arguments = {"clusters": 5, "threads": 64, "cooperative": True}
    noticed = caught(emulation, passing_on(5, 64), "passing_on", forgotten=[forgotten], **arguments)
    assert sum(map(bool, noticed)) >= len(SEEDS) * 2 // 3


def test_a_missing_wait_for_a_copy_is_caught_under_every_seed(emulation):
    expected = np.repeat(1 + np.arange(4), 32)
    noticed = caught(emulation, expected, "copied", forgotten=["copy_wait"], clusters=4, threads=32)
    assert all("shared_load: byte" in text and "still being copied" in text for text in noticed)


def test_blocks_that_need_not_be_resident_must_not_be_waited_for(emulation):
    noticed = []
    for seed in SEEDS:
        emulation.options(seed)
        emulation.small("waits_for_the_last", clusters=6, threads=32, cooperative=True)
        try:
            emulation.small("waits_for_the_last", clusters=6, threads=32)
        except emulation.Error as error:
            noticed.append(str(error))
    assert len(noticed) >= len(SEEDS) // 2
    assert all("deadlock" in text and "not resident" in text and "flag_wait" in text for text in noticed)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("half_of_a_block", {"threads": 32}, "deadlock: 16 threads of block 0 at block_sync"),
        ("diverged", {"threads": 32}, "the warp has diverged: "),
        ("out_of_range", {"rounds": 1000}, " lie outside the 4096 bytes of shared memory"),
        ("misaligned", {}, "shared_store: byte 2 of shared memory is not aligned to 4"),
        ("stores_into_an_mbarrier", {}, "shared_store: byte 12 of shared memory belongs to an mbarrier"),
        ("copies_into_what_is_copied", {}, "copy_async: byte 0 of shared memory is still being copied"),
        ("two_counts", {}, "named_sync: some expect"),
        ("neighbours", {"threads": 48}, "launch: bad thread count"),
        ("neighbours", {"cluster_size": 17}, "launch: bad cluster size"),
        ("neighbours", {"shared_bytes": 228 * 1024}, "launch: too much shared memory"),
    ],
)
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_a_broken_rule_is_named(emulation, seed, name, arguments, message):
    emulation.options(seed)
    with pytest.raises(emulation.Error, match=".") as error:
        emulation.small(name, **arguments)
    assert message in str(error.value)


def test_errors_say_who(emulation):
    with pytest.raises(emulation.Error, match=r"\(cluster 0, block 0 of it, thread \d+\)"):
        emulation.small("out_of_range", rounds=1000)
    np.testing.assert_array_equal(emulation.small("neighbours"), neighbours(1, 64, 1))  # the next launch starts afresh
