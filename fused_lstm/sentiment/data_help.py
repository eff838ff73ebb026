"""What the help of every command that reads data says about it."""

from __future__ import annotations

DATA_HELP = """\
data: a file of labelled texts, or a folder. Any number of classes, labels are strings. UTF-8; .gz and .xz are unpacked.
  .tsv .txt   label<TAB>text on each line, or any columns under a header that names them
  .csv        the same with commas and quotes
  .jsonl      one object a line, fields "label" and "text" (other names: --label-field, --text-field)
  folder      train.*, dev.* and test.* in one of these formats, or text files by class: train/pos/1.txt, test/neg/7.txt
Parts that are missing are taken from train by a hash of the text. Rows that cannot be read are reported and left out.
"""
