"""Images with PyTorch, made of what is installed here: one that users would bring, and one of the pool's executors.

The first has this Python, the packages of `make setup-torch`, the C libraries that they need, a shell, and nothing of
ours. The second has Tessera and its dependencies on top. Layers are kept in the suite's cache by what is in them.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.e2e import programs
from tests.e2e.cluster.images import Image, add, busybox_layer, save

TORCH = "docker.io/local/torch:1"
EXECUTOR = "docker.io/local/executor:1"
PYTHON = "/usr/local/bin/python3"

_ROOT = Path(__file__).parents[2]
_PINNED = _ROOT / "tests" / "remote" / "torch.txt"
_PACKAGES_HERE = Path(sysconfig.get_path("purelib"))
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LINKED = re.compile(r"(?:=>\s+|^\s+)(/\S+) \(0x", re.MULTILINE)
_AT_ONCE = 200
_Files = dict[str, Path]
"""By path in the image, what stands there."""


def write(folder: Path) -> tuple[Path, Path]:
    """Archives with the user's image, and with the executor's. Raises ``programs.Missing`` without torch."""
    user = Image([PYTHON], [busybox_layer(programs.find("busybox")), _layer("torch", _torch_files())])
    own = [*user.layers, _layer("tessera", _own_files()), _command()]
    executor = Image(["tessera"], own, ["PATH=/usr/local/bin:/bin:/usr/bin"])
    return save(folder / "torch.tar", {TORCH: user}), save(folder / "executor.tar", {EXECUTOR: executor})


def _command() -> bytes:
    """The program ``tessera``, which the checkout's environment has under a path of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        text = f"#!{PYTHON}\nfrom tessera.cli.tessera import main\n\nmain()\n"
        add(layer, "usr/local/bin/tessera", text.encode(), mode=0o755)
    return buffer.getvalue()


def _layer(name: str, files: _Files) -> Path:
    """A tar of these files; made anew if one of them is another than last time."""
    seen = hashlib.sha256()
    for at, path in sorted(files.items()):
        about = path.stat()
        seen.update(f"{at} {path} {about.st_size} {about.st_mtime_ns}\n".encode())
    kept = programs.cache_dir() / "images" / f"{name}-{seen.hexdigest()[:16]}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        for former in kept.parent.glob(f"{name}-*"):
            former.unlink()
        unfinished = kept.with_suffix(".unfinished")
        with tarfile.open(unfinished, "w", dereference=True) as layer:
            for at, path in sorted(files.items()):
                layer.add(path, at.lstrip("/"), recursive=False)
        unfinished.replace(kept)
    return kept


def _torch_files() -> _Files:
    python = Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    own = list(_under(stdlib, leave={"site-packages", "dist-packages", "test", "idlelib", "__pycache__"}))
    packages = [path for each in _pinned() for path in _of(each)]
    files = {PYTHON: python}
    files |= {f"/usr/local/lib/{_VERSION}/{path.relative_to(stdlib)}": path for path in own}
    files |= _in_image(packages)
    return files | _libraries([python, *own, *packages])


def _own_files() -> _Files:
    packages = [path for each in _closure("tessera-gpu") for path in _of(each)]
    source = _ROOT / "src"
    ours = {f"{_site()}/{path.relative_to(source)}": path for path in _under(source, leave={"__pycache__"})}
    return _in_image(packages) | ours | _libraries(packages)


def _pinned() -> list[Distribution]:
    names = re.findall(r"^([A-Za-z0-9_.-]+)==", _PINNED.read_text(), re.MULTILINE)
    try:
        return [distribution(name) for name in names]
    except PackageNotFoundError as missing:
        raise programs.Missing(f"{missing} is not installed here; get it with: make setup-torch") from None


def _closure(name: str) -> Iterator[Distribution]:
    """What the distribution depends on, without itself and without extras."""
    wanted, seen = [name], {name}
    while wanted:
        found = distribution(wanted.pop())
        if found.name != name:
            yield found
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.name not in seen and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
                seen.add(needed.name)
                wanted.append(needed.name)


def _of(found: Distribution) -> Iterator[Path]:
    """A distribution's files among the packages; torch's stubs of vendors' libraries, which are beside them, too."""
    folders = {Path(_PACKAGES_HERE, str(file)).parent for file in found.files or () if ".." not in file.parts}
    for folder in folders:
        yield from (path for path in folder.iterdir() if path.is_file() and folder != _PACKAGES_HERE)
    yield from (
        path
        for file in found.files or ()
        if len(file.parts) == 1 and (path := Path(_PACKAGES_HERE, str(file))).is_file()
    )


def _under(folder: Path, leave: set[str]) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in leave]
        yield from (path for name in names if (path := Path(parent, name)).is_file())


def _in_image(paths: Iterable[Path]) -> _Files:
    return {f"{_site()}/{path.relative_to(_PACKAGES_HERE)}": path for path in paths}


@functools.cache
def _site() -> str:
    """Where the image's Python looks for packages: distributions differ in that."""
    ask = "import site; print(site.getsitepackages(['/usr/local'])[0])"
    answer = subprocess.run([Path(sys.executable).resolve(), "-c", ask], check=True, capture_output=True, text=True)
    return answer.stdout.strip()


def _libraries(paths: Iterable[Path]) -> _Files:
    """What programs and libraries are linked with, beside each other."""
    linked = [path for path in paths if path.suffix == ".so" or ".so." in path.name or path.name.startswith("python3")]
    found: set[str] = set()
    for first in range(0, len(linked), _AT_ONCE):
        told = subprocess.run(["ldd", *linked[first : first + _AT_ONCE]], capture_output=True, text=True).stdout
        found.update(_LINKED.findall(told))
    return {path: Path(path) for path in found if not Path(path).is_relative_to(_PACKAGES_HERE)}
