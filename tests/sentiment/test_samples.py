"""The sentences shown at the end: twins for the embedded corpus, known languages elsewhere."""

from fused_lstm.sentiment.datasets import Dataset, embedded_dataset
from fused_lstm.sentiment.samples import _SENTENCES, sample_texts
from fused_lstm.sentiment.tokens import Vocabulary, tokenize


def test_twins_of_both_languages_with_their_labels():
    dataset = embedded_dataset(2000)
    texts, labels = sample_texts(dataset, Vocabulary([]))
    assert [text.isascii() for text in texts] == [True] * 4 + [False] * 4
    for i in range(0, 8, 2):
        assert sorted(tokenize(texts[i])) == sorted(tokenize(texts[i + 1]))
        assert {labels[i], labels[i + 1]} == {"positive", "negative"}
    assert {(e.text, e.label) for e in dataset.test} >= set(zip(texts, labels))


def test_only_languages_the_vocabulary_knows():
    dataset = Dataset("d", [], [], [])
    for language, sentences in _SENTENCES.items():
        vocabulary = Vocabulary(sorted(set(tokenize(" ".join(sentences)))))
        assert sample_texts(dataset, vocabulary) == (list(sentences), [""] * 3), language
    assert sample_texts(dataset, Vocabulary([])) == ([], [])
