"""From a language model to a classifier: pretrain, train --init-from, ensemble; unfreezing, rates by layer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from fused_lstm.sentiment.checkpoints import Checkpoints
from fused_lstm.sentiment.cli import main
from fused_lstm.sentiment.datasets import DataOptions, ReadingOptions, load_dataset
from fused_lstm.sentiment.examples import RowProblems
from fused_lstm.sentiment.language_model import LanguageModelConfig
from fused_lstm.sentiment.language_model_store import load_language_model
from fused_lstm.sentiment.loop import Loop
from fused_lstm.sentiment.model import ModelConfig, SentimentClassifier
from fused_lstm.sentiment.predictor import number_examples
from fused_lstm.sentiment.pretrain_run import gather_texts
from fused_lstm.sentiment.store import load
from fused_lstm.sentiment.tokens import Vocabulary, tokenize
from fused_lstm.sentiment.train_settings import ClassifierTraining
from fused_lstm.sentiment.training import fit
from fused_lstm.sentiment.transfer import as_classifier

from .conftest import easy_examples

LM = ["--embedding", "10", "--hidden", "12", "--layers", "2", "--bptt", "12", "--batch-size", "4", "--threads", "1"]
TRAIN = ["--pooling", "concat", "--head-hidden", "8", "--unfreeze", "--layer-decay", "1.5", "--dropout", "0.1", "--lr"]
QUIET = ["--no-baseline", "--no-plots", "--threads", "1"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Data, and language models of both directions."""
    root = tmp_path_factory.mktemp("transfer")
    (root / "easy.tsv").write_text("".join(f"{e.label}\t{e.text}\n" for e in easy_examples(240)), encoding="utf-8")
    more = easy_examples(60, seed=11)
    (root / "more.tsv").write_text("".join(f"?\t{e.text}\n" for e in more), encoding="utf-8")
    for name, direction in (("forward", []), ("backward", ["--backwards"])):
        words = ["--data", str(root / "easy.tsv"), "--more-texts", str(root / "more.tsv"), "--epochs", "2", *LM]
        assert main(["pretrain", *words, *direction, "--output", str(root / name)]) == 0
    return root


