"""Runs a piece of work again and again: at each of several events, and at least every so many seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import structlog

log = structlog.get_logger()

QUIET_S = 0.1
"""A burst of events is one run of the work."""


async def repeat(
    name: str,
    work: Callable[[], Awaitable[None]],
    events: Sequence[Callable[[], Awaitable[object]]],
    every_s: float,
    outside: tuple[type[Exception], ...],
    retry_s: float = 1.0,
) -> NoReturn:
    """For ever. Errors in ``outside`` are logged and tried again after ``retry_s``; others are bugs and end it."""
    while True:
        waits = [asyncio.ensure_future(event()) for event in events]
        try:
            try:
                await work()
                timeout = every_s
            except outside as error:
                log.warning(f"{name} put off", error=str(error))
                timeout = min(retry_s, every_s)
            if waits:
                await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(QUIET_S)
            else:
                await asyncio.sleep(timeout)
        finally:
            for wait in waits:
                wait.cancel()
