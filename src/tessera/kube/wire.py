"""Kubernetes objects as they stand on the wire, cut down to the fields that are used.

Python names are snake_case, wire names camelCase. Unknown fields are skipped while decoding and absent ones take
their default, so an object costs a few KiB instead of tens. Fields with default values are not encoded. A Struct is
therefore no full object: to change pods and nodes, patch them; only Leases and GPUNodes are written whole.
"""

from typing import Any

from msgspec import Struct, field

Quantity = str | int | float
"""A quantity as a client may write it: ``"4Gi"``, ``8`` or ``0.5``."""


class OwnerReference(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class ObjectMeta(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Times are RFC 3339 text. ``resource_version`` is opaque."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generate_name: str = ""
    generation: int | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    owner_references: list[OwnerReference] = field(default_factory=list)
    finalizers: list[str] = field(default_factory=list)


class ListMeta(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    resource_version: str = ""
    continue_: str = field(default="", name="continue")


class Condition(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class Resources(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    limits: dict[str, Quantity] = field(default_factory=dict)
    requests: dict[str, Quantity] = field(default_factory=dict)


class EnvVar(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``value`` is empty for a variable that comes from elsewhere, as ``value_from`` says."""

    name: str = ""
    value: str = ""
    value_from: dict[str, Any] | None = None


class EnvFrom(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Variables whose names come from elsewhere, with ``prefix`` before each."""

    prefix: str = ""


class VolumeMount(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    name: str = ""
    mount_path: str = ""


class Container(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    name: str = ""
    image: str = ""
    resources: Resources = Resources()
    restart_policy: str | None = None
    env: list[EnvVar] = field(default_factory=list)
    env_from: list[EnvFrom] = field(default_factory=list)
    volume_mounts: list[VolumeMount] = field(default_factory=list)


class EmptyDir(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``medium`` is ``Memory`` or empty."""

    medium: str = ""
    size_limit: Quantity | None = None


class Volume(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One of another kind has its name alone, or is a claim."""

    name: str = ""
    empty_dir: EmptyDir | None = None
    persistent_volume_claim: dict[str, Any] | None = None
    ephemeral: dict[str, Any] | None = None


class SchedulingGate(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    name: str = ""


class PodSpec(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    node_name: str = ""
    scheduler_name: str = ""
    service_account_name: str = ""
    priority: int | None = None
    priority_class_name: str = ""
    preemption_policy: str | None = None
    restart_policy: str = ""
    scheduling_gates: list[SchedulingGate] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    init_containers: list[Container] = field(default_factory=list)
    ephemeral_containers: list[Container] = field(default_factory=list)
    resources: Resources | None = None
    overhead: dict[str, Quantity] = field(default_factory=dict)
    volumes: list[Volume] = field(default_factory=list)


class StateWaiting(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    reason: str = ""
    message: str = ""


class StateRunning(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    started_at: str | None = None


class StateTerminated(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    finished_at: str | None = None


class ContainerState(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """At most one is set; none means waiting."""

    waiting: StateWaiting | None = None
    running: StateRunning | None = None
    terminated: StateTerminated | None = None


class ContainerStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``container_id`` is ``containerd://<64 hex>``, empty before the container was created."""

    name: str = ""
    container_id: str = field(default="", name="containerID")
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()


class PodStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    nominated_node_name: str = ""
    pod_ip: str = field(default="", name="podIP")
    qos_class: str = ""
    start_time: str | None = None
    conditions: list[Condition] = field(default_factory=list)
    container_statuses: list[ContainerStatus] = field(default_factory=list)
    init_container_statuses: list[ContainerStatus] = field(default_factory=list)


class Pod(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Taint(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    taints: list[Taint] = field(default_factory=list)
    unschedulable: bool = False


class NodeStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    capacity: dict[str, Quantity] = field(default_factory=dict)
    allocatable: dict[str, Quantity] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)


class Node(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Namespace(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    metadata: ObjectMeta = ObjectMeta()


class GpuHealth(Struct, frozen=True, kw_only=True, rename="camel"):
    """``state`` is ``Healthy`` or ``Unhealthy``."""

    state: str = "Healthy"
    reason: str = ""


class GpuStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """One GPU. Always encoded whole, so that zero and "unset" do not look alike.

    ``memory_bytes`` is what the scheduler may give, ``memory_total_bytes`` what the driver reports.
    ``enforcement_evidence``: why this level, and why none above. ``conditions``: what else stands against it; one that
    is over is absent.
    """

    uuid: str
    model: str
    memory_bytes: int
    memory_total_bytes: int
    sm_count: int = 0
    compute_capability: str = ""
    numa_node: int = -1
    nvlink_peers: list[str] = field(default_factory=list)
    health: GpuHealth = GpuHealth()
    enforcement_level: int = 0
    enforcement_evidence: str = ""
    mps_group: str = ""
    conditions: list[Condition] = field(default_factory=list)
    allocated_bytes: int = 0


class GpuNodeStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """The GPUs of one node, and sums for kubectl's columns as quantities.

    ``client_slots``: how many containers whose slices are on other nodes it takes.
    """

    gpus: list[GpuStatus] = field(default_factory=list)
    client_slots: int = 0
    model: str = ""
    gpu_count: int = 0
    memory_total: str = "0"
    memory_allocated: str = "0"
    memory_free: str = "0"
    enforcement_level: int = 0
    health: str = ""
    observed_at: str = ""


class GpuNode(Struct, frozen=True, kw_only=True, rename="camel"):
    """``gpunodes.tessera.io``: its name is the node's."""

    api_version: str = "tessera.io/v1alpha1"
    kind: str = "GPUNode"
    metadata: ObjectMeta = ObjectMeta()
    status: GpuNodeStatus = GpuNodeStatus()


class LeaseClient(Struct, frozen=True, kw_only=True, rename="camel"):
    """The container that a slice on another node is for, and the node that it runs on."""

    pod: str = ""
    pod_uid: str = field(default="", name="podUID")
    container: str = ""
    node: str = ""


class LeaseSlice(Struct, frozen=True, kw_only=True, rename="camel"):
    """The room that is kept; ``trust_domain`` as in an assignment."""

    node: str = ""
    gpu_uuid: str = field(default="", name="gpuUUID")
    memory_bytes: int = 0
    core_percent: int = 0
    trust_domain: str = ""


class LeaseAttach(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Written by the client's node at each start of the container: ``after`` is the container's former ID."""

    device: str = ""
    after: str = ""


class LeaseSize(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a user asks the slice to become."""

    memory_bytes: int = 0
    core_percent: int = 0


class GpuLeaseSpec(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Only a ``standing`` one, which its users have made, may be without ``client`` or ``slice``, or ``stopped``."""

    standing: bool = False
    stopped: bool = False
    client: LeaseClient | None = None
    slice: LeaseSlice | None = None
    target: LeaseSlice | None = None
    wanted: LeaseSize | None = None
    attach: LeaseAttach | None = None


class LeaseExecutor(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The pod on the GPU's node that serves the lease."""

    namespace: str = ""
    name: str = ""
    uid: str = ""


class GpuLeaseStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``attached`` is the start of the container that ``epoch`` belongs to; ``message`` says why the phase. Of a
    standing lease ``client`` is the UID of the pod that may use the executor; nobody else ever may.

    ``next`` is the executor that the sessions are to go to; ``unmoved`` is the scheduler's word why there is no target.
    """

    phase: str = ""
    epoch: int = 0
    client: str = ""
    attached: LeaseAttach | None = None
    executor: LeaseExecutor | None = None
    next: LeaseExecutor | None = None
    unmoved: str = ""
    endpoint: str = ""
    server_name: str = ""
    message: str = ""
    renew_time: str = ""


class GpuLease(Struct, frozen=True, kw_only=True, rename="camel"):
    """``gpuleases.tessera.io``: a slice for one container on another node, or a standing one for one at a time."""

    api_version: str = "tessera.io/v1alpha1"
    kind: str = "GPULease"
    metadata: ObjectMeta = ObjectMeta()
    spec: GpuLeaseSpec = GpuLeaseSpec()
    status: GpuLeaseStatus = GpuLeaseStatus()


class ObjectReference(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class EventSource(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    component: str = ""
    host: str = ""


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A core/v1 Event; ``type`` is ``Normal`` or ``Warning``."""

    metadata: ObjectMeta = ObjectMeta()
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    source: EventSource = EventSource()
    reporting_component: str = ""
    reporting_instance: str = ""


class LeaseSpec(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


class Status(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The API server's answer to a request that failed."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: dict[str, Any] | None = None
