"""The classifier: padding has no influence, both LSTMs agree, masks and pooling do what they say."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from fused_lstm.sentiment.encoder import drop_words, locked_dropout, reversed_rows
from fused_lstm.sentiment.model import ModelConfig, SentimentClassifier
from fused_lstm.sentiment.pooling import POOLINGS, Pooling
from fused_lstm.sentiment.recurrent import BACKENDS, BackendError, make_layer
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
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, True), (2, False)])
def test_a_batch_of_mixed_lengths_equals_one_by_one(backend, pooling, layers, bidirectional):
    model = build(backend, pooling=pooling, layers=layers, bidirectional=bidirectional)
    tokens, lengths = ragged()
    together = model(tokens, lengths)
    alone = [model(row[None, :length], length[None]) for row, length in zip(tokens, lengths)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-13)


def test_the_sum_of_words_reaches_the_scores_without_padding():
    model = build("torch", word_sum=True)
    features = model.pooling.features
    with torch.no_grad():
        model.output.weight[:, :features] = 0  # what the LSTM says is not heard
        model.output.bias.zero_()
    tokens, lengths = ragged()
    for row, length, scores in zip(tokens, lengths, model(tokens, lengths)):
        words = model.encoder.embedding.weight[row[:length]].sum(dim=0) / length.sqrt()
        torch.testing.assert_close(scores, model.output.weight[:, features:] @ words)


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
        layer = model.encoder.layers[0]
        bias = getattr(layer, f"bias_ih_l0{suffix}") + getattr(layer, f"bias_hh_l0{suffix}")
        assert bias[17:34].eq(1.5).all()
        assert not bias[:17].any()
        assert not bias[34:].any()
    assert not model.encoder.embedding.weight[PAD_ID].any()


def test_pool_by_hand():
    steps = torch.tensor([[[1.0, -5.0], [3.0, -6.0], [0.0, 0.0]], [[-2.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
    last, lengths = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([2, 1])
    assert Pooling("max", 2)(steps, last, lengths).tolist() == [[3.0, -5.0], [-2.0, 4.0]]
    assert Pooling("mean", 2)(steps, last, lengths).tolist() == [[2.0, -5.5], [-2.0, 4.0]]
    assert Pooling("last", 2)(steps, last, lengths) is last
    concat = Pooling("concat", 2)
    assert concat.features == 6
    assert concat(steps, last, lengths).tolist() == [[1, 2, 3, -5, 2, -5.5], [3, 4, -2, 4, -2, 4]]


def test_attention_weighs_the_steps_of_each_row():
    pooling = Pooling("attention", 2)
    nn.init.eye_(pooling.inner.weight)
    nn.init.zeros_(pooling.inner.bias)
    pooling.score.weight.data = torch.tensor([[20.0, 0.0]])
    steps = torch.tensor([[[1.0, -5.0], [-3.0, -6.0], [0.0, 0.0]], [[-2.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(pooling(steps, steps[:, 0], torch.tensor([2, 1])), steps[:, 0])


def test_drop_words_spares_padding_and_has_its_rate():
    torch.manual_seed(0)
    tokens = torch.full((100, 200), 7)
    tokens[:, 150:] = PAD_ID
    dropped = drop_words(tokens, 0.3, UNKNOWN_ID)
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_weight_dropout_zeroes_recurrent_weights_in_training_alone(backend):
    layer = make_layer(backend, 3, 5, weight_dropout=0.999999)
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    without = make_layer(backend, 3, 5)
    without.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x)[0], without(x)[0])
    with torch.no_grad():
        without.weight_hh_l0.zero_()
    torch.testing.assert_close(layer.train()(x)[0], without(x)[0], rtol=0, atol=1e-6)


def test_both_lstms_draw_the_same_masks_in_training():
    sizes = {"layers": 2, "weight_dropout": 0.5, "embedding_dropout": 0.2, "layer_dropout": 0.4, "last_hidden": 5}
    fused, plain = build("fused", **sizes).train(), build("torch", **sizes).train()
    tokens, lengths = ragged()
    cotangent = torch.randn(len(tokens), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    scores = []
    for model in (fused, plain):
        torch.manual_seed(6)
        scores.append(model(tokens, lengths))
        (scores[-1] * cotangent).sum().backward()
    torch.testing.assert_close(*scores, rtol=0, atol=1e-13)
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_resets_and_carried_states_agree():
    fused, plain = (make_layer(backend, 3, 5).double() for backend in BACKENDS)
    plain.load_state_dict(fused.state_dict())
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(4, 9, 3, dtype=torch.float64, generator=generator)
    state = tuple(torch.randn(1, 4, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    resets = torch.rand(4, 9, generator=generator) < 0.2
    resets[0, 0], resets[1] = True, False
    ours, theirs = fused(x, state, resets=resets), plain(x, state, resets=resets)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="choose --lstm fused"):
        plain(x, lengths=torch.full((4,), 9), resets=resets)


def test_embedding_dropout_drops_words_not_places():
    model = build("torch", embedding_dropout=0.5).train()
    torch.manual_seed(0)
    embedded = model.encoder._embed(torch.tensor([[3, 4, 3, 5], [4, 3, 5, 5], [6, 7, 8, 9]]))
    gone = embedded.eq(0).all(dim=-1)
    assert gone[0, 0] == gone[0, 2] == gone[1, 1]
    assert gone[0, 1] == gone[1, 0]
    assert gone[0, 3] == gone[1, 2] == gone[1, 3]
    assert 0 < gone.sum() < gone.numel()


def test_backwards_reads_from_each_end():
    tokens, lengths = torch.tensor([[5, 6, 7, 8], [5, 6, 0, 9]]), torch.tensor([4, 2])
    assert reversed_rows(tokens, lengths).tolist() == [[8, 7, 6, 5], [6, 5, 0, 9]]
    forwards, backwards = build("fused", bidirectional=False), build("fused", bidirectional=False, backwards=True)
    torch.testing.assert_close(backwards(tokens, lengths), forwards(reversed_rows(tokens, lengths), lengths))


def test_regression_predicts_the_nearest_rating():
    model = build("fused", regression=True)
    model.set_ratings(["1", "2.5", "4"])
    tokens, lengths = ragged()
    value, scores = model(tokens, lengths, raw=True), model(tokens, lengths)
    assert value.shape == (7, 1)
    assert value.mean().item() == pytest.approx(2.5, abs=1)
    torch.testing.assert_close(scores, -((value - torch.tensor([[1, 2.5, 4]], dtype=torch.float64)) ** 2))
    with pytest.raises(ValueError, match="could not convert"):
        model.set_ratings(["good", "2", "3"])


def test_word_vectors_replace_the_known_rows():
    model = build("fused")
    before = model.encoder.embedding.weight.clone()
    known = torch.zeros(VOCABULARY, dtype=torch.bool)
    known[[3, 5, 9]] = True
    vectors = torch.randn(VOCABULARY, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    model.use_vectors(vectors, known)
    after = model.encoder.embedding.weight
    assert torch.equal(after[~known], before[~known])
    ratio = after[known] / vectors[known]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
    torch.testing.assert_close(after[known].std(), before[known].std())


def test_dropout_works_in_training_alone():
    model = build("torch", word_dropout=0.5)
    tokens, lengths = ragged()
    assert torch.equal(model(tokens, lengths), model(tokens, lengths))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(tokens, lengths), model(tokens, lengths))


def test_wrong_names():
    with pytest.raises(ValueError, match="pooling must be one of max, mean, last, concat, attention"):
        build("torch", pooling="sum")
    with pytest.raises(ValueError, match="backend must be one of fused, torch"):
        build("cudnn")


def test_without_the_extension_the_remedy_is_named(monkeypatch):
    package = sys.modules["fused_lstm"]
    monkeypatch.delattr(package, "FusedLSTM")
    with pytest.raises(BackendError, match="--lstm torch"):
        build("fused")
