"""Tells people what the agent found, as events on pods and on the node. Without an API server nothing is told."""

from collections.abc import Iterable

from tessera.kube.events import EventRecorder
from tessera.kube.wire import ObjectReference
from tessera.model.gpus import Gpu
from tessera.model.quantities import format_bytes
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.nvml import Xid
from tessera.node_agent.over_limit import Action, Step
from tessera.node_agent.slices import Slice
from tessera.node_agent.xids import describe

_CONSEQUENCE = {
    Step.TELL: "its newest process is ended next, then the container",
    Step.END_CLIENT: "its newest process, {pid}, was ended",
    Step.END_CONTAINER: "the container was ended",
}


class Announcer:
    """``recorder`` is ``None`` where there is no API server."""

    def __init__(self, recorder: EventRecorder | None, node: str) -> None:
        self._recorder, self._node = recorder, node

    def over_limit(self, holders: Iterable[tuple[str, str, str, str]], action: Action) -> None:
        """One event on the pod of each holder (namespace, pod, UID, container)."""
        usage = action.usage
        amount = (
            f"uses {format_bytes(usage.used_bytes)} of GPU {usage.gpu_uuid}, limit {format_bytes(usage.limit_bytes)}"
        )
        consequence = _CONSEQUENCE[action.step].format(pid=action.process.pid)
        for namespace, pod, uid, container in list(holders)[:1]:
            text = f"container {container} {amount}: {consequence}"
            self._on_pod(namespace, pod, uid, "Warning", "SliceOverLimit", text)

    def health(self, gpu: Gpu) -> None:
        """A GPU has left or has come back."""
        if gpu.health.healthy:
            self._on_node("Normal", "GPUHealthy", f"GPU {gpu.uuid} ({gpu.model}) can be used again")
        else:
            self._on_node("Warning", "GPUUnhealthy", f"GPU {gpu.uuid} ({gpu.model}): {gpu.health.reason}")

    def level(self, gpu: Gpu, before: int, evidence: str, slices: Iterable[Slice]) -> None:
        """A GPU has another enforcement level than ``before``; of a lower one the pods on it are told too."""
        text = f"GPU {gpu.uuid} ({gpu.model}) went from enforcement level {before} to {gpu.level}: {evidence}"
        if gpu.level > before:
            self._on_node("Normal", "EnforcementRaised", text)
            return
        self._on_node("Warning", "EnforcementLowered", text)
        for item in slices:
            if any(share.uuid == gpu.uuid and not share.whole for share in item.shares):
                self._on_pod(item.namespace, item.pod, item.pod_uid, "Warning", "EnforcementLowered", text)

    def xid(self, event: Xid) -> None:
        """The driver reported an error."""
        self._on_node("Warning", "GPUXid", f"GPU {event.gpu_uuid or '(not named)'}: {describe(event.code)}")

    def incident(self, incident: Incident, slices: Iterable[Slice]) -> None:
        """Something that concerns all slices on a GPU."""
        self._on_node(incident.kind, incident.reason, incident.text)
        for item in slices:
            if item.id in incident.slices:
                self._on_pod(item.namespace, item.pod, item.pod_uid, incident.kind, incident.reason, incident.text)

    def _on_pod(self, namespace: str, pod: str, uid: str, kind: str, reason: str, text: str) -> None:
        if self._recorder:
            about = ObjectReference(api_version="v1", kind="Pod", namespace=namespace, name=pod, uid=uid)
            self._recorder.record(about, kind, reason, text)

    def _on_node(self, kind: str, reason: str, text: str) -> None:
        if self._recorder:
            about = ObjectReference(api_version="v1", kind="Node", name=self._node, uid=self._node)
            self._recorder.record(about, kind, reason, text)
