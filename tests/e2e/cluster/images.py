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
    with tarfile.open(path, "w") as whole:
        add(whole, "layer.tar", layer)
        manifest = []
        for name, command in commands.items():
            config = json.dumps(_config(command, layer, environment)).encode()
            add(whole, _config_name(name), config)
            manifest.append({"Config": _config_name(name), "RepoTags": [name], "Layers": ["layer.tar"]})
        add(whole, "manifest.json", json.dumps(manifest).encode())
    return path


def _config_name(image: str) -> str:
    return f"{image.split('/')[-1].split(':')[0]}.json"


def _config(command: Sequence[str], layer: bytes, environment: Sequence[str]) -> dict[str, object]:
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/bin:/usr/bin", *environment], "Entrypoint": list(command), "Cmd": None},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }


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
