"""The classifier: padding has no influence, both LSTMs agree, masks and pooling do what they say."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from fused_lstm.sentiment.model import (
    BACKENDS,
    POOLINGS,
    BackendError,
    ModelConfig,
    SentimentClassifier,
    drop_words,
    locked_dropout,
    pool,
)
from fused_lstm.sentiment.tokens import PAD_ID, UNKNOWN_ID

VOCABULARY = 40


def build(backend: str, seed: int = 1, **sizes) -> SentimentClassifier:
    model = SentimentClassifier(ModelConfig(VOCABULARY, 3, **{"embedding": 9, "hidden": 17, **sizes}), backend)
    model.initialise(torch.Generator().manual_seed(seed))
    return model.double().eval()


def ragged(rows: int = 7, longest: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens with noise in place of padding, lengths from 1 to ``longest``, in no order."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
    lengths[rows // 2] = longest
    return torch.randint(1, VOCABULARY, (rows, longest), generator=generator), lengths


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, True), (2, True), (2, False)])
def test_a_batch_of_mixed_lengths_equals_one_by_one(backend, pooling, layers, bidirectional):
    model = build(backend, pooling=pooling, layers=layers, bidirectional=bidirectional)
    tokens, lengths = ragged()
    together = model(tokens, lengths)
    alone = [model(row[None, :length], length[None]) for row, length in zip(tokens, lengths)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_scores_use_the_whole_text(backend):
    """The mirror image of the test above: a changed last or first word must change the scores."""
    model = build(backend, pooling="last")
    tokens, lengths = ragged()
    before = model(tokens, lengths)
    for place in (torch.zeros_like(lengths), lengths - 1):
        changed = tokens.clone()
        rows = torch.arange(len(tokens))
        changed[rows, place] = changed[rows, place] % (VOCABULARY - 1) + 1
        assert ((model(changed, lengths) - before).abs().amax(dim=1) > 1e-6).all()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, True), (2, False)])
def test_both_lstms_agree_with_shared_parameters(pooling, layers, bidirectional):
    sizes = {"pooling": pooling, "layers": layers, "bidirectional": bidirectional}
    fused, plain = build("fused", seed=1, **sizes), build("torch", seed=2, **sizes)
    plain.load_state_dict(fused.state_dict())
    tokens, lengths = ragged()
    cotangent = torch.randn(len(tokens), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for model in (fused, plain):
        (model(tokens, lengths) * cotangent).sum().backward()
    torch.testing.assert_close(fused(tokens, lengths), plain(tokens, lengths), rtol=0, atol=1e-13)
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
        assert ours.grad.any(), name


def test_the_same_seed_initialises_both_alike():
    fused, plain = build("fused"), build("torch")
    assert fused.state_dict().keys() == plain.state_dict().keys()
    for name, value in fused.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


def test_initialise_opens_the_forget_gate_and_reaches_every_parameter():
    model = SentimentClassifier(ModelConfig(VOCABULARY, 3, embedding=9, hidden=17, forget_bias=1.5), "torch")
    for parameter in model.parameters():
        nn.init.constant_(parameter, float("nan"))
    model.initialise(torch.Generator().manual_seed(1))
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    for suffix in ("", "_reverse"):
        bias = getattr(model.lstm, f"bias_ih_l0{suffix}") + getattr(model.lstm, f"bias_hh_l0{suffix}")
        assert bias[17:34].eq(1.5).all()
        assert not bias[:17].any()
        assert not bias[34:].any()
    assert not model.embedding.weight[PAD_ID].any()


def test_pool_by_hand():
    steps = torch.tensor([[[1.0, -5.0], [3.0, -6.0], [9.0, 9.0]], [[-2.0, 4.0], [8.0, 8.0], [8.0, 8.0]]])
    last, lengths = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([2, 1])
    assert pool(steps, last, lengths, "max").tolist() == [[3.0, -5.0], [-2.0, 4.0]]
    assert pool(steps, last, lengths, "mean").tolist() == [[2.0, -5.5], [-2.0, 4.0]]
    assert pool(steps, last, lengths, "last") is last


def test_drop_words_spares_padding_and_has_its_rate():
    torch.manual_seed(0)
    tokens = torch.full((100, 200), 7)
    tokens[:, 150:] = PAD_ID
    dropped = drop_words(tokens, 0.3)
    assert dropped[:, 150:].eq(PAD_ID).all()
    words = dropped[:, :150]
    assert set(words.unique().tolist()) == {UNKNOWN_ID, 7}
    assert words.eq(UNKNOWN_ID).double().mean().item() == pytest.approx(0.3, abs=0.02)


def test_locked_dropout_uses_one_mask_for_all_steps_of_a_row():
    torch.manual_seed(0)
    dropped = locked_dropout(torch.ones(50, 6, 40), 0.25, training=True)
    assert (dropped == dropped[:, :1]).all()
    assert dropped[:, 0].eq(0).double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert dropped.max().item() == pytest.approx(4 / 3)
    assert not torch.equal(dropped[0], dropped[1])
    same = torch.ones(2, 3, 4)
    assert locked_dropout(same, 0.25, training=False) is same


def test_dropout_works_in_training_alone():
    model = build("torch", word_dropout=0.5)
    tokens, lengths = ragged()
    assert torch.equal(model(tokens, lengths), model(tokens, lengths))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(tokens, lengths), model(tokens, lengths))


def test_wrong_names():
    with pytest.raises(ValueError, match="pooling must be one of max, mean, last"):
        build("torch", pooling="sum")
    with pytest.raises(ValueError, match="backend must be one of fused, torch"):
        build("cudnn")


def test_without_the_extension_the_remedy_is_named(monkeypatch):
    package = sys.modules["fused_lstm"]
    monkeypatch.delattr(package, "FusedLSTM")
    with pytest.raises(BackendError, match="--lstm torch"):
        build("fused")
