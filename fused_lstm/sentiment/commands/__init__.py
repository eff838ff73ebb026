"""The commands, one module each.

A module has SUMMARY and DETAILS (texts of the help), ``groups()`` (dataclasses of settings, see `settings`),
``add_arguments(parser)`` for what is not a setting, and ``run(arguments) -> int``, the exit status. Settings that were
given, by flag or in the file of --config, are attributes of ``arguments``; `settings.build` makes groups of them.
"""

from __future__ import annotations

# In the order of the help.
NAMES = (
    "prepare",
    "vectors",
    "pretrain",
    "train",
    "evaluate",
    "predict",
    "ensemble",
    "export",
    "compare",
)
