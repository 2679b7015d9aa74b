"""etcd of one member on loopback. It does not fsync: the suite kills processes, never the machine."""

from __future__ import annotations

from pathlib import Path

import urllib3

from tests.e2e import programs
from tests.e2e.cluster.addresses import free_ports
from tests.e2e.cluster.processes import Process


class Etcd(Process):
    def __init__(self, directory: Path) -> None:
        client, peer = free_ports(2)
        self.url = f"http://127.0.0.1:{client}"
        command = [
            str(programs.find("etcd")),
            f"--data-dir={directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--logger=zap",
            "--log-level=warn",
        ]
        super().__init__("etcd", command, directory, self._healthy)

    def _healthy(self) -> bool:
        return urllib3.request("GET", f"{self.url}/health", timeout=2, retries=False).status == 200
