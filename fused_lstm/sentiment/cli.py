"""The program: reads the command line, runs the command, says errors in one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .arguments import parse
from .errors import UserError

FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Errors a user can mend are said in one sentence on stderr."""
    try:
        arguments = parse(argv)
        return arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (predict | head); stdout must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
