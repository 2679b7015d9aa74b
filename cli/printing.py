"""The result of a command on standard output, as JSON or for people."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, RenderableType

PIPE_WIDTH = 1000
"""A pipe gets whole lines: nothing is folded at a width that nobody sees."""


class OutputError(Exception):
    """Nobody takes the result; the text is one sentence."""


def show(plain: Mapping[str, Any], page: Callable[[], RenderableType], *, as_json: bool) -> None:
    """Prints one of the two forms. Raises ``OutputError``."""
    if sys.stdout is None:
        raise OutputError("the result cannot be written: standard output is closed")
    try:
        if as_json:
            print(json.dumps(plain), flush=True)
        else:
            Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(page())
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again, and fail again, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"the result cannot be written: {error.strerror}") from error


def tell(text: str) -> None:
    """One line on standard error, beside the result."""
    print(text, file=sys.stderr, flush=True)
