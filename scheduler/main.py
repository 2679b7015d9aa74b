"""``tessera scheduler``: runs the service until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import uvloop

from tessera import heap
from tessera.command_line import CommandLine, Unusable
from tessera.kube.connection import ConfigurationError
from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.serving import PlainTextRefused
from tessera.telemetry import configure_logging

_FILLING_S = 60.0
COMMAND_LINE = CommandLine("tessera scheduler", __doc__, (SchedulerSettings,))


def run(argv: Sequence[str]) -> int:
    """Runs with the settings of ``argv`` and the environment; answers the exit status."""
    try:
        settings = COMMAND_LINE.read(argv).of(SchedulerSettings)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings, component="scheduler")
    try:
        uvloop.run(_serve(settings))
    except (ConfigurationError, PlainTextRefused, OSError) as error:
        print(f"tessera scheduler: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(settings: SchedulerSettings) -> None:
    service = Service(settings)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await service.start()
    filling = asyncio.create_task(fill(service))
    failed = asyncio.create_task(service.failed())
    stop = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([failed, stop], return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
    finally:
        for task in (filling, failed, stop):
            task.cancel()
        await service.stop()


async def fill(service: Service) -> None:
    """Spares the collector the first reading of the cluster, or a minute of it where the API server is away."""
    with heap.filling(), suppress(TimeoutError):
        async with asyncio.timeout(_FILLING_S):
            await service.wait_synced()
