"""vectors: word vectors from your own texts, for train --vectors."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from ..cooccurrence import learn_vectors
from ..corpus import CorpusOptions
from ..data_help import DATA_HELP
from ..datasets import DataOptions, ReadingOptions, open_dataset
from ..examples import DataError
from ..pretrain_run import MORE_TEXTS_HELP, gather_texts
from ..settings import at_least, build, setting
from ..tokens import TokenOptions
from ..vectors import write_vectors
from ..vocabularies import learn_vocabulary

SUMMARY = "learn word vectors from texts, labels unseen, for train --vectors"
DETAILS = (
    f"{DATA_HELP}\nTexts that dev or test hold are never learnt from. Words that stand near the same words get similar "
    "vectors (mutual information and its singular vectors; minutes, one core)."
)


@dataclass(frozen=True)
class VectorOptions:
    """Word vectors."""

    output: str = setting("runs/vectors.txt", "the vectors, as word2vec writes them", metavar="FILE")
    more_texts: str | None = setting(None, MORE_TEXTS_HELP, metavar="PATH")
    size: int = setting(128, "numbers of a vector: --embedding of train", at_least(2))
    window: int = setting(5, "words at most this far apart are near", at_least(1))


def groups() -> dict[str, type]:
    return {
        "vectors": VectorOptions,
        "data": DataOptions,
        "reading": ReadingOptions,
        "corpus": CorpusOptions,
        "tokens": TokenOptions,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is a setting."""


def run(arguments: argparse.Namespace) -> int:
    options, tokens, reading = (build(group, arguments) for group in (VectorOptions, TokenOptions, ReadingOptions))
    dataset = open_dataset(build(DataOptions, arguments), reading, build(CorpusOptions, arguments))
    for note in dataset.notes:
        _say(note)
    started = time.perf_counter()
    texts, _ = gather_texts(dataset, options.more_texts, reading, _say)
    vocabulary = learn_vocabulary(texts, tokens)
    _say(f"Data: {len(texts):,} texts, vocabulary {len(vocabulary):,}")
    try:
        vectors = learn_vectors(
            vocabulary.encode_texts(texts, tokens.max_length), len(vocabulary), options.size, options.window
        )
    except ValueError as error:
        raise DataError(f"{dataset.name}: {error}, or a smaller --size") from error
    count = write_vectors(Path(options.output), vocabulary, vectors)
    _say(
        f"{count:,} vectors of {options.size} numbers in {time.perf_counter() - started:.0f} s, saved in "
        f"{options.output}. Next: train --vectors {options.output} --embedding {options.size}"
    )
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
