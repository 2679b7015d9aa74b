"""``tessera scheduler``: runs the service until it is told to stop."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress

import uvloop

from tessera import heap
from tessera.command_line import CommandLine, Unusable
from tessera.kube.connection import ConfigurationError
from tessera.lifetime import told_to_stop, until
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
    stopped = told_to_stop()
    await service.start()
    filling = asyncio.create_task(fill(service))
    try:
        await until(stopped, service.failed())
    finally:
        filling.cancel()
        await service.stop()


async def fill(service: Service) -> None:
    """Spares the collector the first reading of the cluster, or a minute of it where the API server is away."""
    with heap.filling(), suppress(TimeoutError):
        async with asyncio.timeout(_FILLING_S):
            await service.wait_synced()
