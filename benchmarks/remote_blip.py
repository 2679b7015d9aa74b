"""How long a training on the remote device waits for its next answer once a broken connection may be made again.

``python -m benchmarks.remote_blip``: one line of JSON. By turns no cut, and for each of ``--down`` a cut that lasts
about so many seconds (a fifth more or less), with a step's operators on their way and before its loss is read. From the
end of the cut to the loss: medians and the slowest, in ms. ``same``: the last loss is that of the same training here.

A cut ends the connection, and new ones until it is over. With ``--silent`` packets are lost in its place, by iptables:
as root, ``unshare --net sh -c 'ip link set lo up && python -m benchmarks.remote_blip --silent'``.
"""

import argparse
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from statistics import median
from typing import Any

from benchmarks import figures, options
from benchmarks.remote_delay import Wire
from benchmarks.remote_server import Step, serving, training, use
from tessera.remote.protocol.streams import close, shut

_BETWEEN = 20
"""Steps from one cut to the next."""
NONE = "none"


class Link:
    """A relay to ``target`` whose connections end when it is cut, as new ones do until it is mended."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target, self._wire = (host, int(port)), Wire()
        self._lock, self._whole, self._ends = threading.Lock(), True, list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.back_at = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            self._whole = False
            for end in self._ends:
                shut(end)
            self._ends.clear()

    def mend(self) -> None:
        with self._lock:
            self._whole, self.back_at = True, time.monotonic()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with self._lock:
                if not self._whole:
                    close(client)
                    continue
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    close(client)
                    continue
                self._ends += client, server
                self._wire.join(client, server)


class Silence:
    """The way to ``target`` itself, on which every packet is lost while it is cut."""

    def __init__(self, target: str) -> None:
        self.address, self.back_at = target, 0.0
        self._port, self._dropping = target.rpartition(":")[2], False

    def cut(self) -> None:
        self._rules("--insert")
        self._dropping = True

    def mend(self) -> None:
        if self._dropping:
            self._rules("--delete")
        self._dropping, self.back_at = False, time.monotonic()

    def _rules(self, what: str) -> None:
        for end in ("--dport", "--sport"):
            subprocess.run(["iptables", what, "INPUT", "-p", "tcp", end, self._port, "-j", "DROP"], check=True)


def _waited_s(link: Link | Silence, step: Step, down_s: float | None) -> float:
    """Of one step; ``None``: nothing is cut."""
    loss = step()
    if down_s is None:
        link.mend()
    else:
        link.cut()
        threading.Timer(down_s, link.mend).start() if down_s else link.mend()
    loss.item()
    return time.monotonic() - link.back_at


def measure(link: Link | Silence, downs_s: list[float], turns: int) -> dict[str, Any]:
    """By turns."""
    step, draw, steps = training("cuda"), random.Random(1), 0
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(turns):
        for down_s in (None, *downs_s):
            for _ in range(_BETWEEN):
                step().item()
            lasts_s = None if down_s is None else down_s * draw.uniform(0.8, 1.2)
            found[NONE if down_s is None else f"{down_s:g} s"].append(_waited_s(link, step, lasts_s))
            steps += _BETWEEN + 1
    last, here = step().item(), training("cpu")
    for _ in range(steps):
        here()
    waits = {name: {"median_ms": _ms(median(times)), "worst_ms": _ms(max(times))} for name, times in found.items()}
    return {"turns": turns, **waits, "same": here().item() == last}


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.remote_blip", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=options.positive, default=10)
    parser.add_argument("--down", type=float, nargs="+", default=[0, 1, 5], help="seconds")
    parser.add_argument("--silent", action="store_true")
    asked = parser.parse_args(arguments)
    machine = figures.machine()
    with serving(asked.device) as served:
        link = Silence(served.address) if asked.silent else Link(served.address)
        use(link.address)
        print(
            json.dumps(
                {"device": asked.device, "silent": asked.silent, **measure(link, asked.down, asked.turns), **machine}
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
