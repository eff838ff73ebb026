"""One run from data to report."""

from __future__ import annotations

import sys

import pytest

from fused_lstm.sentiment import loop
from fused_lstm.sentiment.checkpoints import CheckpointError
from fused_lstm.sentiment.datasets import DataOptions, ReadingOptions, embedded_dataset, load_dataset
from fused_lstm.sentiment.examples import RowProblems
from fused_lstm.sentiment.experiment import run
from fused_lstm.sentiment.model_folder import CONFIG
from fused_lstm.sentiment.options import EMBEDDED, FEW
from fused_lstm.sentiment.reports.measure import measure
from fused_lstm.sentiment.store import load
from fused_lstm.sentiment.stored_files import StoreError


def quick(**changes):
    small = FEW.set(embedding=12, hidden=10, dropout=0.1, baseline=False, plots=False, epochs=3, batch_size=8, lr=2e-2)
    return small.set(**changes)


@pytest.fixture
def easy(easy_tsv):
    return load_dataset(DataOptions(data=str(easy_tsv)), ReadingOptions(), RowProblems())


def test_default_settings_learn_the_order_of_words(tmp_path):
    """Half the default corpus, Chinese alone, must already be learnt; a bag of words gets 62.5 %."""
    dataset = embedded_dataset(4000, language="zh")
    options = EMBEDDED.set(baseline=False, plots=False)
    report = run(dataset, options, tmp_path / "run", lambda line: None)
    assert report.parts["test"].evaluation.accuracy >= 0.99
    assert 0.7 < report.parts["compose"].evaluation.accuracy
    for part in report.parts.values():
        assert sum(total for _, total in part.kinds.values()) == part.evaluation.total
        assert sum(correct for correct, _ in part.kinds.values()) == part.evaluation.correct
    assert len(report.samples) == 4


def test_everything_is_written_and_said(easy, tmp_path):
    said: list[str] = []
    report = run(easy, quick(baseline=True, plots=True), tmp_path / "run", said.append)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "model.safetensors", "settings.json", "tokenizer.json", "MODEL_CARD.md", "metrics.json",
        "predictions.jsonl", "report.html", "report.md", "calibration.png", "confusion.png", "curves.png",
        "history.csv",
    }
    assert report.plots == ["curves.png", "confusion.png", "calibration.png"]
    assert report.baselines[0].parts["test"].accuracy == 1.0
    told = []
    for part in ("train", "dev", "test"):
        labels = [example.label for example in getattr(easy, part)]
        told.append(f"{part} {len(labels)} (bad: {labels.count('bad')}, good: {labels.count('good')})")
    assert said[0] == f"Data: {easy.name}: {', '.join(told)}"
    assert [line[:8] for line in said if line.startswith("epoch")] == ["epoch  1", "epoch  2", "epoch  3"]


def test_the_stored_model_gives_the_reported_numbers(easy, tmp_path):
    report = run(easy, quick(), tmp_path / "run", lambda line: None)
    for backend in ("torch", "fused"):
        again = measure(load(tmp_path / "run", backend), easy.test)
        assert again.evaluation == report.parts["test"].evaluation
        assert again.loss == pytest.approx(report.parts["test"].loss, rel=1e-5)


@pytest.mark.parametrize(
    ("module", "note"), [("sklearn.linear_model", "No baseline row"), ("matplotlib.figure", "No plots")]
)
def test_what_is_not_installed_is_left_out_and_said(easy, tmp_path, monkeypatch, module, note):
    monkeypatch.setitem(sys.modules, module, None)
    report = run(easy, quick(baseline=True, plots=True), tmp_path / "run", lambda line: None)
    assert any(line.startswith(note) and "pip install" in line for line in report.data.notes)
    assert note in (tmp_path / "run" / "report.md").read_text()


def test_nothing_is_trained_if_it_could_not_be_stored(easy, tmp_path, monkeypatch):
    said: list[str] = []
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(StoreError, match="of no classifier"):
        run(easy, quick(), tmp_path, said.append)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(StoreError, match="safetensors"):
        run(easy, quick(), tmp_path / "run", said.append)
    assert said == []


def test_a_refused_command_changes_nothing_of_an_unfinished_run(easy, tmp_path, monkeypatch):
    steps, step = iter(range(5)), loop.Loop._train_on

    def interrupted(self, batch):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(self, batch)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_train_on", interrupted)
        run(easy, quick(checkpoint_steps=2), folder, lambda line: None)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"lr was 0\.02, is 0\.1"):
        run(easy, quick(checkpoint_steps=2, lr=0.1), folder, lambda line: None)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    said: list[str] = []
    run(easy, quick(checkpoint_steps=2), folder, said.append)
    assert any(line.startswith("This run was continued at step ") for line in said)
