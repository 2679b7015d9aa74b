"""``tessera dashboard``: the process."""

import asyncio
import sys
from collections.abc import Sequence

from tessera.command_line import CommandLine, Unusable
from tessera.dashboard.service import Service, SettingsError
from tessera.dashboard.settings import DashboardSettings
from tessera.kube.connection import ConfigurationError, connect
from tessera.lifetime import told_to_stop
from tessera.settings import KubeSettings, LogSettings
from tessera.telemetry import configure_logging

COMMAND_LINE = CommandLine("tessera dashboard", __doc__, (DashboardSettings, KubeSettings, LogSettings))


def run(argv: Sequence[str]) -> int:
    """Serves until SIGINT or SIGTERM; 0 after a clean stop, 2 for settings that cannot be used."""
    try:
        given = COMMAND_LINE.read(argv)
        configure_logging(given.of(LogSettings), component="dashboard")
        kube = given.of(KubeSettings)
        service = Service(given.of(DashboardSettings), connect(kube), request_timeout_s=kube.request_timeout_s)
        asyncio.run(_serve(service))
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    except (SettingsError, ConfigurationError) as error:
        print(f"tessera dashboard: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(service: Service) -> None:
    stop = told_to_stop()
    async with service:
        await stop.wait()
