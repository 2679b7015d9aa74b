"""All of Tessera on the cluster: one scheduler, and device plugin and agent for each node."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import urllib3

from tests.e2e.cluster.api import Json
from tests.e2e.cluster.cluster import TWO_NODES, Cluster
from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.processes import Process, wait_until
from tests.e2e.product.chart import NAMESPACE, Chart
from tests.e2e.product.machines import Machine

TESSERA = str(Path(sys.executable).parent / "tessera")
MODELS = {"node-a": ["H100", "L4", "L4", "T4"], "node-b": ["A100", "L4"]}


class Product:
    """Installed and ready after ``start``. ``processes`` are ours, by name: scheduler, plugin-NODE, agent-NODE.

    ``NODES``: of the cluster that it is for.
    """

    NODES = TWO_NODES

    def __init__(
        self,
        cluster: Cluster,
        shim: Path | None = None,
        agents: Mapping[str, Mapping[str, str]] | None = None,
        models: Mapping[str, list[str]] = MODELS,
        values: Sequence[str] = (),
    ) -> None:
        """``shim``: a folder as ``native/build.py`` makes it; none: containers are held without. ``agents``: further
        variables of nodes' agents; ``models``: their GPUs; ``values``: further ones of the chart."""
        self.cluster, self._shim, self._agents, self._models = cluster, shim, agents or {}, models
        self.directory = cluster.directory / "product"
        self.directory.mkdir()
        self.chart = Chart(cluster, *(["node.agent.shim=true"] if shim else []), *values)
        self.machines: dict[str, Machine] = {}
        self.processes: dict[str, Process] = {}

    def start(self) -> Product:
        self.chart.install(self.cluster.block.api)
        self.start_control()
        for node in self.cluster.nodes.values():
            self.start_node(node)
        for process in self.processes.values():
            process.wait_ready()
        for name, machine in self.machines.items():
            self._wait_node(name, machine)
        self._configure_kube_scheduler()
        return self

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.stop()

    def logs(self) -> str:
        """The last lines of each of our processes, for a failed test."""
        return "\n\n".join(f"== {p.name} ({p.log})\n{p.log_tail()}" for p in self.processes.values())

    def uuids(self) -> set[str]:
        return {uuid for machine in self.machines.values() for uuid in machine.uuids}

    def nvidia_cdi(self, node: str) -> Path:
        """Where NVIDIA's CDI spec of a node would lie; there is no such folder until a test makes it."""
        return self.cluster.nodes[node].home / "tessera" / "nvidia-cdi"

    def gpu_nodes(self) -> dict[str, Json]:
        found = self.cluster.api.items("GPUNode", version="tessera.io/v1alpha1")
        return {each["metadata"]["name"]: each for each in found}

    def ledger_bytes(self) -> int:
        """What the scheduler's ledger has as given, of all GPUs together."""
        ca = self.directory / "tessera-scheduler-tls" / "ca.crt"
        text = _page(f"https://{self.cluster.block.api}:9443/metrics", ca).data.decode()
        found = re.search(r'^tessera_gpu_memory_bytes\{state="allocated"\} (\S+)$', text, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))

    def start_control(self) -> None:
        keys = self.chart.secret_files("tessera-scheduler-tls", self.directory)
        environment = self.chart.environment("Deployment", "tessera-scheduler", "scheduler") | {
            "TESSERA_KUBECONFIG": str(self.cluster.service_account("tessera-scheduler", NAMESPACE)),
            "TESSERA_HOST": self.cluster.block.api,
            "TESSERA_TLS_CERT_FILE": str(keys / "tls.crt"),
            "TESSERA_TLS_KEY_FILE": str(keys / "tls.key"),
            "TESSERA_CLIENT_CA_FILE": str(keys / "ca.crt"),
            "TESSERA_LEASE_S": "5",
        }
        del environment["NUMBA_CACHE_DIR"]  # the pod's own folder; here the checkout has one
        ready = _answers(f"https://{self.cluster.block.api}:9443/readyz", keys / "ca.crt")
        self._scheduler = environment, ready
        self.add("scheduler", ["scheduler"], environment, ready)

    def start_scheduler_anew(self, **variables: str) -> None:
        """With ``variables`` beside those of the chart; returns when it is ready."""
        environment, ready = self._scheduler
        self.processes["scheduler"].stop()
        self.add("scheduler", ["scheduler"], environment | variables, ready)
        self.processes["scheduler"].wait_ready()

    def start_node(self, node: Node) -> None:
        machine = Machine(node.name, self._models[node.name], self.directory / f"{node.name}.nvml")
        self.machines[node.name] = machine
        home = node.home / "tessera"
        common = {
            "TESSERA_KUBECONFIG": str(self.identity(node)),
            "TESSERA_NODE": node.name,
            "TESSERA_AGENT_SOCKET": str(home / "agent.sock"),
        }
        agent = self.chart.environment("DaemonSet", "tessera-node", "node-agent") | common | machine.environment
        agent |= {"TESSERA_STATE_DIR": str(home / "agent"), "TESSERA_METRICS_PORT": "0"}
        agent["TESSERA_MOUNTS_OF"] = str(node.mounts_of)
        if self._shim:
            agent["TESSERA_SHIM"] = str(self._shim / platform.machine() / "libtessera.so")
        agent |= self._agents.get(node.name, {})
        plugin = self.chart.environment("DaemonSet", "tessera-node", "device-plugin") | common | {
            "TESSERA_STATE_DIR": str(home / "plugin"),
            "TESSERA_KUBELET_DIR": str(node.kubelet_dir),
            "TESSERA_CDI_DIR": str(node.cdi_dir),
            "TESSERA_NVIDIA_CDI_DIRS": str(self.nvidia_cdi(node.name)),
        }  # fmt: skip
        home.mkdir()
        self.add(f"agent-{node.name}", ["node-agent"], agent, (home / "agent.sock").exists, node)
        self.add(f"plugin-{node.name}", ["device-plugin"], plugin, lambda: True, node)

    def identity(self, node: Node, account: str = "tessera-node") -> Path:
        """The token that the kubelet would mount into the DaemonSet's pod on this node: it names the node."""
        api, name = self.cluster.api, f"identity-{node.name}"
        spec = {"nodeName": node.name, "serviceAccountName": account, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": BUSYBOX, "imagePullPolicy": "Never",
                                "command": ["sleep", "1000000"]}]}  # fmt: skip
        metadata = {"name": name, "namespace": NAMESPACE}
        pod = api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        kubeconfig = self.cluster.service_account(account, NAMESPACE, pod)
        return kubeconfig.rename(kubeconfig.with_name(f"tessera-{node.name}"))

    def add(
        self, name: str, command: list[str], environment: dict[str, str], ready: Callable[[], object],
        node: Node | None = None,
    ) -> None:  # fmt: skip
        """Starts a process of ours, in its ``node``'s network if it has one; ``start`` waits until all are ready."""
        environment = environment | {"TESSERA_LOG_LEVEL": "info", "TESSERA_LOG_FORMAT": "json"}
        words = [*(node.link.enter if node else ()), TESSERA, *command]
        self.processes[name] = Process(name, words, self.cluster.directory, ready, environment).start()

    def _wait_node(self, name: str, machine: Machine) -> None:
        def offered() -> bool:
            status = self.cluster.api.get("Node", name)["status"]["allocatable"]
            published = self.gpu_nodes().get(name, {}).get("status", {}).get("gpus", [])
            slots = int(status.get("tessera.io/slice", 0))
            return bool(slots and "tessera.io/gpu-mem" in status and len(published) == len(machine.uuids))

        wait_until(f"{name} offers its GPUs", offered)

    def _configure_kube_scheduler(self) -> None:
        """The chart's own configuration, with addresses and paths of this machine."""
        keys = self.chart.secret_files("tessera-kube-scheduler-tls", self.directory)
        config = self.chart.kube_scheduler()
        for extender in config["extenders"]:
            extender["tlsConfig"] = {"serverName": f"tessera-scheduler.{NAMESPACE}.svc", "caFile": str(keys / "ca.crt"),
                                     "certFile": str(keys / "tls.crt"), "keyFile": str(keys / "tls.key")}  # fmt: skip
            extender["urlPrefix"] = (
                f"https://{self.cluster.block.api}:8443{extender['urlPrefix'].partition(':8443')[2]}"
            )
        config["leaderElection"] = {"leaderElect": False}
        config["profiles"].append({"schedulerName": "default-scheduler"})
        self.cluster.scheduler.use_config(config)


def _answers(url: str, ca: Path) -> Callable[[], bool]:
    return lambda: _page(url, ca).status == 200


def _page(url: str, ca: Path) -> urllib3.BaseHTTPResponse:
    name = f"tessera-scheduler.{NAMESPACE}.svc"
    with urllib3.PoolManager(ca_certs=str(ca), assert_hostname=name, retries=False, timeout=5) as pool:
        return pool.request("GET", url)
