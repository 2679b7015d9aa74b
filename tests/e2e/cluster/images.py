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
    """Writes one tar with both images, in the format of `docker save`."""
    layer = _layer(busybox)
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", layer)
        manifest = []
        for name, command in ((PAUSE, ["/bin/busybox", "sleep", "2147483647"]), (BUSYBOX, ["/bin/report"])):
            config = json.dumps(_config(command, layer)).encode()
            _add(archive, f"{name.split('/')[-1].split(':')[0]}.json", config)
            manifest.append(_entry(name))
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def _entry(name: str) -> dict[str, object]:
    return {"Config": f"{name.split('/')[-1].split(':')[0]}.json", "RepoTags": [name], "Layers": ["layer.tar"]}


def _config(command: list[str], layer: bytes) -> dict[str, object]:
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/bin:/usr/bin"], "Entrypoint": command, "Cmd": None},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }


def _layer(busybox: Path) -> bytes:
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "tmp", "usr", "usr/bin"):
            _add(archive, folder, kind=tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        _add(archive, "bin/busybox", busybox.read_bytes(), mode=0o755)
        _add(archive, "bin/report", REPORT.encode(), mode=0o755)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        for applet in applets:
            if applet != "busybox":
                _add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
    return buffer.getvalue()


def _add(
    archive: tarfile.TarFile, name: str, data: bytes = b"", *, mode: int = 0o644,
    kind: bytes = tarfile.REGTYPE, link: str = "",
) -> None:  # fmt: skip
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname = len(data), mode, kind, link
    archive.addfile(info, io.BytesIO(data))
