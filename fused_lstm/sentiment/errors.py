"""What a user can mend: every such error is said in one sentence, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """The message names the thing, what was expected, what was found and the remedy."""
