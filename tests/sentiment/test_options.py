"""Groups of settings, defaults by data, and what the help says of them."""

from fused_lstm.sentiment.options import EMBEDDED, FEW, MANY, RunOptions, default_text, defaults_for
from fused_lstm.sentiment.settings import settings_of


def test_defaults_depend_on_the_data():
    assert defaults_for(True, 100_000) is EMBEDDED
    assert defaults_for(False, 39_999) is FEW
    assert defaults_for(False, 40_000) is MANY


def test_names_are_unique_over_all_groups():
    names = [name for group in RunOptions.groups().values() for name in settings_of(group)]
    assert len(names) == len(set(names))
    assert list(RunOptions().flat()) == names


def test_set_reaches_every_group():
    options = RunOptions().set(hidden=7, epochs=2, threads=3, data="x.tsv")
    assert (options.model.hidden, options.training.epochs, options.machine.threads) == (7, 2, 3)
    assert options.flat()["data"] == "x.tsv"
    assert "vocabulary" not in options.nested()["model"]


def test_default_text():
    assert default_text(settings_of(RunOptions.groups()["machine"])["threads"]) == "1 / all / all"
    assert default_text(settings_of(RunOptions.groups()["model"])["pooling"]) == "max"
    sizes = [str(options.training.batch_size) for options in (EMBEDDED, FEW, MANY)]
    assert default_text(settings_of(RunOptions.groups()["training"])["batch_size"]) == " / ".join(sizes)
