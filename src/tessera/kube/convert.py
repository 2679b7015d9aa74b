"""Between the wire and the model: the one place where the two meet."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache

from tessera.kube import wire
from tessera.kube.resources import GPU_LEASES
from tessera.model import names, sharing
from tessera.model.assignment import Share
from tessera.model.domains import Namespace
from tessera.model.gpu_leases import Attach, Client, GpuLease, Phase, Size, Slice
from tessera.model.gpus import Gpu, GpuCondition, GpuNode, Health
from tessera.model.hosts import Host, HostNeed, containers_need
from tessera.model.pods import ContainerSpec, Kind, Pod
from tessera.model.quantities import QuantityError, format_bytes, parse_milli, parse_up

ZONE = "topology.kubernetes.io/zone"
RACKS = ("topology.kubernetes.io/rack", "topology.tessera.io/rack")
"""Kubernetes has no label of its own for racks; the first is what most clusters use."""
GBPS = "topology.tessera.io/network-gbps"
"""How fast a node's network is, whole Gbit/s from 1; Kubernetes does not say."""


_NODE_TAINTS = "node.kubernetes.io/"
_LONGEST_GBPS = 6
_CORDON = "node.kubernetes.io/unschedulable"
_Items = tuple[tuple[str, wire.Quantity], ...]
_KEPT = 1 << 13
_needs: dict[tuple[int, ...], tuple[tuple[ContainerSpec, ...], HostNeed]] = {}
"""By the containers' identities, with the containers themselves, so that no others take their place."""
_GIVES_WAY = "tessera: preempted by"


def pod_of(pod: wire.Pod, annotations: Mapping[str, str] | None = None) -> Pod:
    """What the scheduler reads of a pod; ``annotations`` are those of the pod that are to be kept, by default all."""
    spec = pod.spec
    containers = tuple(_containers(spec))
    return Pod(
        namespace=sharing.text(pod.metadata.namespace),
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        containers=containers,
        annotations=pod.metadata.annotations if annotations is None else annotations,
        node=sharing.text(spec.node_name),
        phase=sharing.text(pod.status.phase),
        deleting=pod.metadata.deletion_timestamp is not None,
        priority=spec.priority or 0,
        may_preempt=spec.preemption_policy != "Never",
        scheduler=sharing.text(spec.scheduler_name),
        account=sharing.text(spec.service_account_name),
        resources=_texts(spec.resources.limits, spec.resources.requests) if spec.resources else {},
        host=_host_need(spec, containers),
        nominated=pod.status.nominated_node_name,
        labels=_labels(tuple(pod.metadata.labels.items())),
        started=pod.status.start_time or "",
        grace_s=pod.metadata.deletion_grace_period_seconds or 0,
        preempted_for=_preempted_for(pod.status.conditions) if spec.node_name else "",
        preempted=any(map(_is_preempted, pod.status.conditions)),
        owner=next((sharing.text(o.uid) for o in pod.metadata.owner_references if o.controller), ""),
    )


def preemption_message(pod: Pod) -> str:
    """What the condition DisruptionTarget says of a pod that gives way to ``pod``; ``pod_of`` reads it back."""
    return f"{_GIVES_WAY} {pod.key}, priority {pod.priority}, uid {pod.uid}"


def executor_message(executor: Pod) -> str:
    """What the condition DisruptionTarget says of a pod that goes because ``executor``, which served it, gave way."""
    return f"tessera: its executor {executor.key} on {executor.node} was preempted"


def _is_preempted(condition: wire.Condition) -> bool:
    found = (condition.type, condition.status, condition.reason)
    return found == ("DisruptionTarget", "True", "PreemptionByScheduler")


def _preempted_for(conditions: Iterable[wire.Condition]) -> str:
    for condition in conditions:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            message = condition.message or ""
            return message.rpartition(" uid ")[2] if message.startswith(_GIVES_WAY) else ""
    return ""


