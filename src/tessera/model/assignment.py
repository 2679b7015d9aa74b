"""What a pod was given, and its form in the annotation ``tessera.io/assignment``.

Written once, by the Binding, together with ``spec.nodeName``; never changed after. The form is versioned JSON, and a
reader that does not know the version refuses it rather than guess.
"""

import json
from dataclasses import dataclass
from typing import Any

from tessera.model import sharing

VERSION = 1


class AssignmentError(ValueError):
    """The annotation is malformed or of an unknown version."""


class NewerVersionError(AssignmentError):
    """The annotation is of a later version than this reader's."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of one GPU: bytes, percent points of its compute (0: no cap), and whether it is the whole GPU."""

    uuid: str
    mem_bytes: int
    core_percent: int = 0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """The shares of each container, by container name. Hashable; equal assignments encode equally.

    ``domain`` is the trust domain that the pod was placed in, for as long as it runs; empty where all are one.
    ``leases``: for containers with a slice on another node, the name of its GPULease. A pod has the one or the other.
    """

    containers: tuple[tuple[str, tuple[Share, ...]], ...]
    domain: str = ""
    leases: tuple[tuple[str, str], ...] = ()

    @property
    def shares(self) -> tuple[Share, ...]:
        """The shares of all containers."""
        return tuple(share for _, shares in self.containers for share in shares)

    def of(self, container: str) -> tuple[Share, ...] | None:
        """The shares of one container, or ``None`` if it has none."""
        return dict(self.containers).get(container)

    def lease_of(self, container: str) -> str | None:
        """The name of the GPULease of one container, or ``None`` if its slice is on its own node."""
        return dict(self.leases).get(container)


def encode(assignment: Assignment) -> str:
    """The annotation's value: compact JSON."""
    containers: dict[str, Any] = {}
    for name, shares in assignment.containers:
        containers[name] = {"gpus": [_encode_share(share) for share in shares]}
    for name, lease in assignment.leases:
        containers[name] = {"lease": lease}
    domain = {"domain": assignment.domain} if assignment.domain else {}
    return json.dumps({"version": VERSION, **domain, "containers": containers}, separators=(",", ":"))


def decode(text: str) -> Assignment:
    """Reads the annotation's value; raises ``AssignmentError``."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise AssignmentError(f"tessera.io/assignment is not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("version") != VERSION:
        found = data.get("version") if isinstance(data, dict) else data
        newer = type(found) is int and found > VERSION
        raise (NewerVersionError if newer else AssignmentError)(
            f"tessera.io/assignment: found version {found!r}; allowed: {VERSION}"
        )
    containers = data.get("containers")
    if not isinstance(containers, dict) or not containers:
        raise AssignmentError(f"tessera.io/assignment: found containers {containers!r}; allowed: an object by name")
    domain = data.get("domain", "")
    if not isinstance(domain, str):
        raise AssignmentError(f"tessera.io/assignment: found domain {domain!r}; allowed: a text")
    leases = tuple((name, _decode_lease(name, value)) for name, value in containers.items() if _is_lease(value))
    if leases and len(leases) < len(containers):
        raise AssignmentError("tessera.io/assignment: found leases beside gpus; allowed: either")
    if leases:
        return Assignment((), sharing.text(domain), leases)
    shares = ((sharing.text(name), _decode_shares(name, value)) for name, value in containers.items())
    return Assignment(tuple(shares), sharing.text(domain))


def _is_lease(value: object) -> bool:
    return isinstance(value, dict) and "lease" in value


def _decode_lease(name: str, value: object) -> str:
    lease = value.get("lease") if isinstance(value, dict) else None
    if not isinstance(lease, str) or not lease or (isinstance(value, dict) and "gpus" in value):
        raise AssignmentError(
            f"tessera.io/assignment: container {name!r}: found lease {lease!r}; allowed: the name of a GPULease alone"
        )
    return lease


def _encode_share(share: Share) -> dict[str, Any]:
    out: dict[str, Any] = {"uuid": share.uuid, "mem": share.mem_bytes, "core": share.core_percent}
    if share.whole:
        out["whole"] = True
    return out


def _decode_shares(name: str, value: object) -> tuple[Share, ...]:
    gpus = value.get("gpus") if isinstance(value, dict) else None
    if not isinstance(gpus, list) or not gpus:
        raise AssignmentError(f"tessera.io/assignment: container {name!r} has no list of gpus")
    shares = tuple(_decode_share(name, gpu) for gpu in gpus)
    if len(shares) > 1 and len({share.uuid for share in shares}) != len(shares):
        raise AssignmentError(f"tessera.io/assignment: container {name!r} names a GPU twice")
    return shares


def _decode_share(name: str, gpu: object) -> Share:
    if not isinstance(gpu, dict):
        raise AssignmentError(f"tessera.io/assignment: container {name!r}: found {gpu!r}; allowed: an object")
    uuid, mem, core, whole = gpu.get("uuid"), gpu.get("mem"), gpu.get("core"), gpu.get("whole", False)
    if not isinstance(uuid, str) or not uuid:
        raise AssignmentError(f"tessera.io/assignment: container {name!r}: found uuid {uuid!r}; allowed: a GPU's UUID")
    if type(mem) is not int or mem <= 0:
        raise AssignmentError(f"tessera.io/assignment: container {name!r}: found mem {mem!r}; allowed: bytes above 0")
    if type(core) is not int or not 0 <= core <= 100:
        raise AssignmentError(f"tessera.io/assignment: container {name!r}: found core {core!r}; allowed: 0 to 100")
    if type(whole) is not bool:
        raise AssignmentError(f"tessera.io/assignment: container {name!r}: found whole {whole!r}; allowed: true")
    return Share(sharing.text(uuid), sharing.same(mem), core, whole)
