"""Settings of the device plugin, from ``TESSERA_*`` variables or the command line."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tessera.device_plugin.writer import NvidiaCdi


class DevicePluginSettings(BaseSettings):
    """One node's plugin. Paths are the host's; an empty path is derived from ``kubelet_dir``."""

    model_config = SettingsConfigDict(env_prefix="TESSERA_")

    node: str = Field(min_length=1, description="this node's name")
    kubelet_dir: Path = Field(default=Path("/var/lib/kubelet"), description="the kubelet's root folder")
    device_plugin_dir: Path | None = Field(default=None, description="default: <kubelet-dir>/device-plugins")
    pod_resources_socket: Path | None = Field(
        default=None, description="default: <kubelet-dir>/pod-resources/kubelet.sock"
    )
    cdi_dir: Path = Field(
        default=Path("/var/run/cdi"), description="where our spec files are written; empty after a reboot"
    )
    nvidia_cdi_dirs: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(Path("/etc/cdi"), Path("/var/run/cdi")),
        description="comma list of folders with NVIDIA's spec, the last counts most",
    )
    agent_socket: Path = Field(default=Path("/run/tessera/agent.sock"), description="unix socket of the node agent")
    state_dir: Path = Field(default=Path("/var/lib/tessera/device-plugin"), description="journal of the slices")
    proc_dir: Path = Field(default=Path("/proc"), description="the host's /proc")
    require_nvidia_cdi: NvidiaCdi = Field(default=NvidiaCdi.AUTO, description="auto, true or false")
    require_checkpoint: bool = Field(
        default=True, description="start nothing that the kubelet's checkpoint does not confirm"
    )
    client_slots: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="containers with slices on other nodes that this node takes; 0 on a node with GPUs",
    )
    cri_socket: str = Field(
        default="/run/containerd/containerd.sock",
        description="with client slots: the container runtime's socket; empty: it is not asked, and pods must set "
        "PYTHONPATH themselves",
    )
    pool_ca: Path = Field(
        default=Path("/etc/tessera/pool/ca.crt"), description="with client slots: the pool's certificate authority"
    )
    prestart_deadline_s: float = Field(default=20.0, gt=0, le=25, description="until PreStart is answered")
    patience_s: float = Field(default=30.0, ge=0, description="until a pod is ended whose GPU is away")
    spec_lifetime_s: float = Field(default=8.0, gt=0, description="until a spec file is removed that no container used")
    spec_settle_s: float = Field(
        default=0.02, ge=0, description="from a spec file to the answer, for the runtime to see it"
    )
    capacity_every_s: float = Field(default=10.0, gt=0, description="between two looks at the node's capacity")
    heartbeat_every_s: float = Field(default=30.0, gt=0, description="between two writes of the GPUNode")
    reclaim_every_s: float = Field(
        default=10.0, gt=0, description="between two looks for slices whose containers are gone"
    )

    @field_validator("nvidia_cdi_dirs", mode="before")
    @classmethod
    def _comma_list(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @property
    def plugins(self) -> Path:
        """The folder of the kubelet's and the plugins' sockets and of the kubelet's device checkpoint."""
        return self.device_plugin_dir or self.kubelet_dir / "device-plugins"

    @property
    def pod_resources(self) -> Path:
        """The socket of PodResources."""
        return self.pod_resources_socket or self.kubelet_dir / "pod-resources" / "kubelet.sock"
