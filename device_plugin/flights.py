"""One call for many callers.

A caller is served only by a call that began after it arrived, so that the answer is never older than the question;
all who arrive while a call is under way share the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedCall(Generic[T]):
    """Runs ``call`` at most once at a time. Its exception goes to all who waited for that call."""

    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self._call = call
        self._waiting: list[asyncio.Future[T]] = []
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            served, self._waiting = self._waiting, []
            try:
                result = await self._call()
            except Exception as error:
                for future in served:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future in served:
                    if not future.done():
                        future.set_result(result)