def test_pretrain_writes_a_language_model_and_its_perplexity(folders):
    assert sorted(path.name for path in (folders / "forward").iterdir()) == [
        "config.json", "history.csv", "metrics.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    history = json.loads((folders / "forward" / "metrics.json").read_text())["history"]
    assert 1 < history[-1]["dev_perplexity"] < history[0]["dev_perplexity"]
    forward, backward = (load_language_model(folders / name) for name in ("forward", "backward"))
    assert (forward.network.config.backwards, backward.network.config.backwards) == (False, True)
    assert forward.vocabulary.words == backward.vocabulary.words


def test_texts_of_dev_and_test_are_not_learnt(folders, capsys, tmp_path):
    words = ["--data", str(folders / "easy.tsv"), "--more-texts", str(folders / "easy.tsv"), "--epochs", "1", *LM]
    assert main(["pretrain", *words, "--output", str(tmp_path / "lm")]) == 0
    said = capsys.readouterr().out
    dealt = [line for line in said.splitlines() if "that dev or test hold as well were left out" in line]
    assert len(dealt) == 1
    dev_and_test = int(dealt[0].split()[0])
    assert f"Data: {2 * (240 - dev_and_test):,} texts" in said


def test_more_texts_need_no_labels_but_must_be_there(folders, tmp_path, capsys):
    dataset = load_dataset(DataOptions(data=str(folders / "easy.tsv")), ReadingOptions(), RowProblems())
    for name, line in (("a.txt", "nothing but text {}"), ("a.jsonl", '{{"text": "nothing but text {}"}}')):
        more = tmp_path / name
        more.write_text("".join(line.format(i) + "\n" for i in range(9)))
        texts, _ = gather_texts(dataset, str(more), ReadingOptions(), print)
        assert texts[-9:] == [f"nothing but text {i}" for i in range(9)]
    more.write_text('{"words": "no text"}\n')
    words = ["--data", str(folders / "easy.tsv"), "--more-texts", str(more), *LM, "--output", str(tmp_path / "lm")]
    assert main(["pretrain", *words]) == 1
    assert f"{more}:1: no text field; the fields are 'words'" in capsys.readouterr().err


def test_classifiers_start_from_them_and_are_averaged(folders, capsys, tmp_path):
    runs = []
    for name in ("forward", "backward"):
        runs.append(str(tmp_path / name))
        words = ["--data", str(folders / "easy.tsv"), "--init-from", str(folders / name), "--epochs", "10"]
        assert main(["train", *words, *TRAIN, "0.03", *QUIET, "--batch-size", "16", "--output", runs[-1]]) == 0
    model = load(tmp_path / "backward")
    assert model.network.config == replace(
        model.network.config, backwards=True, hidden=12, last_hidden=10, layers=2, bidirectional=False
    )
    capsys.readouterr()
    told, report = tmp_path / "told.json", tmp_path / "report"
    data = tmp_path / "more.tsv"
    data.write_text((folders / "easy.tsv").read_text() + "superb\ta label that no model knows\n", encoding="utf-8")
    words = ["ensemble", *runs, "--data", str(data), "--json", str(told)]
    assert main([*words, "--report", str(report)]) == 0
    said = capsys.readouterr()
    assert [line.split("  ")[-1] for line in said.out.splitlines()[:3]] == [*runs, "mean of all"]
    assert "1 row(s) with labels the model does not know were left out" in said.err
    assert json.loads(told.read_text())["ensemble"]["accuracy"] > 0.9
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["parts"]["test"]["accuracy"] == json.loads(told.read_text())["ensemble"]["accuracy"]
    assert metrics["settings"]["models"] == 2 and metrics["data"]["counts"] == {"test": 240}
    assert main(["evaluate", runs[0], str(data), "--report", str(tmp_path / "alone")]) == 0
    assert main(["compare", str(tmp_path / "alone"), str(report)]) == 0
    assert "report less alone" in capsys.readouterr().out
    assert main([*words, "--report", runs[0]]) == 1
    assert "is a model folder with the report of its training" in capsys.readouterr().err


def test_rating_models_together(capsys, tmp_path):
    (tmp_path / "a.tsv").write_text("".join(f"{i % 5}.0\t{'very ' * (i % 5)}fine {i}\n" for i in range(80)))
    runs = [str(tmp_path / seed) for seed in ("1", "2")]
    words = ["train", "--data", str(tmp_path / "a.tsv"), "--regression", "--hidden", "4", "--epochs", "1", *QUIET]
    for run in runs:
        assert main([*words, "--seed", run[-1], "--output", run]) == 0
    for name, more in (("together", runs), ("alone", runs[:1])):
        told = str(tmp_path / f"{name}.json")
        assert main(["ensemble", *more, "--data", str(tmp_path / "a.tsv"), "--json", told]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("MSE ")
    together, alone = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("together", "alone"))
    assert together["ensemble"]["count"] == 80
    assert together["ensemble"]["ratings"]["mse"] < max(m["ratings"]["mse"] for m in together["models"].values())
    (single,) = alone["models"].values()
    assert alone["ensemble"]["ratings"] == single["ratings"]
    for value in ("accuracy", "loss"):
        assert alone["ensemble"][value] == pytest.approx(single[value])


def test_ensembles_of_other_classes_and_foreign_folders_are_refused(folders, capsys, tmp_path):
    assert main(["train", "--data", str(folders / "easy.tsv"), "--init-from", str(tmp_path), *QUIET]) == 1
    assert "make one with the pretrain command" in capsys.readouterr().err
    (folders / "three.tsv").write_text("".join(f"{i % 3}\ta film {i}\n" for i in range(60)))
    for data in ("easy.tsv", "three.tsv"):
        words = ["--data", str(folders / data), "--epochs", "1", "--embedding", "4", "--hidden", "4"]
        assert main(["train", *words, *QUIET, "--output", str(tmp_path / data)]) == 0
    models = [str(tmp_path / data) for data in ("easy.tsv", "three.tsv")]
    assert main(["ensemble", *models, "--data", str(folders / "easy.tsv")]) == 1
    assert "models of an ensemble must have the same" in capsys.readouterr().err


def toy():
    examples = easy_examples(200)
    vocabulary = Vocabulary.build((tokenize(e.text) for e in examples), min_count=2)
    parts = (number_examples(part, vocabulary, ("bad", "good"), 20) for part in (examples[:160], examples[160:]))
    model = SentimentClassifier(ModelConfig(len(vocabulary), 2, embedding=6, hidden=5, layers=2, bidirectional=False))
    return model, *parts


def test_one_layer_more_in_each_epoch_and_slower_below():
    model, train, dev = toy()
    settings = ClassifierTraining(
        epochs=5, batch_size=16, unfreeze=True, layer_decay=2.0, schedule="constant", patience=9
    )
    states: list[list[torch.Tensor]] = []

    def remember(_):
        states.append([torch.cat([p.detach().flatten() for p in m.parameters()]) for m in model.groups()])

    torch.manual_seed(0)
    fit(model, train, dev, ("bad", "good"), settings, remember)
    moved = [[not torch.equal(a, b) for a, b in zip(*pair)] for pair in zip(states, states[1:])]
    assert moved == [[False, False, True, True], [False, True, True, True], [True] * 4, [True] * 4]


def test_rates_fall_by_layer(monkeypatch):
    model, train, dev = toy()
    rates = []
    step = Loop._train_on

    def spy(self, work):
        result = step(self, work)
        rates.append([group["lr"] for group in self.optimizer.param_groups])
        return result

    monkeypatch.setattr(Loop, "_train_on", spy)
    settings = ClassifierTraining(epochs=1, batch_size=16, lr=0.08, layer_decay=2.0, schedule="constant")
    fit(model, train, dev, ("bad", "good"), settings)
    assert rates[0] == pytest.approx([0.01, 0.02, 0.04, 0.08])


def test_unfreezing_resumes_with_the_same_bits(tmp_path, monkeypatch):
    settings = ClassifierTraining(
        epochs=5, batch_size=16, unfreeze=True, layer_decay=2.0, averaging="swa", average_from=0.3
    )

    def run(folder):
        model, train, dev = toy()
        result = fit(model, train, dev, ("bad", "good"), settings, checkpoints=Checkpoints(folder, {}, steps=3))
        return torch.cat([p.detach().flatten() for p in model.parameters()]), result.resumed_at

    (whole, _), step = run(tmp_path / "whole"), Loop._train_on
    for limit in (8, 25):
        left = iter(range(limit))

        def dying(self, work, left=left):
            if next(left, None) is None:
                raise SystemExit
            return step(self, work)

        monkeypatch.setattr(Loop, "_train_on", dying)
        with pytest.raises(SystemExit):
            run(tmp_path / "killed")
    monkeypatch.setattr(Loop, "_train_on", step)
    weights, resumed_at = run(tmp_path / "killed")
    assert 25 < resumed_at <= 33
    assert torch.equal(weights, whole)


def test_sizes_come_from_the_language_model():
    config = as_classifier(ModelConfig(pooling="concat", dropout=0.3), LanguageModelConfig(50, backwards=True))
    assert config.encoder.hiddens == (1150, 1150, 400)
    assert (config.dropout, config.pooling, config.backwards, config.vocabulary) == (0.3, "concat", True, 50)
