"""From objects of the API server to records, and from a status to what is written of it."""

from dataclasses import dataclass
from typing import Any

from msgspec import to_builtins

from tessera.kube import wire
from tessera.kube.convert import attach_of, gpu_lease_of, lease_slice
from tessera.model import names
from tessera.model.assignment import AssignmentError, decode
from tessera.remote.controller.records import Executor, Record, Status

ENDED = ("Succeeded", "Failed")
MESSAGE = 1024
"""Characters that a status keeps of one."""


@dataclass(frozen=True, slots=True)
class ClientPod:
    """What is kept of a pod that may be a client: ``leases`` are those that its assignment names."""

    namespace: str
    uid: str
    leases: tuple[str, ...]
    ended: bool


def record_of(lease: wire.GpuLease) -> Record:
    """Raises ``ValueError`` for a phase that is not known."""
    known, status, meta = gpu_lease_of(lease), lease.status, lease.metadata
    executor = status.executor or wire.LeaseExecutor()
    return Record(
        known=known,
        version=meta.resource_version,
        held=names.LEASE_FINALIZER in meta.finalizers,
        attach=attach_of(lease.spec.attach) if known.client else None,
        status=Status(
            phase=known.phase,
            epoch=status.epoch,
            attached=attach_of(status.attached),
            executor=executor.name,
            executor_uid=executor.uid,
            endpoint=status.endpoint,
            message=status.message,
            next=status.next.name if status.next else "",
            next_uid=status.next.uid if status.next else "",
            client=status.client,
        ),
    )


def status_patch(record: Record, status: Status, namespace: str, now: str) -> dict[str, Any]:
    """A merge patch of ``status`` that fails if the lease has changed since. ``namespace``: the executors'."""
    attached = status.attached and {"device": status.attached.device, "after": status.attached.after}
    return {
        "metadata": _fence(record),
        "status": {
            "phase": status.phase.value,
            "epoch": status.epoch,
            "client": status.client or None,
            "attached": attached,
            "executor": _reference(namespace, status.executor, status.executor_uid),
            "next": _reference(namespace, status.next, status.next_uid),
            "endpoint": status.endpoint or None,
            "serverName": record.known.server_name if status.endpoint else None,
            "message": status.message[:MESSAGE] or None,
            "renewTime": now,
        },
    }


def settling_patch(record: Record) -> dict[str, Any]:
    """A merge patch, fenced alike, by which the slice that the lease moves to becomes its slice."""
    target = record.known.target
    assert target is not None
    return {
        "metadata": _fence(record),
        "spec": {"slice": to_builtins(lease_slice(target, record.known.domain)), "target": None},
    }


def emptying_patch(record: Record) -> dict[str, Any]:
    """A merge patch, fenced alike, by which the lease keeps no room."""
    return {"metadata": _fence(record), "spec": {"slice": None, "target": None}}


def _fence(record: Record) -> dict[str, Any]:
    """Of a patch that fails if the lease has changed since."""
    return {"uid": record.known.uid, "resourceVersion": record.version}


def _reference(namespace: str, name: str, uid: str) -> dict[str, Any] | None:
    return {"namespace": namespace, "name": name, "uid": uid or None} if name else None


def executor_of(pod: wire.Pod, port: int) -> Executor:
    """``port``: of its gate. Only the annotation says that a pod is one: an admission policy keeps it from others."""
    meta, status = pod.metadata, pod.status
    lease = meta.annotations.get(names.LEASE, "")
    host = f"[{status.pod_ip}]" if ":" in status.pod_ip else status.pod_ip
    return Executor(
        name=meta.name,
        uid=meta.uid,
        lease_uid=meta.labels.get(names.LEASE_UID, "") if lease else "",
        lease=lease,
        endpoint=f"{host}:{port}" if host else "",
        deleting=meta.deletion_timestamp is not None,
        fault=_fault(status),
        waits=_waits(pod),
        node=pod.spec.node_name,
    )


def client_pod(pod: wire.Pod) -> ClientPod:
    meta, ended = pod.metadata, pod.status.phase in ENDED
    return ClientPod(meta.namespace, meta.uid, leases_of(pod) if pod.spec.node_name else (), ended)


def leases_of(pod: wire.Pod) -> tuple[str, ...]:
    """The leases that the pod's assignment names."""
    text = pod.metadata.annotations.get(names.ASSIGNMENT, "")
    if '"lease"' not in text:
        return ()
    try:
        return tuple(lease for _, lease in decode(text).leases)
    except AssignmentError:
        return ()


def _fault(status: wire.PodStatus) -> str:
    """An executor is used once: the end of a container is its own."""
    if status.phase in ENDED:
        return f"found it {status.phase}" + (f": {status.message or status.reason}" if status.reason else "")
    for found in status.container_statuses:
        if ended := found.state.terminated:
            why = f" ({ended.message or ended.reason})" if ended.message or ended.reason else ""
            return f"container {found.name} ended with status {ended.exit_code}{why}"
    return ""


def _waits(pod: wire.Pod) -> str:
    """What others have to say of it."""
    said = ""
    if not pod.spec.node_name:
        conditions = pod.status.conditions
        said = next((c.message or "" for c in conditions if c.type == "PodScheduled" and c.status == "False"), "")
    for found in pod.status.container_statuses:
        waiting = found.state.waiting
        if waiting and waiting.reason not in ("", "ContainerCreating"):
            said = f"container {found.name}: {waiting.reason}" + (f": {waiting.message}" if waiting.message else "")
    return said and f"executor {pod.metadata.name}: {said}"[:MESSAGE]
