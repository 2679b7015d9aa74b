"""Settings of the device plugin, from ``TESSERA_*`` variables or the command line."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tessera.device_plugin.writer import NvidiaCdi


class DevicePluginSettings(BaseSettings):
    """One node's plugin. Paths are the host's; an empty path is derived from ``kubelet_dir``."""

    model_config = SettingsConfigDict(env_prefix="TESSERA_", extra="ignore")

    node: str = Field(min_length=1)
    kubelet_dir: Path = Path("/var/lib/kubelet")
    device_plugin_dir: Path | None = None
    pod_resources_socket: Path | None = None
    cdi_dir: Path = Path("/var/run/cdi")
    nvidia_cdi_dirs: Annotated[tuple[Path, ...], NoDecode] = (Path("/etc/cdi"), Path("/var/run/cdi"))
    agent_socket: Path = Path("/run/tessera/agent.sock")
    state_dir: Path = Path("/var/lib/tessera/device-plugin")
    proc_dir: Path = Path("/proc")
    require_nvidia_cdi: NvidiaCdi = NvidiaCdi.AUTO
    require_checkpoint: bool = True
    prestart_deadline_s: float = Field(default=20.0, gt=0, le=25)
    patience_s: float = Field(default=30.0, ge=0)
    spec_lifetime_s: float = Field(default=8.0, gt=0)
    spec_settle_s: float = Field(default=0.02, ge=0)
    capacity_every_s: float = Field(default=10.0, gt=0)
    heartbeat_every_s: float = Field(default=30.0, gt=0)
    reclaim_every_s: float = Field(default=10.0, gt=0)

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
