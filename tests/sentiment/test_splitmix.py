"""The random stream is the published one."""

from collections import Counter

from fused_lstm.sentiment.splitmix import SplitMix64


def test_published_values():
    stream = SplitMix64(1234567)
    assert [stream.next() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_only_the_low_64_bits_of_the_seed_count():
    assert SplitMix64(-1).next() == SplitMix64((1 << 70) - 1).next()


def test_sample_takes_different_places_and_reaches_all():
    stream = SplitMix64(1)
    items = ["a", "b", "c", "d"]
    draws = [tuple(stream.sample(items, 2)) for _ in range(600)]
    assert all(first != second for first, second in draws)
    counts = Counter(draws)
    assert len(counts) == 12
    assert min(counts.values()) > 20


def test_chance_has_its_probability():
    stream = SplitMix64(2)
    hits = sum(stream.chance(0.2) for _ in range(20_000))
    assert abs(hits / 20_000 - 0.2) < 5 * (0.2 * 0.8 / 20_000) ** 0.5
    assert not any(stream.chance(0.0) for _ in range(100))
    assert all(stream.chance(1.0) for _ in range(100))
