"""Tessera with the remote pool: node-a has GPUs; node-b has none, and takes pods whose slices are on node-a.

node-c has GPUs too and is cordoned, for leases that are to move.
"""

from __future__ import annotations

import time
from pathlib import Path

import urllib3

from tests.e2e import torch_images
from tests.e2e.cluster.api import Json
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.node import Node, NodeSpec
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.chart import NAMESPACE
from tests.e2e.product.product import Product

GPUS, CLIENT, SPARE = "node-a", "node-b", "node-c"
LEASE = "tessera.io/v1alpha1"
EXECUTOR_MEMORY = "1536Mi"
_VALUES = (
    "pool.enabled=true",
    f"pool.executor.image={torch_images.EXECUTOR}",
    "pool.executor.cpu=300m",
    f"pool.executor.memory={EXECUTOR_MEMORY}",
)
_AUTHORITY = "tessera-pool-ca"


class Pooled(Product):
    """As ``Product``, and ``processes`` has ``pool-controller`` too. The executors compute on the CPU."""

    NODES = (NodeSpec(GPUS), NodeSpec(CLIENT), NodeSpec(SPARE))

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, models={GPUS: ["H100", "L4"], SPARE: ["H100"]}, values=_VALUES)

    def start(self) -> Pooled:
        user, executor = torch_images.write(self.directory)
        for node in (GPUS, SPARE):
            self.cluster.nodes[node].containerd.load(executor)
        self.cordon(SPARE)
        self.cluster.nodes[CLIENT].containerd.load(user)
        super().start()
        wait_until(f"{CLIENT} offers slots", self._offers_slots)
        return self

    def cordon(self, node: str, *, closed: bool = True) -> None:
        """It takes no new pods, and gives its sessions to others; or it takes some again."""
        self.cluster.api.patch("Node", node, {"spec": {"unschedulable": closed}})

    def start_control(self) -> None:
        super().start_control()
        spec = self.directory / "executor-spec.json"
        spec.write_text(self.chart.find("ConfigMap", "tessera-pool-controller")["data"]["spec.json"])
        environment = self.chart.environment("Deployment", "tessera-pool-controller", "pool-controller") | {
            "TESSERA_KUBECONFIG": str(self.cluster.service_account("tessera-pool-controller", NAMESPACE)),
            "TESSERA_HOST": self.cluster.block.api,
            "TESSERA_CONTROLLER_ADDRESS": f"{self.cluster.block.api}:8444",
            "TESSERA_GATE_IMAGE": torch_images.EXECUTOR,
            "TESSERA_EXECUTOR_DEVICE": "cpu",
            "TESSERA_EXECUTOR_SPEC_FILE": str(spec),
            "TESSERA_LEASE_S": "5",
            "TESSERA_REQUEST_TIMEOUT_S": "2",
        }
        self.add("pool-controller", ["pool-controller"], environment, self._controls)

    def start_node(self, node: Node) -> None:
        if node.name != CLIENT:
            return super().start_node(node)
        home = node.home / "tessera"
        home.mkdir()
        environment = self.chart.environment("DaemonSet", "tessera-client-node", "client-device-plugin") | {
            "TESSERA_KUBECONFIG": str(self.identity(node, "tessera-client-node")),
            "TESSERA_NODE": node.name,
            "TESSERA_STATE_DIR": str(home / "plugin"),
            "TESSERA_KUBELET_DIR": str(node.kubelet_dir),
            "TESSERA_CDI_DIR": str(node.cdi_dir),
            "TESSERA_CRI_SOCKET": str(node.containerd_socket),
            "TESSERA_POOL_CA": str(self._authority()),
        }
        return self.add(f"plugin-{node.name}", ["device-plugin"], environment, lambda: True, node)

    def leases(self) -> list[Json]:
        return self.cluster.api.items("GPULease", version=LEASE, everywhere=True)

    def executors(self) -> list[Json]:
        """The pods of executors, those that are going too."""
        return self.cluster.api.items("Pod", NAMESPACE, labelSelector="app.kubernetes.io/component=pool-executor")

    def cut(self, node: str, seconds: float) -> None:
        """Nothing reaches the node or its pods, nor comes from there, for so long."""
        with self.cluster.nodes[node].link.cut():
            time.sleep(seconds)  # the outage itself

    def _authority(self) -> Path:
        """The ConfigMap of the pool's authority, as the kubelet would mount it."""
        found = wait_until("the pool's authority", lambda: self.cluster.api.find("ConfigMap", _AUTHORITY, NAMESPACE))
        path = self.directory / "pool-ca.crt"
        path.write_text(found["data"]["ca.crt"])
        return path

    def _controls(self) -> bool:
        with urllib3.PoolManager(retries=False, timeout=3) as pool:
            return pool.request("GET", f"http://{self.cluster.block.api}:9445/readyz").status == 200

    def _offers_slots(self) -> bool:
        return int(self.cluster.api.get("Node", CLIENT)["status"]["allocatable"].get("tessera.io/slice", 0)) > 0
