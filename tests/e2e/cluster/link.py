"""The link between a node's network namespace and the control plane's, by which pods of two nodes reach each other too.

The control plane's namespace forwards between the nodes, as a router between hosts would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e import programs
from tests.e2e.cluster.addresses import Block, ip

INSIDE = "eth0"


class Link:
    """Of the node `index`, 0-based, in the network namespace of the process `pid`."""

    def __init__(self, block: Block, index: int, pid: int) -> None:
        self._block, self._index = block, index
        self._device = block.device(index)
        self.enter = [str(programs.find("nsenter")), f"--net=/proc/{pid}/ns/net"]
        """Words before a command that is to run on the node's side."""
        ip("link", "add", self._device, "type", "veth", "peer", "name", INSIDE, "netns", str(pid))
        self._set_up_inside()
        self._set_up()
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Meanwhile nothing reaches the node or its pods, nor comes from there."""
        ip("link", "set", self._device, "down")
        try:
            yield
        finally:
            self._set_up()

    def _set_up(self) -> None:
        """Routes go with a device that is down."""
        node = self._block.node(self._index)
        ip("link", "set", self._device, "up")
        ip("route", "replace", node, "dev", self._device, "src", self._block.api)
        ip("route", "replace", self._block.pods(self._index), "via", node, "src", self._block.api)

    def _set_up_inside(self) -> None:
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{self._block.node(self._index)}/32", "dev", INSIDE),
            ("link", "set", INSIDE, "up"),
            ("route", "add", self._block.api, "dev", INSIDE),
            ("route", "add", "default", "via", self._block.api),
        ):
            ip(*words, before=self.enter)
