"""``tessera pool-gate``: lets clients in to the executor beside it, as the pool's controller says."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from functools import partial

from tessera.command_line import CommandLine, Unusable
from tessera.remote.executor.metrics import serve_metrics
from tessera.remote.gate.controller import Controller
from tessera.remote.gate.gate import Gate
from tessera.remote.gate.reaching import reached
from tessera.remote.gate.settings import GateSettings
from tessera.remote.gate.watched import Watched
from tessera.remote.protocol.tls import trusting
from tessera.telemetry import configure_logging

COMMAND_LINE = CommandLine("tessera pool-gate", __doc__, (GateSettings,))


def run(argv: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; answers the exit status."""
    try:
        settings = COMMAND_LINE.read(argv).of(GateSettings)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings, component="pool-gate")
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        authority = settings.authority_file.read_bytes()
        controller = Controller(settings.controller, authority, settings.token_file)
        context = trusting(authority.decode())
        listener = _listener(settings.host, settings.port)
    except (OSError, ValueError) as error:
        print(f"tessera pool-gate: {error}", file=sys.stderr)
        return 1
    with listener:
        name, watched = settings.server_name, Watched(lambda: os.kill(os.getpid(), signal.SIGTERM))
        reach = partial(reached, server_name=name, context=context)
        gate = Gate(listener, settings.socket, settings.lease, name, controller, reach, watched)
        try:
            if settings.metrics_port:
                serve_metrics(settings.host, settings.metrics_port, gate.metrics())
        except OSError as error:
            where = f"{settings.host}:{settings.metrics_port}"
            print(f"tessera pool-gate: cannot listen on {where}: {error.strerror}", file=sys.stderr)
            return 1
        threading.Thread(target=watched("start", gate.start), daemon=True).start()
        signal.sigwait(stops)
        broken = watched.error
        gate.stop()
    if broken:
        print(f"tessera pool-gate: {broken}", file=sys.stderr)
    return 1 if broken else 0


def _listener(host: str, port: int) -> socket.socket:
    """Raises ``OSError``."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener
