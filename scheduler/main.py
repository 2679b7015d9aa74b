"""``tessera scheduler``: runs the service until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import CliApp

from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.telemetry import configure_logging


def run(argv: Sequence[str]) -> int:
    """Runs with the settings of ``argv`` and the environment; answers the exit status."""
    try:
        settings = CliApp.run(SchedulerSettings, cli_args=list(argv))
    except ValidationError as error:
        for problem in error.errors():
            field = "--" + ".".join(str(part) for part in problem["loc"]) if problem["loc"] else "options"
            print(f"tessera scheduler: {field}: {problem['msg']}", file=sys.stderr)
        return 2
    configure_logging(settings, component="scheduler")
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: SchedulerSettings) -> None:
    service = Service(settings)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await service.start()
    failed = asyncio.create_task(service.failed())
    stop = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([failed, stop], return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
    finally:
        failed.cancel()
        stop.cancel()
        await service.stop()
