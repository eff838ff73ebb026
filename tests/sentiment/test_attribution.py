"""Weights of tokens: they add up, sit on the right places, and point at the words that tell."""

from __future__ import annotations

import io

import pytest
import torch

from fused_lstm.sentiment.attribution import attribute
from fused_lstm.sentiment.highlight import coloured, pieces, strongest, uses_colour
from fused_lstm.sentiment.predictor import explain_texts

TEXTS = [[2, 4, 7], [3], [5, 6, 8, 2, 2, 3, 1]]


def log_odds(model, text, scale=1.0):
    """The score that is taken apart, with the word vectors scaled."""
    weight = model.network.embedding.weight if hasattr(model.network, "embedding") else None
    weight = model.network.encoder.embedding.weight if weight is None else weight
    kept = weight.data.clone()
    try:
        weight.data.mul_(scale)
        shares = torch.softmax(model.network(torch.tensor([text]), torch.tensor([len(text)])), dim=1)[0]
    finally:
        weight.data.copy_(kept)
    return torch.log(shares / (1 - shares)).detach()


def test_integrated_gradients_add_up_to_the_score(small_model):
    for text, told in zip(TEXTS, attribute(small_model.network, TEXTS, steps=200)):
        assert len(told.weights) == len(text)
        assert told.score == pytest.approx(log_odds(small_model, text).max().item(), abs=1e-5)
        start = log_odds(small_model, text, scale=0.0)[told.target].item()
        assert sum(told.weights) == pytest.approx(told.score - start, abs=2e-3)


def test_gradient_times_input_is_the_slope_along_the_vectors(small_model):
    step = 1e-2
    for text, told in zip(TEXTS, attribute(small_model.network, TEXTS)):
        up, down = (log_odds(small_model, text, 1 + sign * step)[told.target].item() for sign in (1, -1))
        assert sum(told.weights) == pytest.approx((up - down) / (2 * step), abs=2e-3)


def test_neighbours_in_a_batch_do_not_matter_and_nothing_is_left_behind(small_model):
    together = attribute(small_model.network, TEXTS)
    for text, told in zip(TEXTS, together):
        assert attribute(small_model.network, [text])[0].weights == pytest.approx(told.weights, abs=1e-6)
    assert all(parameter.grad is None for parameter in small_model.network.parameters())
    assert not any(module._forward_hooks for module in small_model.network.modules())


def test_explanations_of_texts(small_model):
    texts = ["A good FILM!", "好吃!", "", " ".join(["good"] * 20), "Unknown words"]
    told = explain_texts(small_model, texts)
    assert told[0].tokens == ("a", "good", "film", "!")
    assert told[1].tokens == ("好", "吃", "!")
    assert told[2].tokens == told[2].weights == ()
    assert len(told[3].weights) == 12  # as many as the model reads
    for text, explanation in zip(texts, told):
        assert "".join(piece for piece, _ in explanation.pieces) == text
        assert len(explanation.weights) == len(explanation.tokens)
        if explanation.weights:
            assert max(abs(weight) for _, weight in explanation.pieces) == pytest.approx(1)
    assert explain_texts(small_model, []) == []


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("It\u2019s GOOD", ["it's", "good"], [("It\u2019s", 0.5), (" ", 0), ("GOOD", 1.0)]),
        ("味道很好。", ["味", "好"], [("味", 0.5), ("道很", 0), ("好", 1.0), ("。", 0)]),
        ("a\nb!", ["a", " ", "b", "!"], [("a", 0.25), ("\n", 0.5), ("b", 0.75), ("!", 1.0)]),
        ("İx good", ["nowhere", "good"], [("İx ", 0), ("good", 1.0)]),
        ("so good", ["\u2581so", "\u2581", "\u2581go", "od"], [("so", 0.25), (" ", 0), ("go", 0.75), ("od", 1.0)]),
        ("cafe\u0301", ["caf\u00e9"], [("caf\u00e9", 1.0)]),
        ("", [], []),
    ],
)
def test_pieces(text, tokens, expected):
    weights = [(i + 1) / max(1, len(tokens)) for i in range(len(tokens))]
    assert pieces(text, tokens, weights) == expected


def test_colours_show_sign_and_strength():
    text = coloured([("fine", 1.0), (" and ", 0.0), ("dull", -0.4), ("er", 0.1)])
    assert text == "\x1b[48;5;75;38;5;16mfine\x1b[0m and \x1b[48;5;223;38;5;16mdull\x1b[0mer"
    assert strongest(["a", "b", "c"], [0.1, -2.0, 1.0]) == "b -2.00, c +1.00, a +0.10"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert uses_colour(Terminal()) and not uses_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not uses_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not uses_colour(Terminal())
