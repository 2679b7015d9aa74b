"""The cgroups of pods as a tree of ``dmem`` limits: found, given the controller, set and read back."""

from collections.abc import Iterator
from pathlib import Path

from tessera.node_agent.enforcement.dmem_files import (
    CAPACITY,
    CHILDREN,
    CONTROLLER,
    CONTROLLERS,
    LIMIT,
    CgroupFiles,
    value_of,
)

_PODS = "kubepods"
_SCRATCH = "tessera-trial"
_DEPTH = 3
"""Below a folder of pods: the class of service, and the pod."""


class DmemError(Exception):
    """A condition does not hold."""


class DmemTree:
    """``mount``: the host's cgroup file system; ``root``: of it, only what is below counts. Blocking."""

    def __init__(self, files: CgroupFiles, mount: Path, root: str = "") -> None:
        self._files, self.mount = files, mount
        self._root = mount / root.strip("/")

    def check(self, region: str) -> str:
        """What shows that a limit can be set for a region. Raises ``DmemError`` with the first condition that fails."""
        try:
            controllers = self._files.read(self.mount / CONTROLLERS).split()
        except FileNotFoundError:
            raise DmemError(f"{self.mount} is not cgroup v2 alone: it has no {CONTROLLERS}") from None
        except OSError as error:
            raise DmemError(f"{CONTROLLERS} cannot be read: {error}") from None
        if CONTROLLER not in controllers:
            found = " ".join(controllers)
            raise DmemError(f"the kernel has no cgroup controller {CONTROLLER} (6.14 and newer have): found {found}")
        return self._try(region)

    def pod(self, uid: str) -> Path | None:
        """The cgroup of a pod, as the cgroupfs driver or the systemd driver names it."""
        names = (f"pod{uid}", f"-pod{uid.replace('-', '_')}.slice")
        for folder in self._pod_folders():
            for path in _below(folder, _DEPTH - 1):
                if path.name == names[0] or path.name.endswith(names[1]):
                    return path
        return None

    def enable(self, cgroup: Path) -> tuple[Path, ...]:
        """Gives the children of ``cgroup`` the controller, and all above; answers where it was missing.

        Raises ``OSError`` and ``DmemError``.
        """
        missing = []
        for at in (*reversed(cgroup.relative_to(self.mount).parents), cgroup.relative_to(self.mount)):
            path = self.mount / at / CHILDREN
            if CONTROLLER in self._files.read(path).split():
                continue
            self._files.write(path, f"+{CONTROLLER}")
            if CONTROLLER not in self._files.read(path).split():
                raise DmemError(f"{path} does not take {CONTROLLER}")
            missing.append(self.mount / at)
        return tuple(missing)

    def limit(self, cgroup: Path, region: str) -> str | None:
        """What holds a cgroup; ``None``: nothing could, it has no such file or region. Raises ``OSError``."""
        try:
            return value_of(self._files.read(cgroup / LIMIT), region)
        except FileNotFoundError:
            return None

    def set_limit(self, cgroup: Path, region: str, value: str) -> None:
        """Sets and reads back. Raises ``OSError`` and ``DmemError``."""
        self._files.write(cgroup / LIMIT, f"{region} {value}\n")
        found = self.limit(cgroup, region)
        if found != value:
            raise DmemError(f"{cgroup / LIMIT} says {found or 'nothing'} of {region}; set was {value}")

    def _try(self, region: str) -> str:
        """On a cgroup of our own beside the pods."""
        try:
            capacity = value_of(self._files.read(self.mount / CAPACITY), region)
            if capacity is None:
                raise DmemError(
                    f"{CAPACITY} does not list {region}: the driver (R615 and newer) does not count by cgroup"
                )
            folders = list(self._pod_folders())
            if not folders:
                raise DmemError(f"no cgroups of pods ({_PODS}) below {self._root}")
            for folder in folders:
                self.enable(folder)
                self._set_on_scratch(folder / _SCRATCH, region, int(capacity) // 2)
        except (OSError, ValueError) as error:
            raise DmemError(f"the limits of {CONTROLLER} cannot be used: {error}") from None
        return f"{CONTROLLER} limits of {region} are taken and read back"

    def _set_on_scratch(self, scratch: Path, region: str, half: int) -> None:
        self._files.make(scratch)
        try:
            self.set_limit(scratch, region, str(half - half % (1 << 20)))
        finally:
            self._files.remove(scratch)

    def _pod_folders(self) -> Iterator[Path]:
        """At most two folders below the root, as where a kubelet has a cgroup of its own."""
        for path in _below(self._root, _DEPTH):
            names = path.relative_to(self._root).parts
            if _is_pods(names[-1]) and not any(map(_is_pods, names[:-1])):
                yield path


def _is_pods(name: str) -> bool:
    return name.removesuffix(".slice").endswith(_PODS)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return
    for path in found:
        yield path
        if depth > 1:
            yield from _below(path, depth - 1)
