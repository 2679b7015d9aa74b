"""Which pod and container a process belongs to, from the lines of /proc/PID/cgroup.

Knows the cgroupfs and the systemd driver, cgroup v1, v2 and both together, containerd, CRI-O and Docker, and a nested
cgroup root. The outermost pod counts, so a container that makes cgroups of its own cannot pass for another pod.
"""

import re
from dataclasses import dataclass

_HEX = r"[0-9a-f]"
_UID = rf"{_HEX}{{8}}(?:[-_]?{_HEX}{{4}}){{3}}[-_]?{_HEX}{{12}}"
_POD = re.compile(rf"(?:pod|[\w.-]*kubepods-(?:[a-z]+-)?pod)({_UID})(?:\.slice)?")
_CONTAINER = re.compile(rf"(?:(?:cri-containerd|containerd|crio|docker)[-:])?({_HEX}{{32,64}})(?:\.scope)?")
_FLAT = re.compile(rf"[\w.-]*kubepods-(?:[a-z]+-)?pod({_UID})\.slice:[\w.-]+:({_HEX}{{32,64}})")
_PREFERRED = ("", "memory", "freezer")


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod. ``container_id`` has no ``containerd://`` before it."""

    pod_uid: str
    container_id: str


@dataclass(frozen=True, slots=True)
class Membership:
    """A container and the path of its cgroup in the hierarchy of ``controller`` (empty: the unified one)."""

    container: Container
    controller: str
    path: str


def membership_of(text: str, root: str = "") -> Membership | None:
    """Reads the lines of /proc/PID/cgroup; ``None`` for a process of no pod, or where the lines contradict.

    ``root`` narrows to cgroups below it, for a kubelet that itself runs in a container.
    """
    found = [m for line in text.splitlines() if (m := _line(line, root.rstrip("/")))]
    if len({m.container for m in found}) != 1:
        return None
    return min(found, key=lambda m: _PREFERRED.index(m.controller) if m.controller in _PREFERRED else len(_PREFERRED))


def _line(line: str, root: str) -> Membership | None:
    parts = line.split(":", 2)
    if len(parts) != 3 or not parts[2].startswith(f"{root}/"):
        return None
    found = _below(parts[2], root)
    if found is None:
        return None
    container, path = found
    controllers = parts[1].split(",")
    named = next((c for c in _PREFERRED if c in controllers), controllers[0])
    return Membership(container, named, path)


def _below(path: str, root: str) -> tuple[Container, str] | None:
    names = path[len(root) :].split("/")
    for place, name in enumerate(names):
        if flat := _FLAT.fullmatch(name):
            return Container(_uid(flat[1]), flat[2]), root + "/".join(names[: place + 1])
        pod = _POD.fullmatch(name)
        if pod is None:
            continue
        inner = _CONTAINER.fullmatch(names[place + 1]) if place + 1 < len(names) else None
        return (Container(_uid(pod[1]), inner[1]), root + "/".join(names[: place + 2])) if inner else None
    return None


def _uid(text: str) -> str:
    return text.replace("_", "-")
