"""Images for the rows: of Debian's suites, with other allocators, of musl, static, and one that is in the way."""

import io
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.e2e import programs
from tests.e2e.cluster.images import add, archive, busybox_layer
from tests.e2e.cluster.node import Node
from tests.escape import debian

MUSL = Path(f"/usr/lib/{platform.machine()}-linux-musl/libc.so")
MUSL_LOADER = f"lib/ld-musl-{platform.machine()}.so.1"
NOT_THERE = "/nothing/libother.so"
"""What the image in the way has its programs preload: the loader would complain."""


def name_of(image: str) -> str:
    """As pods name it."""
    return f"docker.io/local/{image}:1"


def load(node: Node, folder: Path, tools: Path) -> None:
    """Puts all of them on a node. Raises ``apt.Missing``."""
    for suite in debian.SUITES:
        _load(node, folder, suite.name, debian.layer(suite))
    _load(node, folder, "allocators", debian.allocators())
    busybox = programs.find("busybox").read_bytes()
    _load(node, folder, "static", _files({"true": (tools / "true-static").read_bytes(), "bin/sh": busybox}))
    musl = {"true": (tools / "true-musl").read_bytes(), "bin/sh": debian.musl_shell(), MUSL_LOADER: MUSL.read_bytes()}
    _load(node, folder, "musl", _files(musl))
    _load(node, folder, "in-the-way", _in_the_way(), "NVIDIA_VISIBLE_DEVICES=all")


def _load(node: Node, folder: Path, image: str, layer: bytes, *environment: str) -> None:
    path = archive(folder / "image.tar", layer, {name_of(image): ["/true"]}, environment)
    node.containerd.load(path)
    path.unlink()


def _files(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as whole:
        for name, data in files.items():
            add(whole, name, data, mode=0o755)
    return buffer.getvalue()


def _in_the_way() -> bytes:
    """Busybox, with a link that leads a volume into /etc and a list of libraries to preload."""
    buffer = io.BytesIO(busybox_layer(programs.find("busybox")))
    with tarfile.open(fileobj=buffer, mode="a") as whole:
        add(whole, "deep/link", kind=tarfile.SYMTYPE, link="/etc")
        add(whole, "etc/ld.so.preload", f"{NOT_THERE}\n".encode())
    return buffer.getvalue()
