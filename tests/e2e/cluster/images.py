"""Container images without a registry: one busybox layer, written as a tar that `ctr images import` takes.

`PAUSE` holds the sandbox. `BUSYBOX` is for test pods; its `/bin/report` prints the container's environment and
the files that the pod names, in a form that `pods.read_report` reads, and then sleeps until it is told to end.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAUSE = "docker.io/local/pause:1"
BUSYBOX = "docker.io/local/busybox:1"

REPORT = """#!/bin/sh
# report FILE-OR-FOLDER... : prints environment and files between markers, then waits to be ended.
trap 'exit 0' TERM INT
echo '=== env'
env
for path in "$@"; do
    for file in $(find -L "$path" -type f 2>/dev/null); do
        echo "=== file $file"
        cat "$file"
        echo
    done
done
echo '=== end'
while :; do sleep 3600 & wait $!; done
"""


def write(path: Path, busybox: Path) -> Path:
    """Writes one tar with both images."""
    commands = {PAUSE: ["/bin/busybox", "sleep", "2147483647"], BUSYBOX: ["/bin/report"]}
    return archive(path, busybox_layer(busybox), commands)


def archive(path: Path, layer: bytes, commands: Mapping[str, Sequence[str]], environment: Sequence[str] = ()) -> Path:
    """Writes images that share one layer, by name and command, in the format of `docker save`."""
    return save(path, {name: Image(command, [layer], environment) for name, command in commands.items()})


@dataclass(frozen=True, slots=True)
class Image:
    """`layers`, the lowest first: each a tar, or the path of one."""

    command: Sequence[str]
    layers: Sequence[bytes | Path]
    environment: Sequence[str] = ()


def save(path: Path, images: Mapping[str, Image]) -> Path:
    """Writes images by name, in the format of `docker save`; a layer that several have is written once."""
    with tarfile.open(path, "w") as whole:
        manifest, written = [], set[str]()
        for name, image in images.items():
            digests = [_digest(layer) for layer in image.layers]
            for digest, layer in zip(digests, image.layers, strict=True):
                if digest not in written:
                    _add_layer(whole, f"{digest}.tar", layer)
                    written.add(digest)
            add(whole, _config_name(name), json.dumps(_config(image, digests)).encode())
            manifest.append({"Config": _config_name(name), "RepoTags": [name], "Layers": [f"{d}.tar" for d in digests]})
        add(whole, "manifest.json", json.dumps(manifest).encode())
    return path


def _digest(layer: bytes | Path) -> str:
    if isinstance(layer, bytes):
        return hashlib.sha256(layer).hexdigest()
    with layer.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add_layer(whole: tarfile.TarFile, name: str, layer: bytes | Path) -> None:
    if isinstance(layer, bytes):
        add(whole, name, layer)
    else:
        whole.add(layer, name)


def _config_name(image: str) -> str:
    return f"{image.split('/')[-1].split(':')[0]}.json"


def _config(image: Image, digests: Sequence[str]) -> dict[str, object]:
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin:/usr/bin", *image.environment], "Entrypoint": list(image.command), "Cmd": None,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }  # fmt: skip


def busybox_layer(busybox: Path) -> bytes:
    """A root folder with busybox and `report`, as a tar."""
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "tmp", "usr", "usr/bin"):
            add(archive, folder, kind=tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        add(archive, "bin/busybox", busybox.read_bytes(), mode=0o755)
        add(archive, "bin/report", REPORT.encode(), mode=0o755)
        add(archive, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        for applet in applets:
            if applet != "busybox":
                add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
    return buffer.getvalue()


def add(
    archive: tarfile.TarFile, name: str, data: bytes = b"", *, mode: int = 0o644,
    kind: bytes = tarfile.REGTYPE, link: str = "",
) -> None:  # fmt: skip
    """Puts one file into a tar."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname = len(data), mode, kind, link
    archive.addfile(info, io.BytesIO(data))
