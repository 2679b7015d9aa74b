"""A whole Kubernetes cluster on one machine, all real: etcd, control plane, and a kubelet with containerd per node.

`start` gives back a cluster whose nodes are Ready, or raises and leaves nothing behind. `stop` ends everything
that was started, containers, mounts, cgroups and addresses included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e import programs
from tests.e2e.cluster import addresses, images, teardown
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.apiserver import ApiServer, Tokens, User
from tests.e2e.cluster.certs import Authority
from tests.e2e.cluster.controller_manager import ControllerManager
from tests.e2e.cluster.etcd import Etcd
from tests.e2e.cluster.kubectl import Kubectl
from tests.e2e.cluster.node import Node, NodeSpec
from tests.e2e.cluster.processes import Process
from tests.e2e.cluster.scheduler import Scheduler

TWO_NODES = (NodeSpec("node-a"), NodeSpec("node-b"))


class Cluster:
    """Processes, addresses and identities of one cluster. All paths lie under `directory`.

    `users` are further identities of the token file: name -> groups. They are found again in `self.users`.
    """

    def __init__(
        self,
        specs: Sequence[NodeSpec] = TWO_NODES,
        users: Mapping[str, Sequence[str]] | None = None,
        keep: bool = False,
    ) -> None:
        programs.require()
        if os.geteuid() != 0:
            raise programs.Missing("the end-to-end cluster needs root: it makes mount namespaces and cgroups")
        teardown.remove_abandoned()
        self.directory = teardown.new_directory()
        self.block = addresses.claim(self.directory)
        cgroups = {spec.name: f"{self.directory.name}-{spec.name}" for spec in specs}
        teardown.record(self.directory, self.block, list(cgroups.values()), keep)
        self._specs, self._cgroups = specs, cgroups
        self.nodes: dict[str, Node] = {}
        self._other_users = users
        self.timings: dict[str, float] = {}

    def start(self) -> Cluster:
        """All processes ready and all nodes Ready; otherwise the cluster is torn down and the error raised."""
        try:
            self._start_control_plane()
            self._start_nodes()
        except BaseException:
            if not os.environ.get("TESSERA_E2E_KEEP"):
                self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends everything by PID and removes all files."""
        teardown.remove(self.directory)

    @property
    def processes(self) -> dict[str, Process]:
        """Every process of the cluster that has an object, by name."""
        control = [self.etcd, self.apiserver, self.controller_manager, self.scheduler]
        return {p.name: p for p in control + [p for n in self.nodes.values() for p in (n.containerd, n.kubelet)]}

    def as_user(self, user: User | str, namespace: str = "default") -> Api:
        """A client for an identity of the token file, or for any bearer token."""
        return Api(self.apiserver.url, self.apiserver.ca, user if isinstance(user, str) else user.token, namespace)

    def kubectl(self, namespace: str = "default") -> Kubectl:
        """The real kubectl and helm as the administrator."""
        return Kubectl(self.kubeconfig, namespace)

    def add_user(self, name: str, *groups: str) -> User:
        """A new identity. The API server restarts, as it reads its token file at start only."""
        user = self.tokens.add(name, *groups)
        self.apiserver.restart()
        return user

    def service_account(self, name: str, namespace: str, *bound_to: Json) -> Path:
        """Kubeconfig with a fresh token of a service account; `bound_to` a Pod, for the node's claim in the token."""
        token = self.api.service_account_token(name, namespace, *bound_to)
        return self.apiserver.kubeconfig(User(f"{namespace}.{name}", (), token))

    def logs(self) -> str:
        """The last lines of every process, for a failed test."""
        return "\n\n".join(f"== {p.name} ({p.log})\n{p.log_tail(6)}" for p in self.processes.values())

    def _start_control_plane(self) -> None:
        began = time.monotonic()
        directory, block = self.directory, self.block
        self.archive = images.write(directory / "images.tar", programs.find("busybox"))
        self.authority = Authority(directory / "certs")
        block.add(block.api)
        self.tokens = Tokens(directory / "tokens.csv")
        self.users = {name: self.tokens.add(name, *groups) for name, groups in (self._other_users or {}).items()}
        self.admin = self.tokens.add("admin", "system:masters")
        controller, scheduler = (self.tokens.add(f"system:kube-{x}") for x in ("controller-manager", "scheduler"))
        self._node_users = {s.name: self.tokens.add(f"system:node:{s.name}", "system:nodes") for s in self._specs}
        self.etcd = Etcd(directory)
        self.apiserver = api = ApiServer(directory, block, self.etcd.url, self.authority, self.tokens)
        self.kubeconfig = api.kubeconfig(self.admin)
        ca, key = self.authority, api.service_account_key
        self.controller_manager = ControllerManager(directory, api.kubeconfig(controller), ca, key)
        self.scheduler = Scheduler(directory, api.kubeconfig(scheduler), ca)
        self.api = self.as_user(self.admin)
        self.etcd.start().wait_ready()
        self.apiserver.start().wait_ready()
        self.timings["API server ready"] = time.monotonic() - began

    def _start_nodes(self) -> None:
        began = time.monotonic()
        self.controller_manager.start()
        self.scheduler.start()
        for index, spec in enumerate(self._specs):
            self.nodes[spec.name] = self._node(index, spec)
            self.nodes[spec.name].start(self.archive)
        self.controller_manager.wait_ready()
        self.scheduler.wait_ready()
        for node in self.nodes.values():
            node.wait_ready()
        self.api.wait("ServiceAccount", "default", bool)
        self.timings["nodes Ready"] = time.monotonic() - began

    def _node(self, index: int, spec: NodeSpec) -> Node:
        home = self.directory / "abcdefgh"[index]
        return Node(
            spec,
            self.directory,
            home,
            cgroup=self._cgroups[spec.name],
            block=self.block,
            index=index,
            kubeconfig=self.apiserver.kubeconfig(self._node_users[spec.name]),
            node_ready=lambda: self.api.wait("Node", spec.name, node_is_ready, timeout_s=90),
        )


def node_is_ready(node: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
