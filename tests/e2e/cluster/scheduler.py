"""kube-scheduler with the profiles `default-scheduler` and `tessera`, and the extender once a test has one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import programs
from tests.e2e.cluster import templates
from tests.e2e.cluster.addresses import free_ports
from tests.e2e.cluster.certs import Authority, Pair
from tests.e2e.cluster.controller_manager import healthy
from tests.e2e.cluster.processes import Process


@dataclass(frozen=True, slots=True)
class Extender:
    """Where our extender listens (`https://host:port[/prefix]`) and how the scheduler shows who it is."""

    url: str
    ca: Path | None = None
    client: Pair | None = None
    preempt: bool = True


class Scheduler(Process):
    def __init__(self, directory: Path, kubeconfig: Path, authority: Authority) -> None:
        (port,) = free_ports(1)
        serving = authority.issue("kube-scheduler", ("127.0.0.1",))
        self._kubeconfig = kubeconfig
        self._config = directory / "scheduler.yaml"
        self._configure(None)
        command = [
            str(programs.find("kube-scheduler")),
            f"--config={self._config}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--authentication-skip-lookup=true",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            "-v=2",
        ]
        super().__init__("kube-scheduler", command, directory, lambda: healthy(port, authority.cert))

    def use(self, extender: Extender | None) -> None:
        """Restarts the scheduler with this extender, or with none."""
        self._configure(extender)
        self.restart()

    def use_config(self, config: dict[str, Any]) -> None:
        """Restarts the scheduler with a KubeSchedulerConfiguration; how to reach the API server is filled in."""
        connection = {"kubeconfig": str(self._kubeconfig), "qps": 200, "burst": 400}
        self._config.write_text(json.dumps(config | {"clientConnection": connection}))
        self.restart()

    def _configure(self, extender: Extender | None) -> None:
        text = templates.render("scheduler.yaml", kubeconfig=self._kubeconfig)
        if extender:
            text += templates.render(
                "extender.yaml",
                url=extender.url,
                preempt="preempt" if extender.preempt else '""',
                https=str(extender.url.startswith("https:")).lower(),
                tls=json.dumps(_tls(extender)),
            )
        self._config.write_text(text)


def _tls(extender: Extender) -> dict[str, str]:
    tls = {"caFile": str(extender.ca)} if extender.ca else {}
    if extender.client:
        tls |= {"certFile": str(extender.client.cert), "keyFile": str(extender.client.key)}
    return tls
