"""The kubelet's device checkpoint (``kubelet_internal_checkpoint``), read for the UID that PodResources does not give.

Form: k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/checkpoint. Device IDs stand by NUMA node; before 1.20 they were a
plain list, which is read as well.
"""

import base64
from dataclasses import dataclass
from pathlib import Path

import msgspec
from google.protobuf.message import DecodeError

from tessera.device_plugin.slots import CDI_KIND
from tessera.pb.deviceplugin.v1beta1 import api_pb2

FILE = "kubelet_internal_checkpoint"


class _Entry(msgspec.Struct, rename="pascal"):
    pod_uid: str = msgspec.field(name="PodUID")
    container_name: str
    resource_name: str
    device_ids: dict[str, list[str] | None] | list[str] | None = msgspec.field(name="DeviceIDs", default=None)
    alloc_resp: str | None = None


class _Data(msgspec.Struct, rename="pascal"):
    pod_device_entries: list[_Entry] | None = None


class _File(msgspec.Struct, rename="pascal"):
    data: _Data


class CheckpointError(Exception):
    """The checkpoint cannot be read; the text names the file."""


@dataclass(frozen=True, slots=True)
class Held:
    """A slot as the kubelet recorded it. ``device`` is the CDI name of the recorded answer, if it has one."""

    uid: str
    container: str
    slot: str
    device: str | None = None


def read(path: Path) -> list[Held] | None:
    """The slots of Tessera in the checkpoint; ``None`` if there is no file. Raises ``CheckpointError``. Blocking."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: {error}") from None
    try:
        return parse(data)
    except (msgspec.DecodeError, ValueError, DecodeError) as error:
        raise CheckpointError(f"{path}: not a device checkpoint: {error}") from None


def parse(data: bytes) -> list[Held]:
    """The slots of Tessera in a checkpoint's bytes."""
    entries = msgspec.json.decode(data, type=_File).data.pod_device_entries or []
    return [
        Held(entry.pod_uid, entry.container_name, slot, _device(entry.alloc_resp))
        for entry in entries
        if entry.resource_name == CDI_KIND
        for slot in _slots(entry)
    ]


def _slots(entry: _Entry) -> list[str]:
    if isinstance(entry.device_ids, dict):
        return [slot for slots in entry.device_ids.values() for slot in slots or []]
    return list(entry.device_ids or [])


def _device(answer: str | None) -> str | None:
    if not answer:
        return None
    response = api_pb2.ContainerAllocateResponse.FromString(base64.b64decode(answer))
    names = [device.name.removeprefix(f"{CDI_KIND}=") for device in response.cdi_devices]
    return names[0] if names else None
