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
    if client is None:
        return _end(key, "found it used by no pod any more", f"{holder.pod} with UID {holder.uid}")
    if (client.pod_uid, client.container) != (holder.uid, holder.container):
        found = f"found it of pod {client.pod} with UID {client.pod_uid}, container {client.container}"
        return _end(key, found, f"{holder.pod} with UID {holder.uid}, container {holder.container}")
    if client.node != node:
        return _end(key, f"found it for node {client.node}", node)
    return lease


def ended(lease: Lease | None, key: str, server_name: str, holder: Holder) -> str:
    """Why what a container was told of its lease holds no more, in a sentence; empty while it may hold.

    ``server_name``: what it was told that the executors' certificates name, which no other lease's do. ``holder``: the
    container.
    """
    if lease is None:
        return f"GPULease {key} is gone"
    if lease.known.server_name != server_name:
        return f"GPULease {key} is gone, and another has its name"
    if lease.known.deleting:
        return f"GPULease {key} was deleted"
    if lease.known.pod_uid != holder.uid:
        return f"GPULease {key} was taken off pod {holder.pod}"
    return f"GPULease {key} was released" if lease.known.phase is Phase.RELEASED else ""


@dataclass(frozen=True, slots=True)
class Told:
    """What matters here of a ``lease.json``. ``over``: why it holds no more, for good; empty while it does."""

    epoch: int
    server_name: str
    over: str = ""

    def older_than(self, lease: Lease) -> bool:
        """Whether this may be replaced by what ``lease`` says; another lease of the same name is not newer."""
        return not self.over and self.server_name == lease.known.server_name and self.epoch <= lease.known.epoch


def lease_file(lease: Lease) -> bytes:
    """What the container reads at each connect, ``lease.json``."""
    return json.dumps(
        {
            "endpoint": lease.endpoint,
            "epoch": lease.known.epoch,
            "server_name": lease.server_name,
            "lease": lease.known.key,
            "container": lease.known.used_by,
        }
    ).encode()


def over_file(data: bytes, why: str) -> bytes:
    """The same ``lease.json``, with the sentence that its lease is over."""
    return json.dumps({**json.loads(data), "over": why}).encode()


def told_in(data: bytes) -> Told | None:
    """What a ``lease.json`` says; ``None`` if it is none."""
    try:
        found = json.loads(data)
        told = Told(found["epoch"], found["server_name"], found.get("over", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    whole = type(told.epoch) is int and isinstance(told.server_name, str) and isinstance(told.over, str)
    return told if whole else None


def _end(key: str, found: str, allowed: str) -> Refusal:
    return Refusal(Reason(Code.INVALID_ASSIGNMENT, f"GPULease {key}: {found}; allowed: {allowed}"), permanent=True)
