"""Batches hold every text once, rightly padded, neighbours of similar length."""

import torch

from fused_lstm.sentiment.batches import NumberedTexts
from fused_lstm.sentiment.splitmix import SplitMix64


def texts(count):
    stream = SplitMix64(4)
    return [[stream.below(90) + 1 for _ in range(1 + stream.below(63))] for _ in range(count)]


def check_complete(batches, lists, labels):
    seen = []
    for batch in batches:
        for tokens, length, label, row in zip(batch.tokens, batch.lengths, batch.labels, batch.rows):
            assert tokens[:length].tolist() == lists[row]
            assert not tokens[length:].any()
            assert label == labels[row]
            seen.append(int(row))
        assert batch.tokens.shape[1] == batch.lengths.max()
    assert sorted(seen) == list(range(len(lists)))


def test_every_text_once_and_padded_with_zeros():
    lists = texts(129)
    labels = [i % 3 for i in range(129)]
    numbered = NumberedTexts(lists, labels)
    assert len(numbered) == 129
    check_complete(numbered.in_order_of_length(17), lists, labels)
    check_complete(numbered.shuffled(17, torch.Generator().manual_seed(1)), lists, labels)


def test_order_of_length():
    numbered = NumberedTexts(texts(129), [0] * 129)
    lengths = [length for batch in numbered.in_order_of_length(17) for length in batch.lengths]
    assert lengths == sorted(lengths)


def test_little_padding_and_another_order_each_time():
    lists = texts(1000)
    numbered = NumberedTexts(lists, [0] * 1000)
    generator = torch.Generator().manual_seed(1)
    first, second = (list(numbered.shuffled(16, generator)) for _ in range(2))
    assert sum(b.tokens.numel() for b in first) < 1.1 * sum(map(len, lists))
    assert [b.rows.tolist() for b in first] != [b.rows.tolist() for b in second]
    again = list(numbered.shuffled(16, torch.Generator().manual_seed(1)))
    assert [b.rows.tolist() for b in first] == [b.rows.tolist() for b in again]
    widths = [b.tokens.shape[1] for b in first]
    assert widths != sorted(widths)


def test_one_text():
    (batch,) = NumberedTexts([[5]], [1]).shuffled(64, torch.Generator())
    assert batch.tokens.tolist() == [[5]]
