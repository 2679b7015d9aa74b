"""Child processes that end when they are told to, or when their standard input ends."""

import asyncio
from contextlib import suppress
from pathlib import Path

_LOG_LINES = 15


async def end(child: asyncio.subprocess.Process, patience_s: float) -> None:
    """A word and the end of its input are the signal to end; a child that does not within ``patience_s`` is killed."""
    if child.stdin:
        with suppress(BrokenPipeError, ConnectionResetError):
            child.stdin.write(b"stop\n")
            child.stdin.close()
    try:
        async with asyncio.timeout(patience_s):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


def last_words(log: Path) -> str:
    """The last lines of a child's log, indented."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])