def host_of(node: wire.Node) -> Host:
    """What a node has for pods; what it does not say, or says wrong, counts 0."""
    labels, has = node.metadata.labels, _need(node.status.allocatable)
    rack = next((labels[key] for key in RACKS if labels.get(key)), "")
    cordoned = node.spec.unschedulable or any(taint.key == _CORDON for taint in node.spec.taints)
    closed = cordoned or any(_closes(taint) for taint in node.spec.taints)
    zone, gbps = labels.get(ZONE, ""), _gbps(labels.get(GBPS, ""))
    return Host(node.metadata.name, has.cpu_milli, has.memory_bytes, zone, rack, closed, cordoned, gbps)


def _gbps(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST_GBPS else 0


def _closes(taint: wire.Taint) -> bool:
    """Of Kubernetes' own taints; whom an operator's taint keeps away only kube-scheduler can say."""
    return taint.key.startswith(_NODE_TAINTS) and taint.effect in ("NoSchedule", "NoExecute")


def namespace_of(namespace: wire.Namespace) -> Namespace:
    """A namespace with its labels."""
    return Namespace(namespace.metadata.name, namespace.metadata.labels)


def pod_reference(pod: Pod) -> wire.ObjectReference:
    """The pod as an event's subject."""
    return named_pod(pod.namespace, pod.name, pod.uid)


def lease_reference(lease: GpuLease) -> wire.ObjectReference:
    """The pod that a lease is for, or the lease itself, as an event's subject."""
    if lease.client:
        return named_pod(lease.namespace, lease.client.pod, lease.client.pod_uid)
    return wire.ObjectReference(
        api_version=GPU_LEASES.api_version, kind=GPU_LEASES.kind, namespace=lease.namespace, name=lease.name,
        uid=lease.uid,
    )  # fmt: skip


def named_pod(namespace: str, name: str, uid: str) -> wire.ObjectReference:
    """A pod of which no more is known, as an event's subject."""
    return wire.ObjectReference(api_version="v1", kind="Pod", namespace=namespace, name=name, uid=uid)


def _containers(spec: wire.PodSpec) -> Iterable[ContainerSpec]:
    for container in spec.init_containers:
        kind = Kind.SIDECAR if container.restart_policy == "Always" else Kind.INIT
        yield _container(container, "spec.initContainers", kind)
    for container in spec.containers:
        yield _container(container, "spec.containers", Kind.APP)
    for container in spec.ephemeral_containers:
        yield _container(container, "spec.ephemeralContainers", Kind.EPHEMERAL)


def _container(container: wire.Container, where: str, kind: Kind) -> ContainerSpec:
    """Pods of one template have equal containers: they are kept once."""
    limits, requests = container.resources.limits.items(), container.resources.requests.items()
    return _container_spec(container.name, where, kind, tuple(limits), tuple(requests))


@lru_cache(maxsize=_KEPT)
def _container_spec(name: str, where: str, kind: Kind, limits: _Items, requests: _Items) -> ContainerSpec:
    return ContainerSpec(name, f"{where}[{name}]", kind, _texts(dict(limits)), _texts(dict(requests)))


@lru_cache(maxsize=_KEPT)
def _labels(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(items)


def _host_need(spec: wire.PodSpec, containers: tuple[ContainerSpec, ...]) -> HostNeed:
    """As kube-scheduler counts a pod: what it names itself wins over its containers' sum, then comes the overhead."""
    need = _sum_of(containers)
    if not spec.resources and not spec.overhead:
        return need
    if spec.resources and spec.resources.requests:
        own, requests = _need(spec.resources.requests), spec.resources.requests
        cpu = own.cpu_milli if "cpu" in requests else need.cpu_milli
        need = HostNeed(cpu, own.memory_bytes if "memory" in requests else need.memory_bytes)
    return sharing.same(need.plus(_need(spec.overhead)) if spec.overhead else need)


def _sum_of(containers: tuple[ContainerSpec, ...]) -> HostNeed:
    """Pods of one template have the very same containers, which are added up once."""
    key = tuple(map(id, containers))
    known = _needs.get(key)
    if known is not None:
        return known[1]
    apps = (_container_need(c) for c in containers if c.kind is Kind.APP)
    inits = ((_container_need(c), c.kind is Kind.SIDECAR) for c in containers if c.kind in (Kind.INIT, Kind.SIDECAR))
    need = sharing.same(containers_need(apps, inits))
    if len(_needs) >= _KEPT:
        _needs.clear()
    _needs[key] = containers, need
    return need


def _container_need(container: ContainerSpec) -> HostNeed:
    """The API server writes a limit without a request as the request; so is one read that it did not write."""
    return _need({**container.limits, **container.requests})


def _need(quantities: Mapping[str, wire.Quantity]) -> HostNeed:
    return HostNeed(_amount(quantities.get("cpu", 0), parse_milli), _amount(quantities.get("memory", 0), parse_up))


def _amount(text: wire.Quantity, parse: Callable[[wire.Quantity], int]) -> int:
    try:
        return max(0, parse(text))
    except QuantityError:
        return 0


def _texts(*maps: Mapping[str, wire.Quantity]) -> dict[str, str]:
    return {key: str(value) for quantities in maps for key, value in quantities.items()}


def gpu_node_of(node: wire.GpuNode) -> GpuNode:
    """The GPUs that a node has published, in the driver's order; without what only people read."""
    gpus = tuple(_gpu(gpu) for gpu in node.status.gpus)
    return GpuNode(sharing.text(node.metadata.name), gpus, node.status.client_slots)


def told_gpu_node_of(node: wire.GpuNode) -> GpuNode:
    """The GPUs that a node has published, with the evidence of their enforcement levels and their conditions."""
    known = gpu_node_of(node)
    told = zip(known.gpus, node.status.gpus, strict=True)
    return replace(known, gpus=tuple(_told(gpu, said) for gpu, said in told))


def _told(gpu: Gpu, said: wire.GpuStatus) -> Gpu:
    conditions = tuple(GpuCondition(one.type, one.message or "") for one in said.conditions)
    return replace(gpu, evidence=said.enforcement_evidence, conditions=conditions)


def gpu_lease_of(lease: wire.GpuLease) -> GpuLease:
    """A slice for a container on another node. Raises ``ValueError`` for a phase that is not known."""
    spec, kept, status = lease.spec, lease.spec.slice or wire.LeaseSlice(), lease.status
    client, target, wanted = spec.client, spec.target, spec.wanted
    return GpuLease(
        namespace=lease.metadata.namespace,
        name=lease.metadata.name,
        uid=lease.metadata.uid,
        client=Client(client.pod, client.pod_uid, client.container, client.node) if client else None,
        node=kept.node,
        share=_share(kept),
        domain=kept.trust_domain or (target.trust_domain if target else ""),
        phase=Phase(status.phase or Phase.RESERVED),
        epoch=status.epoch,
        deleting=lease.metadata.deletion_timestamp is not None,
        target=Slice(target.node, _share(target)) if target else None,
        wanted=Size(wanted.memory_bytes, wanted.core_percent) if wanted else None,
        standing=spec.standing,
        stopped=spec.stopped,
        annotations=_own(lease.metadata.annotations) if spec.standing else {},
    )


def _own(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Those of the contract."""
    return {key: text for key, text in annotations.items() if names.DOMAIN in key}


def _share(kept: wire.LeaseSlice) -> Share:
    return Share(kept.gpu_uuid, kept.memory_bytes, kept.core_percent)


def lease_slice(where: Slice, domain: str) -> wire.LeaseSlice:
    """The room of a lease as it is written, in trust domain ``domain``."""
    share = where.share
    return wire.LeaseSlice(
        node=where.node, gpu_uuid=share.uuid, memory_bytes=share.mem_bytes, core_percent=share.core_percent,
        trust_domain=domain,
    )  # fmt: skip


def attach_of(found: wire.LeaseAttach | None) -> Attach | None:
    """A start of a lease's container, if there is one."""
    return Attach(found.device, found.after) if found else None


def gpu_lease_object(lease: GpuLease) -> wire.GpuLease:
    """The GPULease as it is made for a container, with the client's pod as its owner and the finalizer that waits for
    the executor."""
    client = lease.client
    assert client is not None
    owner = wire.OwnerReference(api_version="v1", kind="Pod", name=client.pod, uid=client.pod_uid)
    metadata = wire.ObjectMeta(
        name=lease.name, namespace=lease.namespace, owner_references=[owner], finalizers=[names.LEASE_FINALIZER]
    )
    spec = wire.GpuLeaseSpec(client=lease_client(client), slice=lease_slice(lease.slice, lease.domain))
    return wire.GpuLease(metadata=metadata, spec=spec)


def lease_client(client: Client) -> wire.LeaseClient:
    """The container that a lease is for, as it is written."""
    return wire.LeaseClient(
        pod=client.pod, pod_uid=client.pod_uid, container=client.container, node=client.node
    )  # fmt: skip


def _gpu(gpu: wire.GpuStatus) -> Gpu:
    return Gpu(
        uuid=sharing.text(gpu.uuid),
        model=sharing.text(gpu.model),
        mem_bytes=sharing.same(gpu.memory_bytes),
        total_bytes=sharing.same(gpu.memory_total_bytes),
        sm_count=gpu.sm_count,
        compute_capability=sharing.text(gpu.compute_capability),
        numa_node=gpu.numa_node,
        nvlink_peers=sharing.texts(gpu.nvlink_peers),
        health=sharing.same(Health(gpu.health.state == "Healthy", gpu.health.reason)),
        level=gpu.enforcement_level,
        mps_group=sharing.text(gpu.mps_group),
    )


def gpu_node_object(node: GpuNode, allocated: Mapping[str, int], observed_at: datetime) -> wire.GpuNode:
    """The GPUNode that says ``node``; ``allocated`` holds bytes given by GPU UUID, absent ones are free.

    To be applied to the object and then to its ``status``: the API server takes each half from its own request.
    """
    gpus = [_gpu_status(gpu, allocated.get(gpu.uuid, 0)) for gpu in node.gpus]
    total = sum(gpu.memory_bytes for gpu in gpus)
    given = sum(gpu.allocated_bytes for gpu in gpus)
    status = wire.GpuNodeStatus(
        gpus=gpus,
        client_slots=node.client_slots,
        model=", ".join(dict.fromkeys(gpu.model for gpu in gpus)),
        gpu_count=len(gpus),
        memory_total=format_bytes(total),
        memory_allocated=format_bytes(given),
        memory_free=format_bytes(max(total - given, 0)),
        enforcement_level=min((gpu.enforcement_level for gpu in gpus), default=0),
        health=_health_text(node.gpus),
        observed_at=observed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return wire.GpuNode(metadata=wire.ObjectMeta(name=node.name), status=status)


def _gpu_status(gpu: Gpu, allocated_bytes: int) -> wire.GpuStatus:
    return wire.GpuStatus(
        uuid=gpu.uuid,
        model=gpu.model,
        memory_bytes=gpu.mem_bytes,
        memory_total_bytes=gpu.total_bytes,
        sm_count=gpu.sm_count,
        compute_capability=gpu.compute_capability,
        numa_node=gpu.numa_node,
        nvlink_peers=list(gpu.nvlink_peers),
        health=wire.GpuHealth(state="Healthy" if gpu.health.healthy else "Unhealthy", reason=gpu.health.reason),
        enforcement_level=gpu.level,
        enforcement_evidence=gpu.evidence,
        mps_group=gpu.mps_group,
        conditions=[wire.Condition(type=one.type, status="True", message=one.message) for one in gpu.conditions],
        allocated_bytes=allocated_bytes,
    )


def _health_text(gpus: tuple[Gpu, ...]) -> str:
    """``Healthy``, or how many are not and the first reason."""
    sick = [gpu for gpu in gpus if not gpu.health.healthy]
    if not sick:
        return "Healthy"
    return f"{len(sick)} of {len(gpus)} unhealthy: {sick[0].health.reason}"
