"""``tessera device-plugin``: one process a node, on the kubelet's side."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from tessera.device_plugin.service import Service
from tessera.device_plugin.settings import DevicePluginSettings
from tessera.kube.connection import connect
from tessera.settings import KubeSettings
from tessera.telemetry import configure_logging

log = structlog.get_logger()

_DERIVED = {"device_plugin_dir", "pod_resources_socket"}


def parser() -> argparse.ArgumentParser:
    """One option for each setting; what is not given comes from ``TESSERA_*`` or the default."""
    made = argparse.ArgumentParser(prog="tessera device-plugin", description=__doc__)
    for name, field in DevicePluginSettings.model_fields.items():
        default = "derived from --kubelet-dir" if name in _DERIVED else field.default
        text = "this node's name" if name == "node" else f"default: {default}"
        made.add_argument(f"--{name.replace('_', '-')}", dest=name, default=argparse.SUPPRESS, help=text)
    for name in KubeSettings.model_fields:
        made.add_argument(f"--{name.replace('_', '-')}", dest=f"kube_{name}", default=argparse.SUPPRESS)
    return made


def run(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; answers the exit status."""
    given = vars(parser().parse_args(argv))
    kube = {name.removeprefix("kube_"): value for name, value in given.items() if name.startswith("kube_")}
    own = {name: value for name, value in given.items() if not name.startswith("kube_")}
    try:
        settings, connection = DevicePluginSettings(**own), KubeSettings(**kube)
    except ValidationError as error:
        for problem in error.errors():
            field = "--" + ".".join(str(part) for part in problem["loc"]).replace("_", "-")
            print(f"tessera device-plugin: {field}: {problem['msg']}", file=sys.stderr)
        return 2
    configure_logging()
    return asyncio.run(_serve(settings, connection))


async def _serve(settings: DevicePluginSettings, kube: KubeSettings) -> int:
    service = Service(settings, connect(kube))
    await service.start()
    failed = asyncio.create_task(service.wait())
    stop = asyncio.create_task(_signalled())
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


async def _signalled() -> None:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    await event.wait()
