"""kube-apiserver at the address of the `kubernetes` Service, with RBAC and tokens from a file.

Webhooks named by Service are called at the endpoint's own address (`--enable-aggregator-routing`), since no
kube-proxy runs here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import urllib3

from tests.e2e import programs
from tests.e2e.cluster import templates
from tests.e2e.cluster.addresses import Block
from tests.e2e.cluster.certs import Authority, service_account_key
from tests.e2e.cluster.processes import Process

PORT = 443


@dataclass(frozen=True, slots=True)
class User:
    """An identity of the token file: RBAC sees its name and groups."""

    name: str
    groups: tuple[str, ...]
    token: str


class Tokens:
    """The token file. kube-apiserver reads it at start only: `add` users before, or restart it after."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.users: dict[str, User] = {}

    def add(self, name: str, *groups: str) -> User:
        user = User(name, groups, secrets.token_hex(16))
        self.users[name] = user
        lines = [f'{u.token},{u.name},{i},"{",".join(u.groups)}"' for i, u in enumerate(self.users.values())]
        self.path.write_text("\n".join(lines) + "\n")
        return user


class ApiServer(Process):
    def __init__(self, directory: Path, block: Block, etcd_url: str, authority: Authority, tokens: Tokens) -> None:
        self.url = f"https://{block.api}:{PORT}"
        self.ca = authority.cert
        self.service_account_key = service_account_key(authority.directory)
        self._directory = directory
        hosts = (block.api, "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        serving = authority.issue("kube-apiserver", hosts)
        command = [
            str(programs.find("kube-apiserver")),
            f"--etcd-servers={etcd_url}",
            f"--bind-address={block.api}",
            f"--secure-port={PORT}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={authority.cert}",
            f"--cert-dir={authority.directory}",
            f"--service-cluster-ip-range={block.services}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.service_account_key}",
            f"--service-account-signing-key-file={self.service_account_key}",
            f"--token-auth-file={tokens.path}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--enable-aggregator-routing=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
        ]
        super().__init__("kube-apiserver", command, directory, self._ready_now)

    def kubeconfig(self, user: User) -> Path:
        """File by which kubectl, helm and the components speak to this server as `user`."""
        file = self._directory / "kubeconfigs" / user.name.replace(":", "-")
        return templates.write(file, "kubeconfig.yaml", server=self.url, ca=self.ca, token=user.token)

    def _ready_now(self) -> bool:
        with urllib3.PoolManager(ca_certs=str(self.ca), retries=False, timeout=3) as pool:
            return pool.request("GET", f"{self.url}/readyz").status == 200
