"""kube-controller-manager with each controller under its own service account, as kubeadm sets it up."""

from __future__ import annotations

from pathlib import Path

import urllib3

from tests.e2e import programs
from tests.e2e.cluster.addresses import free_ports
from tests.e2e.cluster.certs import Authority
from tests.e2e.cluster.processes import Process


class ControllerManager(Process):
    def __init__(self, directory: Path, kubeconfig: Path, authority: Authority, service_account_key: Path) -> None:
        (port,) = free_ports(1)
        serving = authority.issue("kube-controller-manager", ("127.0.0.1",))
        command = [
            str(programs.find("kube-controller-manager")),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--root-ca-file={authority.cert}",
            f"--service-account-private-key-file={service_account_key}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--authentication-skip-lookup=true",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]
        super().__init__("kube-controller-manager", command, directory, lambda: healthy(port, authority.cert))


def healthy(port: int, ca: Path) -> bool:
    """Whether the component's `/healthz` answers 200."""
    with urllib3.PoolManager(ca_certs=str(ca), retries=False, timeout=3) as pool:
        return pool.request("GET", f"https://127.0.0.1:{port}/healthz").status == 200
