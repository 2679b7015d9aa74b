"""A trace's nodes and pods as the API server stores them, and the chart's own configuration of kube-scheduler."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.connection import Target
from benchmarks.population import GPU_NODES, NODES, Step
from tessera.model import names
from tessera.model.quantities import MIB
from tessera.simulator.light_hosts import gpu_node_plain
from tessera.simulator.replay.openb import Shape, TraceNode
from tessera.simulator.replay.pods import gpu_node_of, pod_of
from tests.e2e import programs

CHART = Path(__file__).parents[1] / "charts" / "tessera"
PODS_PER_NODE = 1000
"""A trace knows no limit of pods, so it must not be one."""
_TEMPLATE = "templates/kube-scheduler.yaml"
Plain = dict[str, Any]


def node_object(node: TraceNode) -> Plain:
    """The Node as kubelet and device plugin would have made it, all CPU and memory for pods."""
    capacity = {
        "cpu": f"{node.cpu_milli}m",
        "memory": f"{node.memory_mib}Mi",
        "ephemeral-storage": "1Ti",
        "pods": str(PODS_PER_NODE),
        names.SLICE: str(node.gpus * names.SLOTS_PER_GPU),
        names.GPU_MEM: str(node.gpus * node.gpu_mem_mib * MIB),
        names.GPU_CORE: str(100 * node.gpus),
        names.GPU: str(node.gpus),
    }
    labels = {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": {},
        "status": {"capacity": capacity, "allocatable": capacity, "conditions": [ready]},
    }


def node_steps(node: TraceNode) -> list[Step]:
    """The requests that make the Node, without the taint that admission gives it, and its GPUNode."""
    published = gpu_node_plain(gpu_node_of(node), {}, datetime.now(UTC))
    return [
        ("POST", NODES, node_object(node)),
        ("PATCH", f"{NODES}/{node.name}", {"spec": {"taints": None}}),
        ("POST", GPU_NODES, published),
        ("PATCH", f"{GPU_NODES}/{node.name}/status", {"status": published["status"]}),
    ]


def pod_object(shape: Shape, name: str) -> Plain:
    """A pod of ``shape`` as the webhook leaves it."""
    pod = pod_of(shape)
    (container,) = pod.containers
    resources = {"limits": dict(container.limits), "requests": {**container.requests, **container.limits}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": dict(pod.annotations)},
        "spec": {
            "schedulerName": names.SCHEDULER,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": container.name, "image": "app:1", "resources": resources}],
        },
    }


def configuration(extender: Target, values: Sequence[str]) -> Plain:
    """What the chart gives kube-scheduler with these ``key=value``, but for leader election and TLS."""
    given = [f"--set={value}" for value in values]
    command = [str(programs.find("helm")), "template", "tessera", str(CHART), f"--show-only={_TEMPLATE}", *given]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    (found,) = (each for each in yaml.safe_load_all(rendered) if each and each["kind"] == "ConfigMap")
    config: Plain = yaml.safe_load(found["data"]["config.yaml"])
    config["leaderElection"] = {"leaderElect": False}
    for each in config["extenders"]:
        each["urlPrefix"] = extender.url + each["urlPrefix"].partition(":8443")[2]
        del each["enableHTTPS"], each["tlsConfig"]
    return config
