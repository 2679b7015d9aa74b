"""A folder that behaves as cgroup v2 with the ``dmem`` controller of a kernel, for whoever writes through it.

A program that opens the files itself (the hook) finds plain ones: what it adds to ``dmem.max`` is its last line.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

_CHILDREN, _MAX, _CURRENT = "cgroup.subtree_control", "dmem.max", "dmem.current"


class FakeCgroupFiles:
    """``regions``: names with their sizes in bytes. ``stuck``: cgroups whose limits the kernel does not take."""

    def __init__(self, mount: Path, regions: Mapping[str, int], controllers: str = "cpu memory dmem") -> None:
        self.mount, self._regions, self._controllers = mount, dict(regions), controllers
        self.stuck: set[Path] = set()
        mount.mkdir(parents=True, exist_ok=True)
        self._furnish(mount)
        (mount / "dmem.capacity").write_text(self._lines({name: str(size) for name, size in regions.items()}))

    def read(self, path: Path) -> str:
        return path.read_text()

    def write(self, path: Path, text: str) -> None:
        if not path.is_file():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        if path.name == _CHILDREN:
            self._enable(path, text.split())
        elif path.parent not in self.stuck:
            region, _, value = text.strip().rpartition(" ")
            if region not in self._regions:
                raise OSError(22, "Invalid argument", str(path))
            path.write_text(self._lines({**self._values(path), region: value}))

    def make(self, path: Path) -> None:
        for folder in (*reversed(path.relative_to(self.mount).parents), path.relative_to(self.mount)):
            cgroup = self.mount / folder
            if not cgroup.is_dir():
                cgroup.mkdir()
                self._furnish(cgroup)
                self._give(cgroup)

    def remove(self, path: Path) -> None:
        shutil.rmtree(path)

    def use(self, cgroup: Path, region: str, size: int) -> bool:
        """A process of the cgroup takes more device memory; whether the kernel lets it, by every limit above it."""
        above = [path for path in (cgroup, *cgroup.parents) if path.is_relative_to(self.mount) and path != self.mount]
        limited = [path for path in above if (path / _MAX).is_file()]
        held = {path: int(self._values(path / _CURRENT)[region]) + size for path in limited}
        limits = {path: self._values(path / _MAX).get(region, "max") for path in limited}
        if any(limits[path] != "max" and held[path] > int(limits[path]) for path in limited):
            return False
        for path in limited:
            values = {**self._values(path / _CURRENT), region: str(held[path])}
            (path / _CURRENT).write_text(self._lines(values))
        return True

    def disable(self, cgroup: Path) -> None:
        """As a service manager does when it is loaded again: the children lose the controller, and their limits."""
        self._enable(cgroup / _CHILDREN, ["-dmem"])

    def _enable(self, path: Path, words: list[str]) -> None:
        allowed = set(self._controllers.split())
        if not {word[1:] for word in words if word.startswith("+")} <= allowed:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        given = set(path.read_text().split())
        given |= {word[1:] for word in words if word.startswith("+")}
        given -= {word[1:] for word in words if word.startswith("-")}
        path.write_text(" ".join(sorted(given)) + "\n")
        for child in (child for child in path.parent.iterdir() if child.is_dir()):
            self._give(child)

    def _give(self, cgroup: Path) -> None:
        if "dmem" in (cgroup.parent / _CHILDREN).read_text().split():
            for name, start in ((_MAX, "max"), (_CURRENT, "0")):
                if not (cgroup / name).is_file():
                    (cgroup / name).write_text(self._lines(dict.fromkeys(self._regions, start)))
            return
        for name in (_MAX, _CURRENT):
            (cgroup / name).unlink(missing_ok=True)
        self._enable(cgroup / _CHILDREN, ["-dmem"])

    def _furnish(self, cgroup: Path) -> None:
        (cgroup / "cgroup.controllers").write_text(f"{self._controllers}\n")
        (cgroup / _CHILDREN).touch()

    def _values(self, path: Path) -> dict[str, str]:
        return {name: value for name, _, value in (line.rpartition(" ") for line in path.read_text().splitlines())}

    @staticmethod
    def _lines(values: Mapping[str, str]) -> str:
        return "".join(f"{name} {value}\n" for name, value in values.items())
