"""Adversarial steps: how far vectors are moved and whereto, and that nothing else differs between the two passes."""

from __future__ import annotations

import pytest
import torch

from fused_lstm.sentiment.adversary import Adversary
from fused_lstm.sentiment.batches import NumberedTexts
from fused_lstm.sentiment.devices import make_accelerator
from fused_lstm.sentiment.model import BACKENDS, ModelConfig, SentimentClassifier
from fused_lstm.sentiment.train_settings import ClassifierTraining
from fused_lstm.sentiment.training import ClassifierTask

SIZES = {"embedding": 6, "hidden": 5, "weight_dropout": 0.2, "embedding_dropout": 0.1}


def texts(count: int = 24) -> NumberedTexts:
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 15, (count,), generator=generator).tolist()
    return NumberedTexts(
        [torch.randint(1, 20, (n,), generator=generator).tolist() for n in lengths], [i % 2 for i in range(count)]
    )


def task(backend: str = "torch", regression: bool = False, **settings) -> ClassifierTask:
    model = SentimentClassifier(ModelConfig(20, 2, regression=regression, **SIZES), backend)
    model.initialise(torch.Generator().manual_seed(1))
    chosen = ClassifierTraining(**settings)
    return ClassifierTask(model.train(), texts(), texts(), ("0", "1"), chosen, make_accelerator(chosen))


def both_losses(of: ClassifierTask) -> tuple[float, float]:
    torch.manual_seed(3)
    loss, told, _ = of.loss(of.module, torch.arange(24))
    loss.backward()
    return told.item(), 2 * of.second_loss(of.module, torch.arange(24)).item()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("regression", (False, True))
def test_a_move_of_nothing_is_the_same_pass_and_a_larger_one_costs_more(backend, regression):
    plain, unmoved = both_losses(task(backend, regression, adversarial=1e-6))
    assert unmoved == pytest.approx(plain, rel=1e-5)
    moved = [both_losses(task(backend, regression, adversarial=size))[1] for size in (0.5, 1.0, 2.0)]
    assert [plain, *moved] == sorted([plain, *moved])
    assert moved[0] > plain * 1.01


def test_without_it_nothing_is_drawn_or_added():
    of = task()
    of.loss(of.module, torch.arange(24))[0].backward()
    state = torch.get_rng_state()
    assert of.second_loss(of.module, torch.arange(24)) is None
    assert torch.equal(torch.get_rng_state(), state)
    assert not of.module.encoder.embedding._forward_hooks


def test_each_text_is_moved_along_its_gradient_by_size_times_unit():
    embedding, tokens = torch.nn.Embedding(9, 4, padding_idx=0), torch.tensor([[1, 2, 3], [4, 0, 0]])
    adversary, slope = Adversary(embedding, 2.5), torch.randn(2, 3, 4)
    slope[1, 1:] = 0  # nothing depends on padding
    with adversary.watching():
        plain = embedding(tokens)
    (plain * slope).sum().backward()
    with adversary.attacking():
        moved = embedding(tokens)
    units = [embedding.weight[words].square().mean().sqrt() for words in ([1, 2, 3], [4])]
    for text in range(2):
        torch.testing.assert_close(moved[text] - plain[text], 2.5 * units[text] * slope[text] / slope[text].norm())
    assert not embedding._forward_hooks
    assert torch.equal(embedding(tokens), plain)


def test_texts_without_a_gradient_and_frozen_vectors():
    embedding, tokens = torch.nn.Embedding(9, 4, padding_idx=0), torch.tensor([[1, 2], [3, 4]])
    embedding.weight.requires_grad_(False)
    adversary = Adversary(embedding, 1.0)
    with adversary.watching():
        plain = embedding(tokens)
    plain[0].sum().backward()
    with adversary.attacking():
        moved = embedding(tokens)
    assert not torch.equal(moved[0], plain[0])
    assert torch.equal(moved[1], plain[1])


def test_weights_learn_from_both_passes():
    of = task(adversarial=1.0)
    torch.manual_seed(3)
    of.loss(of.module, torch.arange(24))[0].backward()
    first = {name: p.grad.clone() for name, p in of.module.named_parameters()}
    of.second_loss(of.module, torch.arange(24)).backward()
    same = [name for name, p in of.module.named_parameters() if torch.equal(p.grad, first[name])]
    assert not same


def test_cropped_texts_are_parts_of_the_whole_ones():
    whole = texts()
    torch.manual_seed(5)
    rows, kept = torch.arange(len(whole)), whole.batch(torch.arange(len(whole)))
    seen = set()
    for _ in range(200):
        part = whole.batch(rows, 0.5)
        assert torch.equal(part.lengths, (kept.lengths // 2).clamp(min=1))
        for text, length, piece, short in zip(kept.tokens, kept.lengths, part.tokens, part.lengths):
            windows = text[:length].unfold(0, int(short), 1)
            starts = (windows == piece[:short]).all(dim=1).nonzero()
            assert len(starts)
            assert not piece[short:].any()
            seen.update((int(length), int(start)) for start in starts)
    longest = int(kept.lengths.max())
    assert {start for length, start in seen if length == longest} == set(range(longest - longest // 2 + 1))
