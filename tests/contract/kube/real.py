"""etcd and kube-apiserver alone, on loopback: enough to ask the real thing how it answers."""

from pathlib import Path

import urllib3

from tests.e2e import programs
from tests.e2e.cluster.addresses import free_ports
from tests.e2e.cluster.certs import Authority, service_account_key
from tests.e2e.cluster.etcd import Etcd
from tests.e2e.cluster.processes import Process

TOKEN = "contract-test"


class KubeApiServer:
    """Started and stopped as a pair. The token is an administrator's."""

    def __init__(self, directory: Path) -> None:
        (port,) = free_ports(1)
        authority = Authority(directory / "pki")
        pair = authority.issue("kube-apiserver", ("127.0.0.1",))
        key = service_account_key(authority.directory)
        tokens = directory / "tokens.csv"
        tokens.write_text(f'{TOKEN},admin,1,"system:masters"\n')
        self.url = f"https://127.0.0.1:{port}"
        self.ca = authority.cert
        self._etcd = Etcd(directory)
        command = [
            str(programs.find("kube-apiserver")),
            f"--etcd-servers={self._etcd.url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={pair.cert}",
            f"--tls-private-key-file={pair.key}",
            f"--cert-dir={authority.directory}",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        ]
        self._server = Process("kube-apiserver", command, directory, self._ready)

    def start(self) -> None:
        self._etcd.start().wait_ready()
        self._server.start().wait_ready()

    def stop(self) -> None:
        self._server.stop()
        self._etcd.stop()

    def _ready(self) -> bool:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with urllib3.PoolManager(ca_certs=str(self.ca), retries=False, timeout=3) as pool:
            ready = pool.request("GET", f"{self.url}/readyz", headers=headers).status == 200
            path = f"{self.url}/api/v1/namespaces/default"
            return ready and pool.request("GET", path, headers=headers).status == 200
