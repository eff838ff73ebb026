"""Which data a run takes and how it is read: settings of users."""

from __future__ import annotations

from dataclasses import dataclass

from .readers import KINDS, Fields
from .settings import setting
from .splits import DEV, TEST, TRAIN


@dataclass(frozen=True)
class DataOptions:
    """Data."""

    data: str | None = setting(
        None, "labelled texts, or the name of a public set (see below); the embedded corpus without it", metavar="PATH"
    )
    train_file: str | None = setting(None, "file for train, looked up in the folder PATH first")
    dev_file: str | None = setting(None, "the same for dev")
    test_file: str | None = setting(None, "the same for test")
    drop_leaks: bool = setting(False, "leave out rows of train and dev whose text is in test, of train if in dev")
    drop_duplicates: bool = setting(False, "leave out rows of train whose text was there before")

    vectors: str | None = setting(
        None, "word vectors to start from: a text file of word2vec or GloVe; their size wins over --embedding"
    )

    def files(self) -> dict[str, str | None]:
        return {TRAIN: self.train_file, DEV: self.dev_file, TEST: self.test_file}


@dataclass(frozen=True)
class ReadingOptions:
    """How data is read.

    Two are not for users. ``numeric_labels``: a regression sets it, and rows whose label is no number are then bad.
    ``labels_optional``: who learns from texts alone sets it; rows, folders and parts without labels are then read, too.
    """

    data_format: str | None = setting(None, "if the file's name does not tell", choices=KINDS)
    label_field: str | None = setting(
        None, "column or field with the label; a number counts the columns of a file without a header", metavar="NAME"
    )
    text_field: str | None = setting(None, "the same for the text", metavar="NAME")
    strict: bool = setting(False, "stop at the first row that cannot be read or is not UTF-8")
    numeric_labels: bool = False
    labels_optional: bool = False

    @property
    def fields(self) -> Fields:
        return Fields(self.label_field, self.text_field, self.numeric_labels, self.labels_optional)
