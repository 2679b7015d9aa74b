"""Addresses of one cluster: a /16 block of 10.0.0.0/8 that no other cluster on the machine uses.

The API server has its address on the loopback device, each node its own in its own network namespace (`link.py`).
Nothing outside the machine reaches them, but pods do: their default route leads to their node, the node's to the
control plane. So the API server listens at the very address of the `kubernetes` Service, and in-cluster clients work
without kube-proxy.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

LOCKS = Path("/tmp/tessera-e2e-addresses")
BLOCKS = range(97, 127)


class Block:
    """10.N.0.0/16: Services .0.0/24 (API server .0.1, DNS .0.10), nodes .1.1 and up, pods a /20 a node from .16.0."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.services = f"10.{number}.0.0/24"
        self.api = f"10.{number}.0.1"
        self.dns = f"10.{number}.0.10"

    def node(self, index: int) -> str:
        """Address of the node, 0-based."""
        return f"10.{self.number}.1.{index + 1}"

    def pods(self, index: int) -> str:
        """Subnet of the node's pods, 0-based."""
        return f"10.{self.number}.{16 * (index + 1)}.0/20"

    def device(self, index: int) -> str:
        """The control plane's end of the link to the node, 0-based."""
        return f"node{self.number}-{index}"

    def add(self, address: str) -> None:
        ip("addr", "replace", f"{address}/32", "dev", "lo")

    def remove_all(self) -> None:
        """Takes the block's addresses off the loopback device, and the links to its nodes away."""
        for line in ip("-o", "-4", "addr", "show", "dev", "lo").splitlines():
            address = line.split()[3]
            if address.startswith(f"10.{self.number}."):
                ip("addr", "del", address, "dev", "lo")
        for line in ip("-o", "link", "show", "type", "veth").splitlines():
            device = line.split()[1].partition("@")[0]
            if device.startswith(f"node{self.number}-"):
                with contextlib.suppress(subprocess.CalledProcessError):  # gone with the node's namespace meanwhile
                    ip("link", "delete", device)


def claim(directory: Path) -> Block:
    """Takes the first free block for the cluster in `directory`; a block whose folder is gone is free."""
    LOCKS.mkdir(exist_ok=True)
    with (LOCKS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in BLOCKS:
            owner = LOCKS / str(number)
            if not (owner.is_symlink() and owner.exists()) and not _routed(number):
                owner.unlink(missing_ok=True)
                owner.symlink_to(directory)
                return Block(number)
    raise RuntimeError(f"no address block 10.{BLOCKS[0]}..{BLOCKS[-1]}.0.0/16 is free; see {LOCKS}")


def release(block: Block) -> None:
    (LOCKS / str(block.number)).unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Ports free on 127.0.0.1 at this moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _routed(number: int) -> bool:
    """Whether some other network of the machine lies in the block."""
    return any(f"10.{number}." in line for line in ip("-4", "route", "show", "table", "all").splitlines())


def ip(*arguments: str, before: Sequence[str] = ()) -> str:
    """Output of the program of that name; `before`: the words of a command that runs it, of none if empty."""
    path = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    return subprocess.run([*before, "ip", *arguments], check=True, capture_output=True, text=True, env=path).stdout
