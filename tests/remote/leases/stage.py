"""What a node and a gate do for a container: its lease's folder, its token, a gate that hands over to an executor."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import tessera
from tessera.remote.executor.front import Front
from tessera.remote.executor.handover import Allowance, hand_over, hand_over_move
from tessera.remote.executor.pump import join
from tessera.remote.executor.refusals import Refusal
from tessera.remote.protocol.greeting import Hello, Move
from tessera.remote.protocol.streams import Stream
from tessera.remote.protocol.tls import TlsStream
from tests.remote.server import ONE_THREAD, PATIENCE_S, TESSERA
from tests.remote.wire.certificates import Authority, Pair

PACKAGE = Path(tessera.__file__).parent
NAME = "6c1f.pool.tessera.io"


@dataclass
class Node:
    """Writes the files of one lease, as the node's agent does."""

    folder: Path
    authority: Authority
    endpoint: str
    epoch: int = 1
    server_name: str = NAME
    over: str = ""

    def __post_init__(self) -> None:
        self.lease_dir.mkdir(parents=True, exist_ok=True)
        self.token.write_text("the pod's token\n")
        (self.lease_dir / "ca.crt").write_bytes(self.authority.cert.read_bytes())
        self.write()

    @property
    def lease_dir(self) -> Path:
        return self.folder / "lease"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TESSERA_LEASE_DIR": str(self.lease_dir), "TESSERA_TOKEN_FILE": str(self.token), "TESSERA_ALIAS_CUDA": "1",
            "TESSERA_REMOTE_HOME": str(PACKAGE), "PYTHONPATH": str(PACKAGE / "remote" / "hook"), **ONE_THREAD,
        }  # fmt: skip

    def write(self) -> None:
        """Replaces ``lease.json`` in one step."""
        fresh = self.lease_dir / ".lease.json"
        said = {"endpoint": self.endpoint, "epoch": self.epoch, "server_name": self.server_name}
        end = {"over": self.over} if self.over else {}
        fresh.write_text(json.dumps(said | {"lease": "team/trainer", "container": "main"} | end))
        fresh.rename(self.lease_dir / "lease.json")

    def start(self, code: str) -> "subprocess.Popen[str]":
        """A program in the container."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, "-u", "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True,
            env={**os.environ, **self.environment},
        )  # fmt: skip

    def run(self, code: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, **self.environment}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)


@dataclass
class PoolGate:
    """Ends TLS and hands over what its pool, which is this object, allows."""

    executor: Path
    pair: Pair
    allowance: Allowance = field(default_factory=lambda: Allowance(epoch=1, limit_bytes=64 << 20, sessions=2))
    heard: list[Hello] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.front = Front(self._listener, self._receive, self._context, self._arrive)
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def reached(self) -> socket.socket:
        """A connection to this gate, as another gate makes it for its executor."""
        context = ssl.create_default_context(cafile=self.pair.authority)
        host, _, port = self.endpoint.rpartition(":")
        stream = TlsStream(socket.create_connection((host, int(port))), context, NAME)
        stream.handshake()
        ours, its = socket.socketpair()
        threading.Thread(target=join, args=(stream, ours), daemon=True).start()
        return its

    def _arrive(self, stream: Stream, move: Move) -> Callable[[], None]:
        ours, its = socket.socketpair()
        with its:
            hand_over_move(self.executor, its, move)
        return lambda: join(stream, ours)

    def enter(self, epoch: int) -> None:
        self.allowance = replace(self.allowance, epoch=epoch)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.pair.cert, self.pair.key)
        return context

    def _receive(self, stream: Stream, hello: Hello) -> socket.socket:
        self.heard.append(hello)
        if hello.token != "the pod's token":
            raise Refusal("Denied", "token: found one that is not the pod's")
        ours, its = socket.socketpair()
        with its:
            try:
                hand_over(self.executor, its, hello, self.allowance)
            except Refusal:
                ours.close()
                raise
        return ours


@contextmanager
def gate(executor: Path, pair: Pair) -> Iterator[PoolGate]:
    made = PoolGate(executor, pair)
    made.front.start()
    try:
        yield made
    finally:
        made.front.stop()


@contextmanager
def executor(folder: Path) -> Iterator[Path]:
    """``tessera serve --socket``; answers where."""
    at = folder / "executor.sock"
    command = [TESSERA, "serve", "--device", "cpu", "--socket", str(at), "-o", "json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD})
    assert server.stdout
    try:
        assert json.loads(server.stdout.readline())["address"] == str(at)
        yield at
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()
