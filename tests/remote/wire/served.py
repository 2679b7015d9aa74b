"""A ``tessera serve`` of its own, and what runs against it."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TESSERA = str(Path(sys.executable).with_name("tessera"))


@dataclass(frozen=True)
class Served:
    process: "subprocess.Popen[str]"
    host: str
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@contextlib.contextmanager
def serving(folder: Path, *options: str, most_bytes: int = 0) -> Iterator[Served]:
    """``tessera serve --device cpu``, told to end when the block is left; ``most_bytes``: of each process."""
    log = folder / "serve.log"
    with log.open("w") as sink:
        command = [*_limits(most_bytes), _TESSERA, "serve", "--device", "cpu", "-o", "json", *options]
        given = {**os.environ, "TESSERA_LOG_FORMAT": "json", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True, env=given)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        host, _, port = json.loads(line)["address"].rpartition(":")
        yield Served(process, host, int(port), log)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _limits(most_bytes: int) -> list[str]:
    return ["prlimit", f"--as={most_bytes}"] if most_bytes else []


def run_in_pool(address: str, program: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """``tessera run --pool`` of a Python program."""
    command = [_TESSERA, "run", "--pool", address, *options, "--", sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def comes(true: Callable[[], object]) -> bool:
    """Whether it is true within a minute."""
    for _ in range(6000):
        if true():
            return True
        threading.Event().wait(0.01)
    return False


def lines_of(log: Path) -> Sequence[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def sessions_of(server: int) -> set[int]:
    """The processes of its sessions, which its fork server has started."""
    return {session for forks in children_of(server) for session in children_of(forks)}


def children_of(process: int) -> set[int]:
    """Those that live, and those that nobody has waited for."""
    found = (Path("/proc") / str(process) / "task").glob("*/children")
    return {int(child) for path in found for child in path.read_text().split()}
