"""Vectors of pairs: which they are, that they add, and that a model with them still exports and explains itself."""

from __future__ import annotations

import pytest
import torch

from fused_lstm.sentiment.attribution import attribute
from fused_lstm.sentiment.exporting import export_torch
from fused_lstm.sentiment.model import BACKENDS, ModelConfig, SentimentClassifier
from fused_lstm.sentiment.tokens import PAD_ID
from fused_lstm.sentiment.word_vectors import WordVectors


def model(backend: str = "torch") -> SentimentClassifier:
    network = SentimentClassifier(ModelConfig(30, 2, embedding=6, hidden=5, pair_buckets=17), backend)
    network.initialise(torch.Generator().manual_seed(1))
    torch.nn.init.normal_(network.encoder.embedding.pairs, generator=torch.Generator().manual_seed(2))
    return network.eval()


def test_a_pair_adds_its_vector_to_its_second_word():
    vectors = WordVectors(30, 4, pairs=1000)
    tokens = torch.tensor([[5, 6, 5, 6], [6, 5, PAD_ID, PAD_ID]])
    assert torch.equal(vectors(tokens), torch.nn.functional.embedding(tokens, vectors.weight)), "they start as zeros"
    torch.nn.init.normal_(vectors.pairs)
    added = vectors(tokens) - torch.nn.functional.embedding(tokens, vectors.weight)
    torch.testing.assert_close(added[0, 1], added[0, 3])
    torch.testing.assert_close(added[0, 2], added[1, 1])
    different = [added[0, 0], added[0, 1], added[0, 2], added[1, 0]]
    assert all(not torch.allclose(a, b) for i, a in enumerate(different) for b in different[:i])
    assert not added[1, 2:].any()


def test_pairs_spread_over_all_vectors():
    """Of 65,536 pairs drawn into 4,096 vectors a hash without pattern misses none and hits none 40 times."""
    vectors = WordVectors(300, 1, pairs=4096)
    vectors(torch.cartesian_prod(torch.arange(2, 258), torch.arange(2, 258)))[:, 1].sum().backward()
    assert vectors.pairs.grad.min() >= 1
    assert vectors.pairs.grad.max() < 40


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_equals_one_by_one(backend):
    network, lengths = model(backend), torch.tensor([7, 3, 1])
    tokens = torch.randint(1, 30, (3, 7), generator=torch.Generator().manual_seed(3))
    tokens = tokens.masked_fill(torch.arange(7) >= lengths[:, None], PAD_ID)
    together = network(tokens, lengths)
    for row, length, scores in zip(tokens, lengths, together):
        torch.testing.assert_close(network(row[None, :length], length[None])[0], scores)


def test_explained_with_its_pairs():
    """Integrated gradients add up to the score less that of empty vectors, for which pairs must be part of them."""
    network, text = model(), [3, 9, 4, 4, 9]
    whole = attribute(network, [text], steps=200)[0]
    handle = network.encoder.embedding.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    with torch.no_grad():
        empty = network(torch.tensor([text]), torch.tensor([5]))[0]
    handle.remove()
    rest = whole.score - (empty[whole.target] - empty[1 - whole.target]).item()
    assert sum(whole.weights) == pytest.approx(rest, rel=1e-2)


def test_exported_with_its_pairs():
    assert export_torch(model("fused")).deviation < 1e-5
