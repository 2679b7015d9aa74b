"""How long a session of the remote device takes from its connection to its first answer.

``python -m benchmarks.remote_attach --device cuda``: one line of JSON. By turns a server that has just been started and
has imported nothing yet (``cold``), and the sessions after that one, which are forked (``warm``): medians, all in ms.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

from tessera.remote.client.contact import Connect, Contact
from tessera.remote.client.session import Session
from tessera.remote.protocol import records

_TESSERA = str(Path(sys.executable).with_name("tessera"))
_WARM = 5


def _connect(address: tuple[str, int]) -> Connect:
    return lambda _: Contact(socket.create_connection(address))


def _attached_s(address: tuple[str, int]) -> float:
    """From before the connection to after the answer; the session is ended."""
    began = time.monotonic()
    session = Session(_connect(address), torch.__version__)
    session.ask(lambda request: records.packed(records.Sync(request)))
    took_s = time.monotonic() - began
    session.close()
    return took_s


def _turn(device: str) -> tuple[float, list[float]]:
    """A server from its start to the first session's answer, and further sessions of it."""
    command = [_TESSERA, "serve", "--device", device, "--insecure-loopback", "-o", "json"]
    began = time.monotonic()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        host, _, port = json.loads(server.stdout.readline())["address"].rpartition(":")
        _attached_s((host, int(port)))
        cold_s = time.monotonic() - began
        return cold_s, [_attached_s((host, int(port))) for _ in range(_WARM)]
    finally:
        server.terminate()
        server.wait()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.remote_attach", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args(arguments)
    turns = [_turn(asked.device) for _ in range(asked.turns)]
    warm = sorted(took_s for _, found in turns for took_s in found)
    line = {
        "device": asked.device, "cold_ms": round(1e3 * median(cold_s for cold_s, _ in turns)),
        "warm_ms": round(1e3 * median(warm), 1), "warm_worst_ms": round(1e3 * warm[-1], 1), "sessions": len(warm),
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
