"""``tessera pool-controller``: makes executors for slices on other nodes, and answers their gates."""

import asyncio
import sys
from collections.abc import Sequence

from tessera.command_line import CommandLine, Unusable
from tessera.kube.connection import ConfigurationError
from tessera.kube.errors import KubeError
from tessera.lifetime import told_to_stop, until
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
    stopped = told_to_stop()
    await service.start()
    ready = asyncio.create_task(service.wait_ready())
    try:
        await until(stopped, service.failed())
    finally:
        ready.cancel()
        await service.stop()
