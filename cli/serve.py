"""``tessera serve``: this machine's device for programs of others."""

import json
import signal
import socket
import sys
from typing import Annotated

import typer


def serve(
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or cuda:NUMBER.")] = "cuda",
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="NUMBER", help="0 takes a free one.", min=0, max=65535)] = 0,
    gpu_mem: Annotated[str, typer.Option(metavar="QUANTITY", help="The most for a session, as 8Gi.")] = "",
    insecure_loopback: Annotated[
        bool, typer.Option("--insecure-loopback", help="Without TLS and for anybody on this machine.")
    ] = False,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORM", help="text or json.")] = "text",
) -> int:
    """Serve this machine's device to PyTorch programs elsewhere, until interrupted."""
    from tessera.serving import is_loopback

    if output not in ("text", "json"):
        raise typer.BadParameter(f"found {output!r}; allowed: text or json", param_hint="--output")
    if not insecure_loopback or not is_loopback(host):
        found = f"{host!r} {'with' if insecure_loopback else 'without'} --insecure-loopback"
        raise typer.BadParameter(f"found {found}; allowed: a loopback address with it", param_hint="--host")
    limit_bytes = _bytes(gpu_mem)
    try:
        import torch
    except ImportError as error:
        print(f"tessera serve: torch: found none ({error}); allowed: an installed one", file=sys.stderr)
        return 1
    return _serve(device, host, port, limit_bytes, output, torch.__version__)


def _bytes(quantity: str) -> int:
    from tessera.model.quantities import QuantityError, parse_up

    try:
        return parse_up(quantity) if quantity else 0
    except QuantityError as error:
        raise typer.BadParameter(str(error), param_hint="--gpu-mem") from None


def _serve(device: str, host: str, port: int, limit_bytes: int, output: str, torch: str) -> int:
    from tessera.remote.executor.gate import Gate, Offer

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((host, port))
        except OSError as error:
            print(f"tessera serve: cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
            return 1
        gate = Gate(listener, Offer(device, limit_bytes), torch, lambda hello: None)
        stops = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)
        gate.start()
        address = f"{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        print(json.dumps({"address": address}) if output == "json" else f"serving {device} on {address}", flush=True)
        signal.sigwait(stops)
        gate.stop()
    return 0
