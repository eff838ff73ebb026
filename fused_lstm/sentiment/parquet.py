"""Parquet files, read a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .examples import DataError, Example, RowProblems

if TYPE_CHECKING:
    from .readers import Fields

_ROWS = 1000


def read_parquet(path: Path, fields: Fields, problems: RowProblems) -> Iterator[Example]:
    """The examples of one file; bad rows are named by their number."""
    from .readers import record_example

    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f'{path}: Parquet needs pyarrow: pip install "fused_lstm[sentiment]"') from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = {*fields.label_names(), *fields.text_names()}
            columns = [name for name in file.schema_arrow.names if name.lower() in wanted]
            for batch in file.iter_batches(_ROWS, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield from problems.usable(path, number, record_example(row, fields))
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from error
