"""``tessera pool-controller``: makes executors for slices on other nodes, and answers their gates."""

import asyncio
import signal
import sys
from collections.abc import Sequence

from tessera.command_line import CommandLine, Unusable
from tessera.kube.connection import ConfigurationError
from tessera.kube.errors import KubeError
from tessera.remote.controller.keys import AuthorityError
from tessera.remote.controller.service import Service
from tessera.remote.controller.settings import ControllerSettings
from tessera.telemetry import configure_logging

COMMAND_LINE = CommandLine("tessera pool-controller", __doc__, (ControllerSettings,))


def run(argv: Sequence[str]) -> int:
    """Runs with the settings of ``argv`` and the environment; answers the exit status."""
    try:
        settings = COMMAND_LINE.read(argv).of(ControllerSettings)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings, component="pool-controller")
    try:
        asyncio.run(_serve(settings))
    except (ConfigurationError, AuthorityError, KubeError, OSError, ValueError) as error:
        print(f"tessera pool-controller: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(settings: ControllerSettings) -> None:
    service = Service(settings)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await service.start()
    ready = asyncio.create_task(service.wait_ready())
    failed = asyncio.create_task(service.failed())
    stop = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([failed, stop], return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
    finally:
        for task in (ready, failed, stop):
            task.cancel()
        await service.stop()
