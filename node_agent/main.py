"""``tessera node-agent``: one process a node, on the driver's side."""

import asyncio
import sys
from collections.abc import Sequence

import structlog

from tessera.command_line import CommandLine, Unusable
from tessera.kube.connection import ConfigurationError, connect
from tessera.kube.gateway import Gateway
from tessera.lifetime import told_to_stop
from tessera.node_agent.enforcement.shm_mounts import Mounts
from tessera.node_agent.processes import Processes
from tessera.node_agent.service import Service
from tessera.node_agent.settings import NodeAgentSettings
from tessera.settings import KubeSettings, LogSettings
from tessera.telemetry import configure_logging

log = structlog.get_logger()


COMMAND_LINE = CommandLine(
    "tessera node-agent", __doc__, (NodeAgentSettings, KubeSettings, LogSettings), {"agent_socket": "--socket"}
)


def run(argv: Sequence[str] | None = None, *, processes: Processes | None = None, mounts: Mounts | None = None) -> int:
    """Runs until SIGTERM or SIGINT; answers the exit status. ``processes``, ``mounts``: other than the host's own."""
    try:
        given = COMMAND_LINE.read(argv)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(given.of(LogSettings))
    try:
        return asyncio.run(_serve(given.of(NodeAgentSettings), given.of(KubeSettings), processes, mounts))
    except ConfigurationError as error:
        print(f"tessera node-agent: {error}; without an API server: --api false", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"tessera node-agent: {error}", file=sys.stderr)
        return 1


async def _serve(
    settings: NodeAgentSettings, kube: KubeSettings, processes: Processes | None, mounts: Mounts | None
) -> int:
    stop = told_to_stop()
    if not settings.api:
        return await _until(stop, Service(settings, processes=processes, mounts=mounts))
    async with Gateway(connect(kube)) as gateway:
        return await _until(stop, Service(settings, processes=processes, mounts=mounts, gateway=gateway))


async def _until(stop: asyncio.Event, service: Service) -> int:
    try:
        await service.start()
        stopped, failed = asyncio.create_task(stop.wait()), asyncio.create_task(service.wait())
        await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            log.error("a loop of the node agent ended", exc_info=failed.exception())
            return 1
        failed.cancel()
        return 0
    finally:
        await service.stop()


if __name__ == "__main__":
    sys.exit(run())
