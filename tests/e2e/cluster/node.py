"""One node: a mount and a network namespace of its own with containerd and a kubelet in them, and a cgroup subtree.

A component that runs as a plain process on the host reaches the same sockets and files through the node's
real folder: what is `/var/lib/kubelet/device-plugins` to the kubelet is `Node.device_plugin_dir` to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.e2e import programs
from tests.e2e.cluster import cgroups, templates
from tests.e2e.cluster.addresses import Block
from tests.e2e.cluster.api import Json
from tests.e2e.cluster.containerd import Containerd
from tests.e2e.cluster.kubelet import Kubelet
from tests.e2e.cluster.link import Link
from tests.e2e.cluster.processes import Process


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a test wants of a node. Labels and taints are as the kubelet's flags take them."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[str] = ()


class Node:
    def __init__(
        self,
        spec: NodeSpec,
        directory: Path,
        home: Path,
        *,
        cgroup: str,
        block: Block,
        index: int,
        kubeconfig: Path,
        node_ready: Callable[[], object],
    ) -> None:
        self.name = spec.name
        self.address = block.node(index)
        self.home = home
        self.cgroup = cgroup
        self.kubelet_dir = home / "kubelet"
        self.device_plugin_dir = self.kubelet_dir / "device-plugins"
        self.kubelet_socket = self.device_plugin_dir / "kubelet.sock"
        self.pod_resources_socket = self.kubelet_dir / "pod-resources/kubelet.sock"
        self.cdi_dir = home / "cdi"
        self.pod_logs = home / "pods"
        for folder in (self.device_plugin_dir, self.cdi_dir, self.pod_logs, home / "containers"):
            folder.mkdir(parents=True, exist_ok=True)
        self._node_ready = node_ready
        script = str(templates.FOLDER / "node-namespace.sh")
        self._namespace = Process(
            f"namespace-{self.name}",
            [str(programs.find("unshare")), "--mount", "--net", "--propagation", "private", "sh", script, str(home)],
            directory,
            (home / "namespace-ready").exists,
        )
        cgroups.create(cgroup)
        self._namespace.start().wait_ready()
        self.link = Link(block, index, self._namespace.pid)
        inside = [*self.link.enter, f"--mount=/proc/{self._namespace.pid}/ns/mnt", "--"]
        self.containerd = Containerd(self.name, directory, home, inside, block.pods(index))
        self.kubelet = Kubelet(
            self.name,
            directory,
            home,
            inside,
            kubeconfig=kubeconfig,
            address=self.address,
            cgroup=cgroup,
            containerd_socket=self.containerd.socket,
            dns=block.dns,
            labels=spec.labels,
            taints=spec.taints,
        )

    @property
    def mounts_of(self) -> int:
        """A process with the mounts that containerd has."""
        return self._namespace.pid

    @property
    def containerd_socket(self) -> Path:
        return self.containerd.socket

    def start(self, archive: Path) -> None:
        """Starts containerd, loads the images and starts the kubelet; does not wait for Ready."""
        self.containerd.start().wait_ready()
        self.containerd.load(archive)
        self.kubelet.start()

    def container_log(self, pod: Json, container: str = "main", attempt: int = 0) -> str:
        """What the container printed, from the kubelet's log folder; `attempt` counts its restarts."""
        parts = (line.split(" ", 3) for line in self._log_lines(pod, container, attempt))
        return "".join(text + ("\n" if tag == "F" else "") for _, _, tag, text in parts)

    def first_output_at(self, pod: Json, container: str = "main") -> float:
        """When the container's first start printed its first line, in seconds as ``time.time()`` has them."""
        return datetime.fromisoformat(self._log_lines(pod, container, 0)[0].split(" ", 1)[0]).timestamp()

    def _log_lines(self, pod: Json, container: str, attempt: int) -> list[str]:
        """Each is: time, stream, F (full) or P (partial), text."""
        meta = pod["metadata"]
        file = self.pod_logs / f"{meta['namespace']}_{meta['name']}_{meta['uid']}" / container / f"{attempt}.log"
        return file.read_text(errors="replace").splitlines()

    def wait_ready(self) -> None:
        """Until the kubelet is healthy and the API server says Ready."""
        self.kubelet.wait_ready()
        self._node_ready()
