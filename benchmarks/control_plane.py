"""What the benchmarks run against: a real etcd, kube-apiserver and kube-scheduler, or the simulated API server.

The real one is the end-to-end suite's, without kubelets and without a controller manager, so that nodes which are
only objects stay Ready. It needs root and a network namespace of its own (``make bench-extender``).
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.connection import Target
from tests.e2e import programs
from tests.e2e.cluster import addresses, teardown
from tests.e2e.cluster.addresses import free_ports
from tests.e2e.cluster.apiserver import ApiServer, Tokens
from tests.e2e.cluster.certs import Authority
from tests.e2e.cluster.controller_manager import healthy
from tests.e2e.cluster.etcd import Etcd
from tests.e2e.cluster.processes import Process

NEEDED = ("etcd", "kube-apiserver", "kube-scheduler", "ip")
NAMESPACE = "tessera-system"
Plain = dict[str, Any]


class ControlPlane(Protocol):
    """``api`` is spoken to as an administrator; ``token_file`` holds its token; ``words`` name it in the report."""

    api: Target
    token_file: Path
    words: str

    def kube_scheduler(self, config: Plain, name: str) -> Process | None:
        """A kube-scheduler with this configuration, not started; ``None`` where there is no real one."""


@dataclass(slots=True)
class Real:
    """See the module."""

    api: Target
    token_file: Path
    directory: Path
    kubeconfig: Path
    authority: Authority
    words: str = f"kube-apiserver {programs.KUBERNETES_VERSION} and etcd, one member, without fsync"

    def kube_scheduler(self, config: Plain, name: str) -> Process | None:
        (port,) = free_ports(1)
        file = self.directory / f"{name}.json"
        connection = {"kubeconfig": str(self.kubeconfig), "qps": 5000, "burst": 10000}
        file.write_text(json.dumps(config | {"clientConnection": connection}))
        serving = self.authority.issue(name, ("127.0.0.1",))
        command = [
            str(programs.find("kube-scheduler")),
            f"--config={file}",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            "--authentication-skip-lookup=true",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
        ]
        return Process(name, command, self.directory, lambda: healthy(port, self.authority.cert))


def missing() -> str:
    """Why the real one cannot run here, or nothing."""
    try:
        for name in NEEDED:
            programs.find(name)
    except programs.Missing as error:
        return str(error)
    return ""


@asynccontextmanager
async def real() -> AsyncIterator[Real]:
    """etcd and kube-apiserver, ready; both and their folder are gone afterwards."""
    teardown.remove_abandoned()
    directory = teardown.new_directory()
    block = addresses.claim(directory)
    teardown.record(directory, block, [], keep=False)
    try:
        block.add(block.api)
        tokens, authority = Tokens(directory / "tokens.csv"), Authority(directory / "certs")
        admin = tokens.add("admin", "system:masters")
        etcd = Etcd(directory)
        server = ApiServer(directory, block, etcd.url, authority, tokens)
        etcd.start().wait_ready()
        server.start().wait_ready()
        token_file = directory / "admin.token"
        token_file.write_text(admin.token)
        api = Target(server.url, authority.cert, admin.token)
        yield Real(api, token_file, directory, server.kubeconfig(admin), authority)
    finally:
        teardown.remove(directory)


@asynccontextmanager
async def embedded() -> AsyncIterator["Embedded"]:
    """The simulated API server, empty."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.embedded", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        url = (await child.stdout.readline()).decode().strip()
        with tempfile.NamedTemporaryFile() as token:
            yield Embedded(Target(url), Path(token.name))
    finally:
        child.stdin.close()
        await child.wait()


@dataclass(slots=True)
class Embedded:
    """The simulated API server, in a process of its own."""

    api: Target
    token_file: Path
    words: str = "the simulated API server"

    def kube_scheduler(self, config: Plain, name: str) -> Process | None:
        return None
