"""The GPUs of this node: what they are, and whether they can be used.

A GPU once seen stays in the inventory until the machine boots again: when it, or NVML as a whole, stops to answer, it
is marked unhealthy with the reason and nothing about it is forgotten. MIG devices come and go with their instances: as
long as their GPU answers it is believed about them, and what stood against one of them stands against those that take
its place. The last known inventory and the errors that wait
for a reset outlive the agent.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import structlog

from tessera.durable import Disk, LocalDisk, read_json, write_json
from tessera.model.gpus import Health
from tessera.node_agent.health import Condition, Rules, answered, reported, silent
from tessera.node_agent.nvml import Device, NvmlError, Reading, Xid

log = structlog.get_logger()

VERSION = 1
_GONE = (15, 16, 28)
"""GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND."""
_EMPTY = "the GPU is in MIG mode and has no MIG devices: nothing of it can be given out"
_NOT_YET = "NVML has not answered for this GPU since the agent started"


class Inventory:
    """``devices`` by UUID in the driver's order. ``trouble``: why NVML cannot be read in full, or empty."""

    def __init__(
        self, rules: Rules, path: Path, boot_id: str, clock: Callable[[], float], disk: Disk | None = None
    ) -> None:
        self._rules, self._path, self._boot_id, self._clock = rules, path, boot_id, clock
        self._disk = disk or LocalDisk()
        self.devices: dict[str, Device] = {}
        self._conditions: dict[str, Condition] = {}
        self._saved: Any = None
        self.trouble = ""
        self._load()

    def health(self, uuid: str) -> Health:
        """A GPU's health and the reason against it."""
        health = self._conditions[uuid].health
        return Health(False, _EMPTY) if health.healthy and self.devices[uuid].mig else health

    def observe(self, reading: Reading, deaf: Mapping[str, NvmlError] | None = None) -> None:
        """Takes a look at all GPUs; of those that are ``deaf`` the driver does not tell the errors."""
        now, errors, before = self._clock(), dict(reading.failures), {device.index for device in self.devices.values()}
        failed = {uuid: errors[device.index] for uuid, device in self.devices.items() if device.index in errors}
        strangers = [f"GPU {index}: {error}" for index, error in reading.failures if index not in before]
        seen = {device.uuid: device for device in reading.devices}
        self._regroup(seen)
        for uuid, device in self.devices.items():
            condition = self._conditions.get(uuid, Condition())
            if uuid in seen and deaf and device.physical in deaf:
                reason = f"its errors cannot be heard of: {deaf[device.physical]}"
                self._conditions[uuid] = silent(condition, reason, self._rules)
            elif uuid in seen:
                self._conditions[uuid] = answered(condition, now, self._rules)
            elif uuid in failed:
                error = failed[uuid]
                reason = f"does not answer: {error}"
                self._conditions[uuid] = silent(condition, reason, self._rules, gone=error.code in _GONE)
            else:
                self._conditions[uuid] = silent(condition, "is not listed by NVML any more", self._rules, gone=True)
        self._report("; ".join(strangers))
        self._save()

    def failed(self, error: NvmlError) -> None:
        """NVML as a whole cannot be read."""
        for uuid, condition in self._conditions.items():
            if not condition.away or condition.away == _NOT_YET or condition.good:
                self._conditions[uuid] = silent(condition, f"NVML cannot be read: {error}", self._rules)
        self._report(f"cannot be read: {error}")

    def xid(self, event: Xid) -> None:
        """Takes an error event; one without a GPU concerns all."""
        for uuid in self._conditions:
            if event.gpu_uuid in ("", uuid, self.devices[uuid].parent):
                self._conditions[uuid] = reported(self._conditions[uuid], event.code, self._clock())
        self._save()

    def _regroup(self, seen: Mapping[str, Device]) -> None:
        """Takes the ``seen`` devices in, and forgets those that the GPUs of these have no more."""
        gpus = {device.physical for device in seen.values()}
        gone = [uuid for uuid, device in self.devices.items() if device.physical in gpus and uuid not in seen]
        inherited = {device.physical: self._conditions[uuid] for uuid, device in self.devices.items()}
        for uuid in seen.keys() - self.devices.keys():
            log.info("GPU or MIG device found", uuid=uuid, gpu=seen[uuid].physical)
            self._conditions[uuid] = inherited.get(seen[uuid].physical, Condition())
        for uuid in gone:
            log.warning("GPU or MIG device is no more", uuid=uuid, gpu=self.devices[uuid].physical)
            del self.devices[uuid], self._conditions[uuid]
        silent_ones = {uuid: device for uuid, device in self.devices.items() if uuid not in seen}
        self.devices = _ordered({**seen, **silent_ones})

    def _report(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning("NVML", trouble=trouble) if trouble else log.info("NVML answers in full")
        self.trouble = trouble

    def _load(self) -> None:
        saved = read_json(self._path)
        if not isinstance(saved, dict) or saved.get("version") != VERSION or saved.get("boot_id") != self._boot_id:
            return
        names = {field.name for field in fields(Device)}
        for entry in saved.get("gpus", []):
            known: dict[str, Any] = {k: v for k, v in entry.items() if k in names}
            device = Device(**{**known, "nvlink_peers": tuple(known["nvlink_peers"])})
            self.devices[device.uuid] = device
            self._conditions[device.uuid] = Condition(away=_NOT_YET, needed=1, fatal=entry.get("fatal", ""))

    def _save(self) -> None:
        gpus = [{**asdict(d), "fatal": self._conditions[d.uuid].fatal} for d in self.devices.values()]
        content = {"version": VERSION, "boot_id": self._boot_id, "gpus": gpus}
        if content == self._saved:
            return
        try:
            write_json(self._disk, self._path, content)
            self._saved = content
        except OSError as error:
            log.error("inventory not saved", path=str(self._path), error=str(error))


def _ordered(devices: dict[str, Device]) -> dict[str, Device]:
    return dict(sorted(devices.items(), key=lambda item: item[1].index))
