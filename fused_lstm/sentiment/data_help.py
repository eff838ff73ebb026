"""What the help of every command that reads data says about it."""

from __future__ import annotations

from .datasets import MAX_CLASSES
from .hub import PREFIX, PUBLIC

DATA_HELP = f"""\
data: a file, a folder or a name. Any number of classes, labels are strings. .gz and .xz are unpacked; lines that are
not UTF-8 are read as gb18030 or latin-1 and counted.
  .tsv .txt   label<TAB>text on each line, or any columns under a header that names them
  .csv        the same with commas (or semicolons) and quotes
  .jsonl      one object a line, fields "label" and "text" (other names, if not usual ones such as "stars" and "body":
              --label-field, --text-field); .json: an array
  .parquet    columns of these names
  folder      train.*, dev.* and test.* in one of these formats; text files by class: train/pos/1.txt, test/neg/7.txt;
              what the library datasets saved; or what the command prepare wrote
  name        {", ".join(PUBLIC)}; any other set of the Hugging Face hub as
              {PREFIX}owner/name or {PREFIX}owner/name:configuration
Parts that are missing are taken from train by a hash of the text. Rows that cannot be read are reported and left out.
--regression is for ratings: labels are numbers, in train of at most {MAX_CLASSES:,} different values. Rows of dev and
test whose number train lacks are left out and counted, so round continuous ones.
"""
