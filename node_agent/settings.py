"""Settings of the node agent, from ``TESSERA_*`` variables or the command line."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tessera.model.gpus import LEVEL_DRIVER, LEVEL_MPS, LEVEL_PARTITION, LEVEL_WATCH
from tessera.node_agent.enforcement.mps_groups import Extent

MIB = 1 << 20

CONTEXT_BYTES = 640 * MIB
"""What a program's context is charged with: the 584 MiB that were measured on an H100, up to the next 64, which leaves
room for code that a program loads later. The chart has the same default."""


class Enforcement(StrEnum):
    """The highest level that slices may have, where it works: watched, MPS, SM partitions of MPS, or the driver's own
    limits."""

    AUTO = "auto"
    WATCH = "watch"
    MPS = "mps"
    PARTITION = "partition"
    DRIVER = "driver"

    @property
    def levels(self) -> frozenset[int]:
        """Those that are tried. MPS only where it is asked for: its clients share each other's faults."""
        more = {
            Enforcement.MPS: {LEVEL_MPS},
            Enforcement.PARTITION: {LEVEL_MPS, LEVEL_PARTITION},
            Enforcement.DRIVER: {LEVEL_DRIVER},
        }
        return frozenset({LEVEL_WATCH} | more.get(self, set()))


class NodeAgentSettings(BaseSettings):
    """One node's agent. Paths are the host's; sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="TESSERA_")

    node: str = Field(min_length=1, description="this node's name")
    agent_socket: Path = Field(Path("/run/tessera/agent.sock"), description="unix socket to serve on")
    state_dir: Path = Field(
        Path("/var/lib/tessera/agent"), description="prepared slices and limits; not on /run, which is often noexec"
    )
    proc_root: Path = Field(Path("/proc"), description="the host's /proc; processes are ended only with /proc itself")
    cgroup_mount: Path = Field(Path("/sys/fs/cgroup"), description="the host's cgroup file system")
    cgroup_root: str = Field("", description="only cgroups below this path count; empty: all")
    kernel_log: Path = Field(Path("/dev/kmsg"), description="where the driver says whose an error was")
    enforcement: Enforcement = Field(Enforcement.AUTO, description="auto, watch, mps, partition or driver")
    allow_unwatched: bool = Field(False, description="place slices also where the driver tells no bytes of a process")
    shim: str = Field("", description="libtessera.so as make native builds it for this machine; empty: none")
    context_bytes: int = Field(
        CONTEXT_BYTES, ge=0, description="what the shim charges a slice for each context of a program"
    )
    hook: str = Field("", description="tessera-dmem as make native builds it for this machine; empty: never level 3")
    headroom_bytes: int = Field(256 * MIB, ge=0, description="per GPU, kept back for what the driver itself needs")
    mps_control: str = Field("nvidia-cuda-mps-control", description="the control program; empty: never MPS")
    mps_headroom_bytes: int = Field(512 * MIB, ge=0, description="per GPU, kept back for an MPS server")
    mps_dir: Path | None = Field(None, description="pipe and log folders; default: <state-dir>/mps")
    mps_groups: Extent = Field(Extent.GPU, description="GPUs that share an MPS daemon: gpu, nvlink-island or node")
    mps_clients: int = Field(
        0, ge=0, le=60, description="clients of one GPU that are let in; 0: by the driver, 48, or 60 from R590"
    )
    mps_shm_bytes: int = Field(
        1024 * MIB, ge=64 * MIB, description="of the /dev/shm that the containers of a group share, beside their own"
    )
    mounts_of: int = Field(1, ge=1, description="a process with the mounts that the container runtime has")
    mps_proof: bool = Field(True, description="use MPS only where the driver was seen to tell the memory of a client")
    accounting_every_s: float = Field(0.25, gt=0, description="between two looks at the GPUs' processes")
    pace_every_s: float = Field(0.2, gt=0, description="between two settings of what launches cost, with a shim")
    inventory_every_s: float = Field(0.75, gt=0, description="between two looks at the GPUs")
    recovery_probes: int = Field(3, ge=1, description="good looks in a row until a lost GPU counts as healthy")
    xid_quiet_s: float = Field(300.0, ge=0, description="without a further error until a non-fatal Xid is forgiven")
    over_limit_grace_s: float = Field(0.25, ge=0, description="over the limit until the newest process is ended")
    over_limit_container_grace_s: float = Field(0.5, ge=0, description="from there until the container is ended")
    over_limit_clear_s: float = Field(10.0, ge=0, description="under the limit until an episode is forgotten")
    blind_grace_s: float = Field(
        5.0, ge=0, description="without a view of a GPU's processes until containers that nothing else holds are ended"
    )
    metrics_host: str = Field("127.0.0.1", description="address of the Prometheus endpoint")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of the Prometheus endpoint; 0: none")
    lease_socket: Path | None = Field(
        None, description="unix socket on which tessera run asks for slices of this machine; default: none"
    )
    api: bool = Field(True, description="post events to the API server and read the pods of this node")

    @model_validator(mode="after")
    def _no_leases_by_hook(self) -> "NodeAgentSettings":
        """The command of a lease is started by no runtime that would run the hook."""
        if self.enforcement is Enforcement.DRIVER and self.lease_socket is not None:
            raise ValueError(
                "enforcement: found driver with lease_socket; allowed with it: auto, watch, mps or partition"
            )
        return self

    @property
    def mps_root(self) -> Path:
        """Folder of the MPS daemons' pipes and logs."""
        return self.mps_dir or self.state_dir / "mps"
