"""Language models: streams lose nothing, state is carried and cut, toy models learn, resume exactly, and fine-tune."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fused_lstm.sentiment.checkpoints import Checkpoints
from fused_lstm.sentiment.language_model import NO_TARGET, SOFTMAXES, LanguageModel, LanguageModelConfig
from fused_lstm.sentiment.pretraining import LanguageModelTask, perplexity, pretrain
from fused_lstm.sentiment.recurrent import BACKENDS
from fused_lstm.sentiment.splitmix import SplitMix64
from fused_lstm.sentiment.streams import Texts, windows
from fused_lstm.sentiment.train_settings import TrainSettings

WORDS = 12
SETTINGS = TrainSettings(epochs=3, batch_size=4, lr=2e-2, schedule="one-cycle")
BPTT = 11


def cycles(count: int, seed: int = 5) -> list[list[int]]:
    """Texts in which each word but the first follows from the one before."""
    stream = SplitMix64(seed)
    starts = [(stream.below(WORDS - 2), 3 + stream.below(20)) for _ in range(count)]
    return [[2 + (start + step) % (WORDS - 2) for step in range(length)] for start, length in starts]


def build(backend: str = "fused", **more) -> LanguageModel:
    config = LanguageModelConfig(WORDS, embedding=10, hidden=14, layers=2, **more)
    return LanguageModel(config, backend)


@pytest.mark.parametrize("backwards", [False, True])
def test_streams_hold_every_text_and_its_borders(backwards):
    lists = cycles(20)
    texts = Texts(lists, backwards)
    streams = texts.streams(1, torch.Generator().manual_seed(1))
    borders = streams.resets[0].nonzero().flatten().tolist()
    ends = [*borders[1:], streams.tokens.shape[1]]
    found = [streams.tokens[0, a:b].tolist() for a, b in zip(borders, ends)]
    assert sorted(found) == sorted(text[::-1] if backwards else text for text in lists)
    assert found != [text[::-1] if backwards else text for text in lists]
    for a, b in zip(borders, ends):
        assert streams.targets[0, a:b].tolist() == [*streams.tokens[0, a + 1 : b].tolist(), NO_TARGET]
    several = texts.streams(4, torch.Generator().manual_seed(1))
    assert torch.equal(several.tokens.flatten(), streams.tokens[0, : several.tokens.numel()])
    assert several.targets[:, -1].eq(NO_TARGET).all()


def test_windows_cover_the_streams_with_other_borders_each_time():
    first, second = (windows(1, 1000, 20, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert first != second
    for each in (first, second):
        assert [w.start for w in each] == [0, *(w.start + w.length for w in each[:-1])]
        assert each[-1].start + each[-1].length in (999, 1000)
        assert 5 <= min(w.length for w in each[:-1]) < 20 < max(w.length for w in each) < 50


@pytest.mark.parametrize("backend", BACKENDS)
def test_windows_with_carried_state_equal_texts_one_by_one(backend):
    """Losses over the streams in windows are those of each text alone: nothing is lost at borders of either kind."""
    model = build(backend)
    model.initialise(torch.Generator().manual_seed(1))
    model.double().eval()
    texts = Texts(cycles(30))
    streams = texts.streams(1, torch.Generator().manual_seed(2))
    states, total = None, 0.0
    with torch.no_grad():
        for _, start, length in windows(1, texts.steps(1), BPTT, torch.Generator().manual_seed(3)):
            inside = slice(start, start + length)
            loss, _, states = model(
                streams.tokens[:, inside], streams.targets[:, inside], states, streams.resets[:, inside]
            )
            total += loss.item()
    words = int((streams.targets != NO_TARGET).sum())
    assert math.exp(total / words) == pytest.approx(perplexity(model, texts), rel=1e-9)


def test_both_lstms_draw_the_same_masks():
    fused, plain = (build(backend).double().train() for backend in BACKENDS)
    fused.initialise(torch.Generator().manual_seed(1))
    plain.load_state_dict(fused.state_dict())
    streams = Texts(cycles(30)).streams(3, torch.Generator().manual_seed(2))
    results = []
    for model in (fused, plain):
        torch.manual_seed(3)
        loss, penalty, _ = model(streams.tokens, streams.targets, None, streams.resets)
        assert penalty > 0
        (loss + penalty).backward()
        results.append((loss, penalty))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=0)
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_learns_what_follows(softmax):
    model, lines = build(softmax=softmax), []
    dev = Texts(cycles(30, seed=9))
    result = pretrain(model, Texts(cycles(200)), dev, SETTINGS, BPTT, lambda m: lines.append(m.line()))
    best = result.history[result.best_epoch - 1]
    assert best.dev_perplexity < (2 if softmax == "full" else 4)  # 10 without any knowledge
    assert perplexity(model, dev) == pytest.approx(best.dev_perplexity, rel=1e-5)
    assert "words/s" in lines[0]


def test_the_output_shares_the_word_vectors():
    assert sum(p.numel() for p in build().parameters()) == sum(
        p.numel() for p in build().encoder.parameters()
    ) + WORDS  # fmt: skip


class Killed(BaseException):
    pass


@pytest.mark.parametrize("averaging", ["ntasgd", "swa"])
def test_resumes_in_the_middle_of_a_text_with_the_same_bits(tmp_path, monkeypatch, averaging):
    settings = replace(SETTINGS, averaging=averaging, optimizer="sgd", lr=1.0, average_patience=1, clip=0.25)
    train, dev = Texts(cycles(200)), Texts(cycles(30, seed=9))

    def run(folder) -> tuple[torch.Tensor, int | None]:
        model = build()
        result = pretrain(model, train, dev, settings, BPTT, checkpoints=Checkpoints(folder, {}, steps=4))
        return torch.cat([p.detach().flatten() for p in model.parameters()]), result.resumed_at

    whole, _ = run(tmp_path / "whole")
    step = LanguageModelTask.loss
    for limit in (3, 30, 75, 21):
        left = iter(range(limit))

        def dying(self, model, work, left=left):
            if next(left, None) is None:
                raise Killed
            return step(self, model, work)

        monkeypatch.setattr(LanguageModelTask, "loss", dying)
        torch.rand(limit)
        with pytest.raises(Killed):
            run(tmp_path / "killed")
    monkeypatch.setattr(LanguageModelTask, "loss", step)
    weights, resumed_at = run(tmp_path / "killed")
    assert resumed_at > 75
    assert torch.equal(weights, whole)
