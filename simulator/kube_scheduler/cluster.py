"""What the scheduler knows of the cluster: nodes and pods as last heard of, and pods assumed to be on a node."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from tessera.kube.reflector import Change, Deleted, Replaced, Upserted
from tessera.simulator.kube_scheduler.fitting import counted_requests

Plain = dict[str, Any]


def uid_of(pod: Plain) -> str:
    return str(pod["metadata"]["uid"])


def ended(pod: Plain) -> bool:
    """Whether the pod's phase is a last one."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


class View:
    """Nodes, pods and what is taken where. An assumed pod counts on its node until the API server speaks of it."""

    def __init__(self) -> None:
        self.nodes: dict[str, Plain] = {}
        self.pods: dict[str, Plain] = {}
        self._where: dict[str, str] = {}
        self._used: dict[str, dict[str, Fraction]] = {}

    def take_nodes(self, change: Change[Plain]) -> bool:
        """Applies a change; whether it may help a waiting pod."""
        match change:
            case Replaced(objects):
                self.nodes = {node["metadata"]["name"]: node for node in objects}
            case Upserted(node):
                before = self.nodes.get(node["metadata"]["name"])
                self.nodes[node["metadata"]["name"]] = node
                return before is None or _outside_heartbeat(before) != _outside_heartbeat(node)
            case Deleted(node):
                self.nodes.pop(node["metadata"]["name"], None)
                return False
        return True

    def take_pods(self, change: Change[Plain]) -> Iterator[Plain]:
        """Applies a change; yields the pods it spoke of, those that are gone with ``deletionTimestamp`` set."""
        match change:
            case Replaced(objects):
                present = {uid_of(pod) for pod in objects}
                for uid in [uid for uid in self.pods if uid not in present]:
                    yield self._forget(self.pods[uid])
                for pod in objects:
                    yield self._note(pod)
            case Upserted(pod):
                yield self._note(pod)
            case Deleted(pod):
                yield self._forget(pod)

    def used(self, node: str) -> dict[str, Fraction]:
        """What is taken on a node of what the scheduler counts."""
        return self._used.get(node, {})

    def node_of(self, uid: str) -> str:
        """Where the pod is, or is assumed to be; empty if nowhere."""
        return self._where.get(uid, "")

    def assume(self, pod: Plain, node: str) -> None:
        """Counts the pod on ``node`` while its Binding is under way."""
        self._place(pod, node)

    def forget_assumed(self, pod: Plain) -> None:
        """The Binding failed."""
        known = self.pods.get(uid_of(pod))
        if known is None or not known["spec"].get("nodeName"):
            self._place(pod, "")

    def _note(self, pod: Plain) -> Plain:
        uid, node = uid_of(pod), pod["spec"].get("nodeName") or ""
        self.pods[uid] = pod
        if ended(pod):
            self._place(pod, "")
        elif node:
            self._place(pod, node)
        return pod

    def _forget(self, pod: Plain) -> Plain:
        self.pods.pop(uid_of(pod), None)
        self._place(pod, "")
        return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "gone"}}

    def _place(self, pod: Plain, node: str) -> None:
        uid = uid_of(pod)
        before = self._where.pop(uid, "")
        if before:
            self._add(before, pod, -1)
        if node:
            self._where[uid] = node
            self._add(node, pod, 1)

    def _add(self, node: str, pod: Plain, sign: int) -> None:
        used = self._used.setdefault(node, {})
        for key, value in counted_requests(pod).items():
            used[key] = used.get(key, Fraction(0)) + sign * value


def _outside_heartbeat(node: Plain) -> tuple[Any, ...]:
    """What of a node may change a pod's fate: labels, annotations, taints, allocatable, readiness."""
    meta, status = node["metadata"], node.get("status") or {}
    ready = [(c.get("type"), c.get("status")) for c in status.get("conditions") or []]
    return meta.get("labels"), meta.get("annotations"), node.get("spec"), status.get("allocatable"), ready
