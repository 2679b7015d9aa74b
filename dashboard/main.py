"""``tessera dashboard``: the process."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from tessera.dashboard.auth import Mode
from tessera.dashboard.service import Service, SettingsError
from tessera.dashboard.settings import DashboardSettings
from tessera.kube.connection import ConfigurationError, connect
from tessera.settings import KubeSettings, LogSettings
from tessera.telemetry import configure_logging


def run(argv: Sequence[str]) -> int:
    """Serves until SIGINT or SIGTERM; 0 after a clean stop, 2 for settings that cannot be used."""
    options = _parser().parse_args(argv)
    given = {k: v for k, v in vars(options).items() if v is not None}
    kube = {k: given.pop(k) for k in ("server", "kubeconfig", "context", "token_file", "ca_file") if k in given}
    configure_logging(LogSettings(), component="dashboard")
    try:
        settings = KubeSettings(**kube)
        service = Service(DashboardSettings(**given), connect(settings), request_timeout_s=settings.request_timeout_s)
        asyncio.run(_serve(service))
    except (SettingsError, ConfigurationError) as error:
        print(f"tessera dashboard: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with service:
        await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tessera dashboard", description="Serves the dashboard of the pool.")
    add = parser.add_argument
    add("--listen", help="ADDRESS:PORT, default 127.0.0.1:8484; port 0 takes a free one")
    add("--auth", choices=[str(m) for m in Mode], help="kubernetes (default): bearer tokens; none: on loopback only")
    add("--tls-cert", help="PEM file with the certificate chain")
    add("--tls-key", help="PEM file with its key")
    add("--server", help="URL of the API server, instead of a kubeconfig")
    add("--token-file", help="file with the bearer token for --server")
    add("--ca-file", help="PEM bundle that signs the API server's certificate")
    add("--kubeconfig", help="path of a kubeconfig")
    add("--context", help="context within the kubeconfig")
    return parser
