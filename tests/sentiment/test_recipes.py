"""Every recipe that is shipped names settings that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

import fused_lstm.sentiment
from fused_lstm.sentiment.arguments import parse
from fused_lstm.sentiment.options import RunOptions

RECIPES = sorted((Path(fused_lstm.sentiment.__file__).parent / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_read(path):
    pytest.importorskip("tomllib", reason="TOML needs Python 3.11 or tomli")
    options = RunOptions().given(parse(["train", "--config", str(path)]))
    assert options != RunOptions()
