"""USAGE.md, which lies beside exported programs: what they take and give, and code that uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

USAGE_FILE = "USAGE.md"

_NUMBERS = '''\
```python
import json
from pathlib import Path
import numpy as np
from tokenizers import Tokenizer

folder = Path(".")
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))

def numbers(texts):
    """Token numbers, padded with 0, and the length of each text; a text without tokens is one unknown token, 1."""
    rows = [{ids} or [1] for text in texts]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    tokens = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for row, place in zip(rows, tokens):
        place[: len(row)] = row
    return tokens, lengths

tokens, lengths = numbers(["a first text", "another one"])
```
'''
_BOTH_ENDS = '''\
Texts longer than {length} tokens keep both ends, as in training:

```python
def both_ends(ids, most={length}):
    return ids if len(ids) <= most else ids[: most // 2] + ids[len(ids) - (most - most // 2) :]
```
'''
_ONNX = '''\
## ONNX

Needs onnxruntime, nothing of fused_lstm. The labels are in the file's metadata, too.

```python
import onnxruntime

session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
({result},) = session.run(None, {{"tokens": tokens, "lengths": lengths}})
{show}
```
'''
_TORCH = '''\
## torch.export

Needs torch and fused_lstm, whose operator is in the program. AOTInductor takes it as well.

```python
import torch
import fused_lstm  # the operator

program = torch.export.load(folder / "model.pt2").module()
with torch.inference_mode():
    {result} = program(torch.from_numpy(tokens), torch.from_numpy(lengths))
{show}
```
'''
_LABELS = "print([labels[row.argmax()] for row in probabilities])"


def usage_text(files: Sequence[str], output: str, max_length: int, checks: Mapping[str, str]) -> str:
    """The text for ``files``; ``checks`` says of each program how it was compared with the model."""
    limited = bool(max_length)
    ids = "both_ends(tokenizer.encode(text).ids)" if limited else "tokenizer.encode(text).ids"
    meaning = (
        "the share of each class, in the order of `labels.json`"
        if output == "probabilities"
        else "a number for each text"
    )
    show = _LABELS if output == "probabilities" else "print(ratings)"
    sections = [
        "# Using the exported model",
        "",
        "Inputs: `tokens` (B, T) int64, padded with 0 at the end of each row; `lengths` (B,) int64, from 1 to T. "
        f"Output: `{output}`, {meaning}. B and T may be anything from 1 on.",
        "",
        *(f"- {name}: {words}" for name, words in checks.items()),
        "",
        "## Texts to numbers",
        "",
        *([_BOTH_ENDS.format(length=max_length)] if limited else []),
        _NUMBERS.format(ids=ids),
    ]
    if "model.onnx" in files:
        sections.append(_ONNX.format(result=output, show=show))
    if "model.pt2" in files:
        sections.append(_TORCH.format(result=output, show=show))
    return "\n".join(sections)
