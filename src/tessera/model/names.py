"""The names of the contract: resources, annotations and labels as users and the cluster write them."""

import re

OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""What the name of a pod or of a GPULease may be, in full."""

DOMAIN = "tessera.io"
GPU_MEM = "tessera.io/gpu-mem"
GPU_CORE = "tessera.io/gpu-core"
GPU_COUNT = "tessera.io/gpu-count"
GPU = "tessera.io/gpu"
SLICE = "tessera.io/slice"

REQUEST_KEYS = (GPU_MEM, GPU_CORE, GPU_COUNT, GPU)
"""What a user asks with; ``SLICE`` is added beside them."""
SHORT_KEYS = {key.removeprefix("tessera.io/"): key for key in REQUEST_KEYS}

ASSIGNMENT = "tessera.io/assignment"
STATE_PREFIX = "state.tessera.io/"
ROOM = "state.tessera.io/room"
LEASE = "state.tessera.io/lease"
"""On an executor pod: NAMESPACE/NAME of the GPULease that it serves."""
LEASE_UID = "state.tessera.io/lease-uid"
"""On an executor pod, as a label: the UID of that GPULease."""
LEASE_EPOCH = "state.tessera.io/lease-epoch"
"""On an executor pod: the epoch of the lease that it serves."""
LEASE_SLICE, TARGET = "state.tessera.io/lease-slice", "target"
"""On an executor: that it is to have the slice that its lease moves to."""
LEASE_FINALIZER = "pool.tessera.io/executor"
"""On a GPULease, until its executor is gone."""

PLACEMENT = "tessera.io/placement"
GPU_MODEL = "tessera.io/gpu-model"
GPU_UUID = "tessera.io/gpu-uuid"
REMOTE = "tessera.io/remote"
GPU_LEASE = "tessera.io/gpu-lease"
"""On a pod: the name of the standing GPULease that it uses; as a scheduling gate: that it waits to be told one."""
QOS = "tessera.io/qos"
GPU_CORE_LIMIT = "tessera.io/gpu-core-limit"
ENFORCEMENT = "tessera.io/enforcement"

SCHEDULER = "tessera"
SLOTS_PER_GPU = 64
POOL_AUDIENCE = "tessera-pool"
"""Whom the tokens are for by which a pod proves to the pool who it is."""

RESERVED_ENV = (
    "NVIDIA_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_MPS_LOG_DIRECTORY",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_MPS_CLIENT_PRIORITY",
    "CUDA_MPS_SM_PARTITION",
    "LD_PRELOAD",
)
"""Refused in every container of a pod that holds a slice."""
RESERVED_ENV_PREFIX = "TESSERA_"
