"""How one simulated kubelet is set up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """``root`` stands for /var/lib/kubelet. Times in seconds; ``backoff_s`` is 10 in the real one."""

    node: str
    root: Path
    cdi_dirs: tuple[Path, ...]
    capacity: Mapping[str, str] = field(default_factory=lambda: {"cpu": "64", "memory": "512Gi", "pods": "250"})
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    backoff_s: float = 10.0
    restart_backoff_s: float = 10.0
    status_every_s: float = 10.0
    list_per_s: float = 100.0
    list_burst: int = 10

    @property
    def plugins(self) -> Path:
        """The device plugins' folder."""
        return self.root / "device-plugins"

    @property
    def pod_resources(self) -> Path:
        """The socket of PodResources."""
        return self.root / "pod-resources" / "kubelet.sock"
