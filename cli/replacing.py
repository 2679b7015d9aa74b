"""A command takes this process's place."""

import os
import sys
from collections.abc import Mapping, Sequence

CANNOT_RUN, NOT_FOUND = 126, 127
"""Exit statuses, as of env(1) and of container engines."""


def replace(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """``environment``: beside this process's own. Answers the exit status, only if the command cannot be run."""
    try:
        os.execvpe(command[0], list(command), {**os.environ, **environment})
    except FileNotFoundError:
        print(f"tessera run: command: found {command[0]!r}; allowed: a program that is there", file=sys.stderr)
        return NOT_FOUND
    except OSError as error:
        print(f"tessera run: command: found {command[0]!r}: {error.strerror}; allowed: a program", file=sys.stderr)
        return CANNOT_RUN
