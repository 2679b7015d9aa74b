"""A host that is gone is noticed over a connection to it, whether or not something sent is to be acknowledged."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tessera.remote.protocol.streams import read_exactly, tune
from tests.e2e.cluster.addresses import ip

pytestmark = pytest.mark.e2e

HERE, THERE, PORT = "10.117.3.1", "10.117.3.2", 7000
TOLD_S = 20.0
"""The longest that the remote device may take to tell of a host that is gone, of which a try to reach it takes five."""
TRY_S = 5.0
SINK = f"""
import socket
input()
listener = socket.create_server(("{THERE}", {PORT}))
print("ready", flush=True)
taken = [listener.accept()[0] for _ in range(2)]
input()
"""


class Host:
    """In a network namespace of its own, at the end of a link; it takes two connections and never says a word."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", SINK], stdin=pipe, stdout=pipe, text=True
        )

    def start(self) -> None:
        link = ("type", "veth", "peer", "name", "there", "netns", str(self._process.pid))
        self._wait_for_namespace()
        ip("link", "add", "here", *link)
        ip("addr", "add", f"{HERE}/30", "dev", "here")
        ip("link", "set", "here", "up")
        self._ip("addr", "add", f"{THERE}/30", "dev", "there")
        self._ip("link", "set", "there", "up")
        assert self._process.stdin and self._process.stdout
        print(file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "ready\n"

    def vanish(self) -> None:
        self._ip("link", "set", "there", "down")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ip(self, *words: str) -> None:
        ip(*words, before=["nsenter", f"--net=/proc/{self._process.pid}/ns/net"])

    def _wait_for_namespace(self) -> None:
        """``unshare`` makes it before the program runs."""
        deadline = time.monotonic() + 10
        while _namespace(self._process.pid) == _namespace("self"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _namespace(process: int | str) -> str:
    return str(Path(f"/proc/{process}/ns/net").readlink())


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _noticed_s(stream: socket.socket) -> float:
    began = time.monotonic()
    assert read_exactly(stream, 1) is None
    return time.monotonic() - began


def test_a_host_that_is_gone_is_noticed(host: Host) -> None:
    with (
        closing(socket.create_connection((THERE, PORT))) as waits,
        closing(socket.create_connection((THERE, PORT))) as sends,
        ThreadPoolExecutor() as pool,
    ):
        for stream in (waits, sends):
            tune(stream)
            stream.sendall(b"first")
        host.vanish()
        sends.sendall(b"never acknowledged")
        noticed = list(pool.map(_noticed_s, (waits, sends)))
    assert max(noticed) < TOLD_S - TRY_S, noticed
