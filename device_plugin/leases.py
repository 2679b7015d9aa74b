"""A slice on another node as this node's plugin sees it: may it be used here, does it serve, what does its container
read of it. Pure."""

import json
from dataclasses import dataclass

from tessera.device_plugin.refusals import Refusal
from tessera.device_plugin.slices import Holder
from tessera.model.gpu_leases import Attach, GpuLease, Phase
from tessera.reasons import Code, Reason

SERVING = frozenset({Phase.READY, Phase.ACTIVE, Phase.DETACHED, Phase.MIGRATING})
"""Phases in which the endpoint is that of an executor that serves."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A GPULease with what the controller says of its executor. ``version``: the object's, for a fenced write."""

    known: GpuLease
    version: str = ""
    attach: Attach | None = None
    attached: Attach | None = None
    endpoint: str = ""
    server_name: str = ""
    message: str = ""

    @property
    def serves(self) -> bool:
        """Whether a client can reach an executor at ``endpoint``."""
        return self.known.phase in SERVING and bool(self.endpoint and self.server_name)

    def serves_start(self, start: Attach) -> bool:
        """Whether the executor is the one for this very start of the container."""
        return self.serves and self.attached == start and self.known.phase in (Phase.READY, Phase.ACTIVE)


def usable(lease: Lease | None, key: str, holder: Holder, node: str) -> Lease | Refusal:
    """The lease that an assignment names, or why a container of ``node`` may not use it; no retry can mend that."""
    if lease is None:
        return _end(key, "found none", "a GPULease that is there")
    known, client = lease.known, lease.known.client
    if known.deleting or known.phase is Phase.RELEASED:
        return _end(key, "found it released", "one in use")
    if (client.pod_uid, client.container) != (holder.uid, holder.container):
        found = f"found it of pod {client.pod} with UID {client.pod_uid}, container {client.container}"
        return _end(key, found, f"{holder.pod} with UID {holder.uid}, container {holder.container}")
    if client.node != node:
        return _end(key, f"found it for node {client.node}", node)
    return lease


def lease_file(lease: Lease) -> bytes:
    """What the container reads at each connect, ``lease.json``."""
    return json.dumps(
        {
            "endpoint": lease.endpoint,
            "epoch": lease.known.epoch,
            "server_name": lease.server_name,
            "lease": lease.known.key,
            "container": lease.known.client.container,
        }
    ).encode()


def epoch_in(data: bytes) -> int:
    """The epoch in a ``lease.json``; -1 if it is none."""
    try:
        epoch = json.loads(data)["epoch"]
    except (ValueError, KeyError, TypeError):
        return -1
    return epoch if type(epoch) is int else -1


def _end(key: str, found: str, allowed: str) -> Refusal:
    return Refusal(Reason(Code.INVALID_ASSIGNMENT, f"GPULease {key}: {found}; allowed: {allowed}"), permanent=True)
