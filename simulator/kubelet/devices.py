"""The kubelet's device manager: which device IDs are healthy, which container holds which, and the checkpoint.

Follows k8s.io/kubernetes/pkg/kubelet/cm/devicemanager: devices of pods that are no longer active are freed at the next
allocation, a running container keeps what it has, and a resource without healthy devices refuses a pod.
"""

import base64
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKPOINT = "kubelet_internal_checkpoint"


class AdmissionError(Exception):
    """The pod cannot have its devices; it fails with ``UnexpectedAdmissionError``."""


@dataclass(frozen=True)
class Held:
    """Device IDs of one container and the plugin's answer for them."""

    uid: str
    container: str
    resource: str
    ids: tuple[str, ...]
    answer: bytes


@dataclass
class DeviceTable:
    """Healthy devices by resource, and what containers hold."""

    healthy: dict[str, list[str]] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)

    def of(self, uid: str, container: str) -> list[Held]:
        """What one container holds."""
        return [h for h in self.held if (h.uid, h.container) == (uid, container)]

    def knows(self, resource: str) -> bool:
        """Whether a plugin has registered the resource, now or before the checkpoint was written."""
        return resource in self.healthy

    def drop_inactive(self, active: Iterable[str]) -> None:
        """Frees the devices of all pods that are not active any more."""
        alive = set(active)
        self.held = [h for h in self.held if h.uid in alive]

    def choose(self, uid: str, container: str, resource: str, count: int) -> list[str]:
        """Device IDs to allocate; empty if the container has its devices. Raises ``AdmissionError``."""
        healthy = self.healthy[resource]
        if not healthy:
            raise AdmissionError(f"no healthy devices present; cannot allocate unhealthy devices {resource}")
        mine = [i for h in self.of(uid, container) if h.resource == resource for i in h.ids]
        if mine:
            if not set(mine) <= set(healthy):
                raise AdmissionError(f"previously allocated devices are no longer healthy; {resource}")
            return []
        taken = {i for h in self.held if h.resource == resource for i in h.ids}
        free = [i for i in healthy if i not in taken]
        if len(free) < count:
            text = f"requested number of devices unavailable for {resource}. Requested: {count}, "
            raise AdmissionError(f"{text}Available: {len(free)}")
        return free[:count]

    def save(self, folder: Path) -> None:
        """Writes the checkpoint. Blocking."""
        entries = [
            {
                "PodUID": h.uid,
                "ContainerName": h.container,
                "ResourceName": h.resource,
                "DeviceIDs": {"-1": list(h.ids)},
                "AllocResp": base64.b64encode(h.answer).decode(),
            }
            for h in self.held
        ]
        data = {"PodDeviceEntries": entries, "RegisteredDevices": self.healthy}
        body = {"Data": data, "Checksum": zlib.crc32(json.dumps(data).encode())}
        path = folder / CHECKPOINT
        temporary = path.with_name(f".{CHECKPOINT}.tmp")
        temporary.write_text(json.dumps(body))
        temporary.replace(path)

    @classmethod
    def load(cls, folder: Path) -> "DeviceTable":
        """Reads the checkpoint; every resource in it starts without healthy devices until its plugin registers."""
        try:
            data: dict[str, Any] = json.loads((folder / CHECKPOINT).read_text())["Data"]
        except (OSError, ValueError, KeyError):
            return cls()
        held = [
            Held(
                entry["PodUID"],
                entry["ContainerName"],
                entry["ResourceName"],
                tuple(i for ids in entry["DeviceIDs"].values() for i in ids),
                base64.b64decode(entry["AllocResp"]),
            )
            for entry in data["PodDeviceEntries"]
        ]
        return cls({resource: [] for resource in data["RegisteredDevices"]}, held)
