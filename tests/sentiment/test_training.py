"""The loop learns, keeps the best epoch, repeats itself bit for bit, and survives Ctrl-C."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from fused_lstm.sentiment.batches import NumberedTexts
from fused_lstm.sentiment.devices import DeviceError
from fused_lstm.sentiment.model import BACKENDS, ModelConfig, SentimentClassifier
from fused_lstm.sentiment.predictor import number_examples
from fused_lstm.sentiment.tokens import Vocabulary, tokenize
from fused_lstm.sentiment.training import ClassifierTraining, TrainingError, evaluate, fit, predict

from .conftest import easy_examples

CLASSES = ("bad", "good")
SETTINGS = ClassifierTraining(epochs=3, batch_size=16, lr=2e-2)


@pytest.fixture(scope="module")
def data():
    """Vocabulary size, train and dev."""
    examples = easy_examples(660)
    vocabulary = Vocabulary.build((tokenize(e.text) for e in examples[:600]), min_count=2)
    train, dev = (number_examples(part, vocabulary, CLASSES, 20) for part in (examples[:600], examples[600:]))
    return len(vocabulary), train, dev


def build(size: int, backend: str = "torch") -> SentimentClassifier:
    return SentimentClassifier(ModelConfig(size, 2, embedding=12, hidden=10, dropout=0.2), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_learns_an_easy_task(data, backend):
    size, train, dev = data
    model, lines = build(size, backend), []
    result = fit(model, train, dev, CLASSES, SETTINGS, lambda metrics: lines.append(metrics.line()))
    loss, evaluation, predicted = evaluate(model, dev, CLASSES)
    assert evaluation.accuracy > 0.95
    assert evaluation.accuracy == (predicted == dev.labels).double().mean().item()
    best = result.history[result.best_epoch - 1]
    assert (best.dev_accuracy, best.dev_loss) == (evaluation.accuracy, pytest.approx(loss))
    assert not result.interrupted
    assert not model.training
    assert len(lines) == 3
    assert "samples/s" in lines[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_seed_same_bits(data, backend):
    size, train, dev = data
    states = []
    for seed in (1, 1, 2):
        torch.rand(seed)  # the caller's random state must not matter
        model = build(size, backend)
        fit(model, train, dev, CLASSES, replace(SETTINGS, epochs=2, seed=seed))
        states.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_callers_random_state_is_left_alone(data):
    size, train, dev = data
    model = build(size)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(model, train, dev, CLASSES, replace(SETTINGS, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_stops_without_progress_and_keeps_the_best_weights(data):
    """After epoch 1 the weights are spoilt beyond repair, so that dev can only get worse."""
    size, train, dev = data
    model, states = build(size), []

    def on_epoch(metrics):
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        with torch.no_grad():
            model.output.weight.zero_()
            model.output.bias.copy_(torch.tensor([1e4, -1e4]))

    result = fit(model, train, dev, CLASSES, replace(SETTINGS, epochs=9, patience=2), on_epoch)
    assert result.best_epoch == 1
    assert len(result.history) == 3
    for name, value in model.state_dict().items():
        assert torch.equal(value, states[0][name]), name


def test_interrupt_between_epochs_keeps_the_best(data):
    size, train, dev = data
    model, states = build(size), []

    def on_epoch(metrics):
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        raise KeyboardInterrupt

    result = fit(model, train, dev, CLASSES, SETTINGS, on_epoch)
    assert result.interrupted
    assert (result.best_epoch, len(result.history)) == (1, 1)
    assert all(torch.equal(value, states[0][name]) for name, value in model.state_dict().items())


def interrupt_after(model: SentimentClassifier, calls: int) -> None:
    left = iter(range(calls))

    def hook(*_):
        if next(left, None) is None:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(hook)


def test_interrupt_in_the_first_epoch_keeps_what_there_is(data):
    size, train, dev = data
    model = build(size)
    interrupt_after(model, 5)
    result = fit(model, train, dev, CLASSES, SETTINGS)
    assert result.interrupted
    assert (result.best_epoch, result.history) == (0, [])


def test_interrupt_before_the_first_step_is_passed_on(data):
    size, train, dev = data
    model = build(size)
    interrupt_after(model, 0)
    with pytest.raises(KeyboardInterrupt):
        fit(model, train, dev, CLASSES, SETTINGS)


def test_ratings_are_learnt_by_their_distance(data):
    """Three ratings told by words; the mean squared error on dev falls far below that of the mean rating."""
    texts = [[2 + i % 3, 5 + i % 7, 5 + i % 5] for i in range(300)]
    ratings = NumberedTexts(texts, [i % 3 for i in range(300)])
    model = SentimentClassifier(ModelConfig(12, 3, embedding=8, hidden=6, regression=True, dropout=0.1))
    result = fit(model, ratings, ratings, ("1", "2", "4.5"), replace(SETTINGS, epochs=6))
    loss, evaluation, _ = evaluate(model, ratings, ("1", "2", "4.5"))
    assert loss == pytest.approx(result.history[result.best_epoch - 1].dev_loss, rel=1e-5)
    assert loss < 0.3 < 2.17  # the variance
    assert evaluation.accuracy > 0.95
    assert model.ratings.tolist() == [1, 2, 4.5]


def test_mixed_precision_learns_and_leaves_float32(data):
    size, train, dev = data
    model = build(size, "fused")
    dtypes = []
    model.output.register_forward_hook(lambda module, inputs, output: dtypes.append((model.training, output.dtype)))
    result = fit(model, train, dev, CLASSES, replace(SETTINGS, precision="bfloat16"))
    assert max(m.dev_accuracy for m in result.history) > 0.95
    assert {dtype for training, dtype in dtypes if training} == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    dtypes.clear()
    evaluate(model, dev, CLASSES)
    assert {dtype for _, dtype in dtypes} == {torch.float32}


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_averaged_weights_are_what_is_judged_and_kept(data, averaging):
    size, train, dev = data
    models = []
    for how in ("none", averaging):
        models.append(build(size))
        settings = replace(SETTINGS, averaging=how, average_from=0.5, ema_decay=0.9)
        result = fit(models[-1], train, dev, CLASSES, settings)
    assert not torch.equal(models[0].output.weight, models[1].output.weight)
    loss, _, _ = evaluate(models[1], dev, CLASSES)
    assert loss == pytest.approx(result.history[result.best_epoch - 1].dev_loss)


def test_deterministic_is_asked_for_during_training_alone(data):
    size, train, dev = data
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled
    model, seen, before = build(size), [], (torch.are_deterministic_algorithms_enabled(), warns_only())
    assert before != (True, False)
    enabled = torch.are_deterministic_algorithms_enabled
    model.register_forward_pre_hook(lambda *_: seen.append((enabled(), warns_only())))
    fit(model, train, dev, CLASSES, replace(SETTINGS, epochs=1, deterministic=True))
    assert set(seen[:10]) == {(True, False)}
    assert (torch.are_deterministic_algorithms_enabled(), warns_only()) == before


def test_without_accelerate_the_remedy_is_named(data, monkeypatch):
    size, train, dev = data
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(DeviceError, match="pip install"):
        fit(build(size), train, dev, CLASSES, SETTINGS)


def test_a_diverging_loss_is_an_error(data):
    size, train, dev = data
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at step \d+; try a smaller --lr than 1e\+38"):
        fit(build(size), train, dev, CLASSES, replace(SETTINGS, lr=1e38))


def test_predictions_keep_the_order_of_the_texts(small_model):
    lists = [[2, 3, 4, 5], [3], [4, 4], [5, 2, 3], [2]]
    together = predict(small_model.network, NumberedTexts(lists, [0] * 5), batch_size=2)
    alone = torch.cat([predict(small_model.network, NumberedTexts([text], [0])) for text in lists])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(5))


class Terminal:
    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_progress_is_shown_on_a_terminal_alone(data, monkeypatch, capsys):
    size, train, dev = data
    fit(build(size), train, dev, CLASSES, replace(SETTINGS, epochs=1))
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fit(build(size), train, dev, CLASSES, replace(SETTINGS, epochs=1))
    assert "epoch 1/1" in terminal.text
    assert "samples/s" in terminal.text


def test_without_tqdm(data, monkeypatch):
    size, train, dev = data
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert len(fit(build(size), train, dev, CLASSES, replace(SETTINGS, epochs=1)).history) == 1
    assert terminal.text == ""
