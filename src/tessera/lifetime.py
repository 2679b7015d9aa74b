"""How long a process runs: until a signal asks for its end, or a part of it that should not end does."""

import asyncio
import signal
from collections.abc import Coroutine, Mapping
from typing import Any


def told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT from now on."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def until(stopped: asyncio.Event, failed: Coroutine[Any, Any, None]) -> None:
    """Returns once ``stopped`` is set; raises what ``failed`` does, if that comes first."""
    failure, stop = asyncio.create_task(failed), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([failure, stop], return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            failure.result()
    finally:
        failure.cancel()
        stop.cancel()


class Parts:
    """The tasks of a service, by name, none of which ends by itself."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, parts: Mapping[str, Coroutine[Any, Any, Any]]) -> None:
        self._tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]

    async def stop(self) -> None:
        """Returns when they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def failed(self) -> None:
        """Returns only by raising what ended one of them."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            raise RuntimeError(f"{task.get_name()} ended") from task.exception()
