"""Defaults by data, and their description."""

from fused_lstm.sentiment.options import EMBEDDED, FEW, MANY, RunOptions, defaults_for, describe_defaults


def test_defaults_depend_on_the_data():
    assert defaults_for(True, 100_000) is EMBEDDED
    assert defaults_for(False, 39_999) is FEW
    assert defaults_for(False, 40_000) is MANY


def test_flat_names_everything_once():
    flat = RunOptions(hidden=7).flat()
    assert flat["hidden"] == 7
    assert flat["epochs"] == RunOptions().training.epochs
    assert "training" not in flat


def test_description_holds_the_values():
    text = describe_defaults()
    assert "pooling max" in text
    assert "threads 1 / all / all" in text
    sizes = f"batch-size {EMBEDDED.training.batch_size} / {FEW.training.batch_size} / {MANY.training.batch_size}"
    assert sizes in text
