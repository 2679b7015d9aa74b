"""``tessera serve``: this machine's device for programs of others."""

import json
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import typer

if TYPE_CHECKING:
    from tessera.remote.executor.forks import ForkServer


def serve(
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or cuda:NUMBER.")] = "cuda",
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="NUMBER", help="0 takes a free one.", min=0, max=65535)] = 0,
    gpu_mem: Annotated[str, typer.Option(metavar="QUANTITY", help="The most for a session, as 8Gi.")] = "",
    insecure_loopback: Annotated[
        bool, typer.Option("--insecure-loopback", help="Without TLS and for anybody on this machine.")
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate of this host, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(metavar="FILE", help="CA of who is let in.")] = None,
    at: Annotated[
        Path | None, typer.Option("--socket", metavar="FILE", help="Serve what a gate hands over there instead.")
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(metavar="NUMBER", help="Prometheus metrics, on the same address; 0: none.", min=0, max=65535)
    ] = 0,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORM", help="text or json.")] = "text",
) -> int:
    """Serve this machine's device to PyTorch programs elsewhere, until interrupted."""
    if output not in ("text", "json"):
        raise typer.BadParameter(f"found {output!r}; allowed: text or json", param_hint="--output")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device, re.ASCII):
        raise typer.BadParameter(f"found {device!r}; allowed: cpu, cuda or cuda:NUMBER", param_hint="--device")
    where = _Where(host, port, metrics_port)
    tls = {"--tls-cert": tls_cert, "--tls-key": tls_key, "--tls-client-ca": tls_client_ca}
    if at is not None:
        _handed_over(where, gpu_mem, insecure_loopback, tls)
    files = _secured(host, insecure_loopback, tls) if at is None else []
    limit_bytes = _bytes(gpu_mem)
    from tessera.remote.executor.forks import ForkServer, ForkServerError

    forks = ForkServer()
    try:
        found = forks.facts()
    except (ForkServerError, OSError) as error:
        print(f"tessera serve: {error}", file=sys.stderr)
        return 1
    if device != "cpu" and int(device.partition(":")[2] or 0) >= found.gpus:
        allowed = f"cpu, or one of the {found.gpus} GPUs that torch finds"
        print(f"tessera serve: --device: found {device!r}; allowed: {allowed}", file=sys.stderr)
        return 1
    if at is not None:
        return _serve_gate(forks, device, at, output, found.torch)
    return _serve(forks, device, where, limit_bytes, output, found.torch, files)


class _Where(NamedTuple):
    host: str
    port: int
    metrics_port: int


def _handed_over(where: _Where, gpu_mem: str, insecure_loopback: bool, files: dict[str, Path | None]) -> None:
    """The gate says who is let in and what he gets."""
    given: dict[str, object] = {
        "--host": where.host != "127.0.0.1", "--port": where.port, "--gpu-mem": gpu_mem, **files,
        "--metrics-port": where.metrics_port, "--insecure-loopback": insecure_loopback,
    }  # fmt: skip
    if found := [name for name, value in given.items() if value]:
        raise typer.BadParameter(f"found it with {', '.join(found)}; allowed: without", param_hint="--socket")


def _secured(host: str, insecure_loopback: bool, files: dict[str, Path | None]) -> list[Path]:
    """The three files, or none: then for this machine only."""
    from tessera.serving import is_loopback

    given = [path for path in files.values() if path is not None]
    if given and len(given) < len(files):
        lacking = ", ".join(name for name, path in files.items() if path is None)
        raise typer.BadParameter("found none; allowed: all three files of TLS, or none of them", param_hint=lacking)
    if given and insecure_loopback:
        raise typer.BadParameter("found it with the files of TLS; allowed: either", param_hint="--insecure-loopback")
    if not given and not (insecure_loopback and is_loopback(host)):
        found = f"{host!r} {'with' if insecure_loopback else 'without'} --insecure-loopback"
        allowed = "a loopback address with it, or --tls-cert, --tls-key and --tls-client-ca"
        raise typer.BadParameter(f"found {found}; allowed: {allowed}", param_hint="--host")
    return given


def _bytes(quantity: str) -> int:
    from tessera.model.quantities import QuantityError, parse_up

    try:
        return parse_up(quantity) if quantity else 0
    except QuantityError as error:
        raise typer.BadParameter(str(error), param_hint="--gpu-mem") from None


def _serve(
    forks: "ForkServer", device: str, where: _Where, limit_bytes: int, output: str, torch: str, files: list[Path]
) -> int:
    from tessera.remote.executor.certificates import Certificates, Files
    from tessera.remote.executor.gate import Gate
    from tessera.remote.executor.metrics import serve_metrics
    from tessera.remote.executor.processes import Offer
    from tessera.telemetry import configure_logging

    configure_logging()
    try:
        certificates = Certificates(Files(*files)) if files else None
    except OSError as error:
        print(
            f"tessera serve: the files of TLS: found {error}; allowed: PEM files that belong together", file=sys.stderr
        )
        return 1
    host, port, metrics_port = where
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            print(f"tessera serve: cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
            return 1
        gate = Gate(listener, Offer(device, limit_bytes), torch, certificates, forks=forks)
        try:
            if metrics_port:
                serve_metrics(host, metrics_port, gate.metrics())
        except OSError as error:
            print(f"tessera serve: cannot listen on {host}:{metrics_port}: {error.strerror}", file=sys.stderr)
            return 1
        address = f"{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        return _until_told(gate, device, address, output)


def _serve_gate(forks: "ForkServer", device: str, at: Path, output: str, torch: str) -> int:
    from tessera.remote.executor.handed import HandOver
    from tessera.remote.executor.handover import listening
    from tessera.remote.executor.processes import Offer
    from tessera.remote.executor.reception import Reception
    from tessera.telemetry import configure_logging

    configure_logging()
    try:
        listener = listening(at)
    except OSError as error:
        print(f"tessera serve: cannot listen on {at}: {error.strerror or error}", file=sys.stderr)
        return 1
    with listener:
        reception = Reception(Offer(device, sessions=0, together=True), torch, forks=forks)
        status = _until_told(HandOver(listener, reception), device, str(at), output)
    at.unlink(missing_ok=True)
    return status


class _Server(Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...


def _until_told(server: _Server, device: str, address: str, output: str) -> int:
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    server.start()
    print(json.dumps({"address": address}) if output == "json" else f"serving {device} on {address}", flush=True)
    signal.sigwait(stops)
    server.stop()
    return 0
