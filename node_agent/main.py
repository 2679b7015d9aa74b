"""``tessera node-agent``: one process a node, on the driver's side."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from tessera.kube.connection import ConfigurationError, connect
from tessera.kube.gateway import Gateway
from tessera.node_agent.processes import Processes
from tessera.node_agent.service import Service
from tessera.node_agent.settings import NodeAgentSettings
from tessera.settings import KubeSettings
from tessera.telemetry import configure_logging

log = structlog.get_logger()


def parser() -> argparse.ArgumentParser:
    """One option for each setting; what is not given comes from ``TESSERA_*`` or the default."""
    made = argparse.ArgumentParser(prog="tessera node-agent", description=__doc__)
    for name, field in NodeAgentSettings.model_fields.items():
        options = [f"--{name.replace('_', '-')}", *(["--socket"] if name == "agent_socket" else [])]
        default = "" if field.is_required() else f" (default: {field.default})"
        made.add_argument(*options, dest=name, default=argparse.SUPPRESS, help=f"{field.description}{default}")
    for name, field in KubeSettings.model_fields.items():
        made.add_argument(
            f"--{name.replace('_', '-')}", dest=f"kube_{name}", default=argparse.SUPPRESS, help=field.description
        )
    return made


def run(argv: Sequence[str] | None = None, *, processes: Processes | None = None) -> int:
    """Runs until SIGTERM or SIGINT; answers the exit status. ``processes``: other than the host's own."""
    given = vars(parser().parse_args(argv))
    kube = {name.removeprefix("kube_"): value for name, value in given.items() if name.startswith("kube_")}
    own = {name: value for name, value in given.items() if not name.startswith("kube_")}
    try:
        settings, connection = NodeAgentSettings(**own), KubeSettings(**kube)
    except ValidationError as error:
        for problem in error.errors():
            field = "--" + ".".join(str(part) for part in problem["loc"]).replace("_", "-")
            print(f"tessera node-agent: {field}: {problem['msg']}", file=sys.stderr)
        return 2
    configure_logging()
    try:
        return asyncio.run(_serve(settings, connection, processes))
    except ConfigurationError as error:
        print(f"tessera node-agent: {error}; without an API server: --api false", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"tessera node-agent: {error}", file=sys.stderr)
        return 1


async def _serve(settings: NodeAgentSettings, kube: KubeSettings, processes: Processes | None) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not settings.api:
        return await _until(stop, Service(settings, processes=processes))
    async with Gateway(connect(kube)) as gateway:
        return await _until(stop, Service(settings, processes=processes, gateway=gateway))


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
