"""The executor's pod: one container that holds the slice and computes, one that lets clients in. Pure.

Settings are arguments, not variables: a pod with a slice may have none of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tessera.kube import wire
from tessera.kube.resources import GPU_NODES
from tessera.model import names
from tessera.model.assignment import Share
from tessera.model.quantities import parse_milli, parse_up
from tessera.remote.controller.records import Record
from tessera.remote.controller.steps import Create

GATE_AUDIENCE = "tessera-pool-controller"
"""Whom the gates' tokens are for."""
COMPONENT = {"app.kubernetes.io/name": "tessera", "app.kubernetes.io/component": "pool-executor"}
_COPIED = (names.QOS, names.GPU_CORE_LIMIT, names.ENFORCEMENT)
_GATE, _EXECUTOR, _SHARED = 65532, 65533, 65534
_SOCKETS, _TOKEN, _AUTHORITY = "/run/tessera-pool", "/var/run/secrets/tessera-pool", "/etc/tessera-pool"
_GRACE_S = 10
_GATE_MILLI, _GATE_BYTES = 100, 256 << 20
"""What a gate has of its pod's CPU and memory."""
LEAST_CPU, LEAST_MEMORY = "200m", "1Gi"

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator says of executors. ``cpu`` and ``memory``: of both containers together.

    ``metrics_port``: of the gates; 0: none. ``spec``: further fields of the pod's spec, such as tolerations.
    """

    namespace: str
    controller: str
    executor_image: str
    gate_image: str
    service_account: str
    authority: str
    port: int = 7443
    metrics_port: int = 0
    device: str = "cuda"
    scheduler: str = names.SCHEDULER
    cpu: str = "500m"
    memory: str = "2Gi"
    labels: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)


def executor_pod(record: Record, made: Create, client: wire.Pod | None, host: str, options: Options) -> Plain:
    """``client``: the pod that the slice was made for, whose priority and quality of service the executor has; a
    standing lease says of the latter what it says itself.

    ``host``: UID of the GPUNode, its owner, empty if there is none; without an owner a pod is no drain's to evict.
    """
    lease = record.known
    said = client.metadata.annotations if client else lease.annotations
    annotations = {key: said[key] for key in _COPIED if key in said}
    annotations |= {names.LEASE: lease.key, names.LEASE_EPOCH: str(made.epoch)}
    if made.target:
        annotations[names.LEASE_SLICE] = names.TARGET
    metadata: Plain = {
        "name": made.name,
        "namespace": options.namespace,
        "labels": {**COMPONENT, **options.labels, names.LEASE_UID: lease.uid},
        "annotations": annotations,
    }
    if host:
        owner = {"apiVersion": GPU_NODES.api_version, "kind": GPU_NODES.kind, "name": made.where.node, "uid": host}
        metadata["ownerReferences"] = [{**owner, "controller": True}]
    priority = client.spec.priority_class_name if client else ""
    return {"metadata": metadata, "spec": _spec(record, made.where.share, priority, options)}


def _spec(record: Record, share: Share, priority: str, options: Options) -> Plain:
    spec: Plain = {
        "schedulerName": options.scheduler,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_S,
        "serviceAccountName": options.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True, "fsGroup": _SHARED, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_executor(share, options), _gate(record, options)],
        "volumes": _volumes(options),
    }  # fmt: skip
    if priority:
        spec["priorityClassName"] = priority
    return {**dict(options.spec), **spec}


def _executor(share: Share, options: Options) -> Plain:
    slices = {names.GPU_MEM: str(share.mem_bytes), names.SLICE: "1"}
    if share.core_percent:
        slices[names.GPU_CORE] = str(share.core_percent)
    memory = parse_up(options.memory) - _GATE_BYTES
    limits = {**slices, "memory": str(memory)}
    cpu = f"{parse_milli(options.cpu) - _GATE_MILLI}m"
    command = ["tessera", "serve", "--socket", f"{_SOCKETS}/executor.sock", "--device", options.device]
    return {
        "name": "executor",
        "image": options.executor_image,
        "command": command,
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": {"limits": limits, "requests": {**limits, "cpu": cpu}},
        "securityContext": _hardened(_EXECUTOR),
        "volumeMounts": [_mount("sockets", _SOCKETS), _mount("tmp", "/tmp")],
    }


def _gate(record: Record, options: Options) -> Plain:
    command = ["tessera", "pool-gate", "--socket", f"{_SOCKETS}/executor.sock", "--port", str(options.port)]
    command += ["--controller", options.controller, "--lease", record.known.key]
    command += ["--server-name", record.known.server_name]
    command += ["--token-file", f"{_TOKEN}/token", "--authority-file", f"{_AUTHORITY}/ca.crt"]
    ports = [{"name": "gate", "containerPort": options.port}]
    if options.metrics_port:
        command += ["--metrics-port", str(options.metrics_port)]
        ports.append({"name": "metrics", "containerPort": options.metrics_port})
    return {
        "name": "gate",
        "image": options.gate_image,
        "command": command,
        "ports": ports,
        "resources": {
            "requests": {"cpu": f"{_GATE_MILLI}m", "memory": str(_GATE_BYTES)}, "limits": {"memory": str(_GATE_BYTES)},
        },
        "securityContext": _hardened(_GATE),
        "volumeMounts": [
            _mount("sockets", _SOCKETS), _mount("gate-tmp", "/tmp"), _mount("gate-token", _TOKEN, read_only=True),
            _mount("authority", _AUTHORITY, read_only=True),
        ],
    }  # fmt: skip


def _volumes(options: Options) -> list[Plain]:
    """The token is the gate's alone, and says nothing to the API server itself."""
    token = {"audience": GATE_AUDIENCE, "path": "token", "expirationSeconds": 3600}
    return [
        {"name": "sockets", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "gate-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "gate-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "authority", "configMap": {"name": options.authority}},
    ]


def _hardened(user: int) -> Plain:
    return {
        "runAsUser": user,
        "runAsGroup": user,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _mount(name: str, path: str, *, read_only: bool = False) -> Plain:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}
