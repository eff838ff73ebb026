"""The embedded corpus as a whole: fixed, balanced, split without separating twins."""

import hashlib
from collections import Counter

import pytest

from fused_lstm.sentiment import corpus
from fused_lstm.sentiment.datasets import embedded_dataset
from fused_lstm.sentiment.splits import token_bag


def digest(examples):
    lines = "".join(f"{e.label}\t{e.text}\n" for e in examples)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def test_the_default_corpus_never_changes():
    """Published accuracies refer to exactly these texts; a change of words or draws must be deliberate."""
    assert digest(corpus.generate()) == "52ff4e4bb4baeb9e"
    assert digest(corpus.compose()) == "141dbc805ef15b9a"


def test_sizes_are_exact_and_texts_differ():
    for size in (1, 2, 17, 400):
        examples = corpus.generate(size)
        assert len(examples) == size
        assert len({e.text for e in examples}) == size


def test_a_quarter_is_easy_and_labels_are_balanced():
    examples = corpus.generate(4000)
    kinds = Counter(e.kind for e in examples)
    assert kinds["easy"] / 4000 == pytest.approx(0.25, abs=0.025)
    assert len(kinds) == 10
    assert Counter(e.label for e in examples)["positive"] / 4000 == pytest.approx(0.5, abs=0.02)


def test_language():
    assert all(e.text.isascii() for e in corpus.generate(50, language="en"))
    assert not any(c.isascii() for e in corpus.generate(50, language="zh") for c in e.text)
    both = [e.text.isascii() for e in corpus.generate(400)]
    assert 120 < sum(both) < 280


def test_seeds_give_other_texts():
    first, second = ({e.text for e in corpus.generate(500, seed=seed)} for seed in (1, 2))
    assert len(first & second) < 5


def test_composed_sentences_are_of_other_constructions():
    assert not {e.kind for e in corpus.generate(1000)} & {e.kind for e in corpus.compose(500)}
    texts = {e.text for e in corpus.generate()}
    assert not any(e.text in texts for e in corpus.compose())


def test_noise_flips_its_share_of_labels_and_nothing_else():
    clean = corpus.generate(4000)
    noisy = corpus.with_noise(clean, 0.1)
    assert [(e.text, e.kind) for e in noisy] == [(e.text, e.kind) for e in clean]
    flipped = sum(a.label != b.label for a, b in zip(clean, noisy))
    assert flipped / 4000 == pytest.approx(0.1, abs=0.02)
    assert corpus.with_noise(clean, 0.0) == clean


def test_twins_are_in_one_part():
    dataset = embedded_dataset(2000)
    part_of: dict[str, set[str]] = {}
    for name in ("train", "dev", "test"):
        for example in getattr(dataset, name):
            part_of.setdefault(token_bag(example.text), set()).add(name)
    assert all(len(parts) == 1 for parts in part_of.values())
    assert len(dataset.train) + len(dataset.dev) + len(dataset.test) == 2000
    for part in (dataset.dev, dataset.test):
        assert 130 < len(part) < 270
        hard = Counter(token_bag(e.text) for e in part if e.kind != "easy")
        assert set(hard.values()) == {2}
