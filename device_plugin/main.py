"""``tessera device-plugin``: one process a node, on the kubelet's side."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence

import structlog

from tessera.command_line import CommandLine, Unusable
from tessera.device_plugin.client_side import NotAClientNodeError
from tessera.device_plugin.service import Service
from tessera.device_plugin.settings import DevicePluginSettings
from tessera.kube.connection import ConfigurationError, Connection, connect
from tessera.lifetime import told_to_stop
from tessera.settings import KubeSettings, LogSettings
from tessera.telemetry import configure_logging

log = structlog.get_logger()

COMMAND_LINE = CommandLine("tessera device-plugin", __doc__, (DevicePluginSettings, KubeSettings, LogSettings))


def run(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; answers the exit status."""
    try:
        given = COMMAND_LINE.read(argv)
        connection = connect(given.of(KubeSettings))
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    except ConfigurationError as error:
        print(f"tessera device-plugin: {error}", file=sys.stderr)
        return 2
    configure_logging(given.of(LogSettings))
    return asyncio.run(_serve(given.of(DevicePluginSettings), connection))


async def _serve(settings: DevicePluginSettings, connection: Connection) -> int:
    service = Service(settings, connection)
    try:
        await service.start()
    except (OSError, NotAClientNodeError) as error:
        print(f"tessera device-plugin: {error}", file=sys.stderr)
        return 1
    failed = asyncio.create_task(service.wait())
    stop = asyncio.create_task(told_to_stop().wait())
    try:
        await asyncio.wait({failed, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        await service.stop()
    if failed.done() and not failed.cancelled() and failed.exception() and not stop.done():
        log.error("a loop of the device plugin failed", exc_info=failed.exception())
        return 1
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await failed
    return 0
