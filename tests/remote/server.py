"""The real ``tessera serve`` on loopback for as long as a block runs, and programs that the real ``tessera run`` sends
there."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.remote.wire.served import sessions_of

TESSERA = str(Path(sys.executable).with_name("tessera"))
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Both sides sum in the same order."""
DEVICE = os.environ.get("TESSERA_TEST_DEVICE", "cpu")
"""Of the executors. On ``cuda`` those tests fail that want this processor's very bits, or its generators'."""
PATIENCE_S = 500
"""For a program, whatever else the machine does."""


class Served(NamedTuple):
    address: str
    pid: int

    def executors(self) -> list[int]:
        """The processes of its sessions."""
        return sorted(sessions_of(self.pid))


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    command = [TESSERA, "serve", "--device", DEVICE, "--port", "0", "--insecure-loopback", "-o", "json", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD})
    try:
        assert server.stdout
        yield Served(json.loads(server.stdout.readline())["address"], server.pid)
    finally:
        server.terminate()
        server.wait(30)


def pool_command(address: str, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    return [TESSERA, "run", "--pool", address, *options, "--", *command]


def run(address: str, code: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """A program of Python to its end."""
    command = pool_command(address, sys.executable, "-c", textwrap.dedent(code), options=options)
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env={**os.environ, **ONE_THREAD})


class Conversation:
    """A program that tells and is told lines."""

    def __init__(self, address: str, code: str) -> None:
        command = pool_command(address, sys.executable, "-u", "-c", textwrap.dedent(code))
        environment = {**os.environ, **ONE_THREAD}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)

    def hears(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """What it said as errors."""
        return self.process.communicate(timeout=PATIENCE_S)[1]

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
