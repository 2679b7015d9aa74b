from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchInventoryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Inventory(_message.Message):
    __slots__ = ("gpus",)
    GPUS_FIELD_NUMBER: _ClassVar[int]
    gpus: _containers.RepeatedCompositeFieldContainer[Gpu]
    def __init__(self, gpus: _Optional[_Iterable[_Union[Gpu, _Mapping]]] = ...) -> None: ...

class Gpu(_message.Message):
    __slots__ = ("uuid", "model", "mem_bytes", "total_bytes", "sm_count", "compute_capability", "numa_node", "nvlink_peers", "healthy", "health_reason", "level", "index", "evidence", "mps_group", "conditions")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEM_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SM_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    NUMA_NODE_FIELD_NUMBER: _ClassVar[int]
    NVLINK_PEERS_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    HEALTH_REASON_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    MPS_GROUP_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    model: str
    mem_bytes: int
    total_bytes: int
    sm_count: int
    compute_capability: str
    numa_node: int
    nvlink_peers: _containers.RepeatedScalarFieldContainer[str]
    healthy: bool
    health_reason: str
    level: int
    index: int
    evidence: str
    mps_group: str
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    def __init__(self, uuid: _Optional[str] = ..., model: _Optional[str] = ..., mem_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., sm_count: _Optional[int] = ..., compute_capability: _Optional[str] = ..., numa_node: _Optional[int] = ..., nvlink_peers: _Optional[_Iterable[str]] = ..., healthy: _Optional[bool] = ..., health_reason: _Optional[str] = ..., level: _Optional[int] = ..., index: _Optional[int] = ..., evidence: _Optional[str] = ..., mps_group: _Optional[str] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("type", "message")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    type: str
    message: str
    def __init__(self, type: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Slice(_message.Message):
    __slots__ = ("id", "pod_uid", "namespace", "pod", "container", "shares", "min_level", "qos", "core_limit_percent", "trust_domain")
    ID_FIELD_NUMBER: _ClassVar[int]
    POD_UID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    MIN_LEVEL_FIELD_NUMBER: _ClassVar[int]
    QOS_FIELD_NUMBER: _ClassVar[int]
    CORE_LIMIT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    id: str
    pod_uid: str
    namespace: str
    pod: str
    container: str
    shares: _containers.RepeatedCompositeFieldContainer[Share]
    min_level: int
    qos: str
    core_limit_percent: int
    trust_domain: str
    def __init__(self, id: _Optional[str] = ..., pod_uid: _Optional[str] = ..., namespace: _Optional[str] = ..., pod: _Optional[str] = ..., container: _Optional[str] = ..., shares: _Optional[_Iterable[_Union[Share, _Mapping]]] = ..., min_level: _Optional[int] = ..., qos: _Optional[str] = ..., core_limit_percent: _Optional[int] = ..., trust_domain: _Optional[str] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("uuid", "mem_bytes", "core_percent", "whole")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MEM_BYTES_FIELD_NUMBER: _ClassVar[int]
    CORE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    mem_bytes: int
    core_percent: int
    whole: bool
    def __init__(self, uuid: _Optional[str] = ..., mem_bytes: _Optional[int] = ..., core_percent: _Optional[int] = ..., whole: _Optional[bool] = ...) -> None: ...

class PrepareRequest(_message.Message):
    __slots__ = ("slice",)
    SLICE_FIELD_NUMBER: _ClassVar[int]
    slice: Slice
    def __init__(self, slice: _Optional[_Union[Slice, _Mapping]] = ...) -> None: ...

class PrepareReply(_message.Message):
    __slots__ = ("level", "env", "mounts", "hooks")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    MOUNTS_FIELD_NUMBER: _ClassVar[int]
    HOOKS_FIELD_NUMBER: _ClassVar[int]
    level: int
    env: _containers.ScalarMap[str, str]
    mounts: _containers.RepeatedCompositeFieldContainer[Mount]
    hooks: _containers.RepeatedCompositeFieldContainer[Hook]
    def __init__(self, level: _Optional[int] = ..., env: _Optional[_Mapping[str, str]] = ..., mounts: _Optional[_Iterable[_Union[Mount, _Mapping]]] = ..., hooks: _Optional[_Iterable[_Union[Hook, _Mapping]]] = ...) -> None: ...

class Hook(_message.Message):
    __slots__ = ("path", "args")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    path: str
    args: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path: _Optional[str] = ..., args: _Optional[_Iterable[str]] = ...) -> None: ...

class Mount(_message.Message):
    __slots__ = ("host_path", "container_path", "options", "type")
    HOST_PATH_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_PATH_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    host_path: str
    container_path: str
    options: _containers.RepeatedScalarFieldContainer[str]
    type: str
    def __init__(self, host_path: _Optional[str] = ..., container_path: _Optional[str] = ..., options: _Optional[_Iterable[str]] = ..., type: _Optional[str] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ReleaseReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UsageRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UsageReply(_message.Message):
    __slots__ = ("processes",)
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    processes: _containers.RepeatedCompositeFieldContainer[Process]
    def __init__(self, processes: _Optional[_Iterable[_Union[Process, _Mapping]]] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("pid", "gpu_uuid", "used_bytes", "pod_uid", "container_id")
    PID_FIELD_NUMBER: _ClassVar[int]
    GPU_UUID_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    POD_UID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    pid: int
    gpu_uuid: str
    used_bytes: int
    pod_uid: str
    container_id: str
    def __init__(self, pid: _Optional[int] = ..., gpu_uuid: _Optional[str] = ..., used_bytes: _Optional[int] = ..., pod_uid: _Optional[str] = ..., container_id: _Optional[str] = ...) -> None: ...
