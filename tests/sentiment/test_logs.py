"""What runs leave for programs, and that a run cut short goes on by the same command."""

from __future__ import annotations

import csv

import pytest

from fused_lstm.sentiment.cli import main
from fused_lstm.sentiment.logs import HISTORY, TENSORBOARD
from fused_lstm.sentiment.loop import Loop

QUICK = ["--no-baseline", "--no-plots", "--embedding", "8", "--hidden", "8", "--batch-size", "16", "--threads", "1"]


def words(data, folder) -> list[str]:
    return ["train", "--data", str(data), "--output", str(folder), *QUICK, "--epochs", "3", "--checkpoint-steps", "5"]


def test_history_and_tensorboard(easy_tsv, tmp_path):
    assert main([*words(easy_tsv, tmp_path / "run"), "--tensorboard"]) == 0
    rows = list(csv.DictReader((tmp_path / "run" / HISTORY).open(encoding="utf-8")))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(0 <= float(row["dev_accuracy"]) <= 1 for row in rows)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "run" / TENSORBOARD)).Reload()
    told = [event.value for event in board.Scalars("epoch/dev_loss")]
    assert told == pytest.approx([float(row["dev_loss"]) for row in rows], rel=1e-6)


def die_after_20_steps(arguments):
    """Runs the command until it is gone in the middle of an epoch."""
    step, left = Loop._train_on, iter(range(20))

    def dying(self, work):
        if next(left, None) is None:
            raise SystemExit
        return step(self, work)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(Loop, "_train_on", dying)
        main(arguments)


def test_the_same_command_goes_on(easy_tsv, tmp_path, capsys):
    assert main(words(easy_tsv, tmp_path / "whole")) == 0
    die_after_20_steps(words(easy_tsv, tmp_path / "cut"))
    assert len(list((tmp_path / "cut" / "checkpoints").iterdir())) == 2
    assert main([*words(easy_tsv, tmp_path / "cut"), "--lr", "0.5"]) == 1
    assert "unfinished run with other settings or data (lr was 0.002, is 0.5)" in capsys.readouterr().err
    assert main(words(easy_tsv, tmp_path / "cut")) == 0
    assert "This run was continued at step 18" in capsys.readouterr().out
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert same[0] == same[1]
    assert len((tmp_path / "cut" / HISTORY).read_text().splitlines()) == 4
    assert not (tmp_path / "cut" / "checkpoints").exists()


def test_fresh_starts_anew(easy_tsv, tmp_path, capsys):
    die_after_20_steps(words(easy_tsv, tmp_path / "run"))
    assert main([*words(easy_tsv, tmp_path / "run"), "--lr", "0.01", "--fresh"]) == 0
    assert "continued" not in capsys.readouterr().out
