"""Batches hold every text once, rightly padded, neighbours of similar length."""

import torch

from fused_lstm.sentiment.batches import NumberedTexts
from fused_lstm.sentiment.order import rows_by_length, shuffled_rows
from fused_lstm.sentiment.splitmix import SplitMix64


def texts(count):
    stream = SplitMix64(4)
    return [[stream.below(90) + 1 for _ in range(1 + stream.below(63))] for _ in range(count)]


def shuffled(numbered, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    return map(numbered.batch, shuffled_rows(numbered.lengths, batch_size, generator))


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
    check_complete(map(numbered.batch, rows_by_length(numbered.lengths, 17, 600)), lists, labels)
    check_complete(shuffled(numbered, 17, 1), lists, labels)


def test_order_of_length_within_a_number_of_tokens():
    numbered = NumberedTexts(texts(129), [0] * 129)
    batches = [numbered.batch(rows) for rows in rows_by_length(numbered.lengths, 17, 600)]
    lengths = [length for batch in batches for length in batch.lengths]
    assert lengths == sorted(lengths)
    assert max(len(b.rows) for b in batches) == 17
    assert max(b.tokens.numel() for b in batches) <= 600
    assert [len(rows) for rows in rows_by_length(torch.tensor([900, 1]), 17, 600)] == [1, 1]


def test_little_padding_and_another_order_each_time():
    lists = texts(1000)
    numbered = NumberedTexts(lists, [0] * 1000)
    first, second = (list(shuffled(numbered, 16, seed)) for seed in (1, 2))
    assert sum(b.tokens.numel() for b in first) < 1.1 * sum(map(len, lists))
    assert [b.rows.tolist() for b in first] != [b.rows.tolist() for b in second]
    again = list(shuffled(numbered, 16, 1))
    assert [b.rows.tolist() for b in first] == [b.rows.tolist() for b in again]
    widths = [b.tokens.shape[1] for b in first]
    assert widths != sorted(widths)


def test_one_text():
    (batch,) = shuffled(NumberedTexts([[5]], [1]), 64, 1)
    assert batch.tokens.tolist() == [[5]]


def test_long_texts_come_in_small_batches():
    lists = texts(129)
    numbered = NumberedTexts(lists, [0] * 129)
    batches = [numbered.batch(rows) for rows in shuffled_rows(numbered.lengths, 17, torch.Generator(), 100)]
    check_complete(batches, lists, [0] * 129)
    assert all(batch.tokens.numel() <= 100 for batch in batches)
    assert max(len(batch.labels) for batch in batches) > 5
    assert all(len(rows) == 1 for rows in shuffled_rows(numbered.lengths, 17, torch.Generator(), 1))
