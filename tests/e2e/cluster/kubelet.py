"""A kubelet in a node's mount namespace, listening on the node's own address only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import urllib3

from tests.e2e import programs
from tests.e2e.cluster import templates
from tests.e2e.cluster.processes import Process


class Kubelet(Process):
    def __init__(
        self,
        node: str,
        directory: Path,
        home: Path,
        inside: Sequence[str],
        *,
        kubeconfig: Path,
        address: str,
        cgroup: str,
        containerd_socket: Path,
        dns: str,
        labels: Mapping[str, str],
        taints: Sequence[str],
    ) -> None:
        self._healthz = f"http://{address}:10248/healthz"
        (home / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        config = templates.write(
            home / "kubelet.yaml",
            "kubelet.yaml",
            address=address,
            cgroup=cgroup,
            containerd_socket=containerd_socket,
            dns=dns,
            directory=home,
        )
        command = [
            *inside,
            str(programs.find("kubelet")),
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={node}",
            f"--node-ip={address}",
            f"--node-labels={','.join(f'{key}={value}' for key, value in labels.items())}",
            f"--register-with-taints={','.join(taints)}",
            "-v=2",
        ]
        super().__init__(f"kubelet-{node}", command, directory, self._healthy)

    def _healthy(self) -> bool:
        return urllib3.request("GET", self._healthz, timeout=2, retries=False).status == 200
