"""Decisions by hand: filter, prioritize and bind of each pod, as kube-scheduler asks, one after another or several at
once; and many pods at once for few places."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from benchmarks import population
from benchmarks.connection import Connection, Target, open_connection
from benchmarks.extender_process import Extender
from benchmarks.figures import percentile_ms
from tessera.model import names
from tessera.model.assignment import decode

Plain = dict[str, Any]
VERBS = ("filter", "prioritize", "bind")
TRIES = 20
_TEN = re.compile(rb'"Host":"([^"]+)","Score":10\}')


class _Filtered(msgspec.Struct):
    NodeNames: msgspec.Raw
    Error: str = ""


class _Bound(msgspec.Struct):
    Error: str = ""


@dataclass
class Seen:
    """What came of a run: seconds by verb, pods bound, Bindings refused, and answers without exactly one 10."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {verb: [] for verb in VERBS})
    bound: int = 0
    refused: int = 0
    not_one_ten: int = 0

    def note(self, verb: str, began: float) -> None:
        self.seconds[verb].append(time.perf_counter() - began)


async def decide(connection: Connection, pod: Plain, names_json: bytes, seen: Seen) -> bool | None:
    """One pod through the three verbs: whether it was bound; ``None`` if no node can hold it."""
    asked = b'{"Pod":' + msgspec.json.encode(pod) + b',"NodeNames":'
    began = time.perf_counter()
    filtered = msgspec.json.decode(await connection.send("POST", "/filter", asked + names_json + b"}"), type=_Filtered)
    seen.note("filter", began)
    left = bytes(filtered.NodeNames)
    if left == b"[]":
        return None
    node = left[2:-2].decode()
    if "," in node:
        began = time.perf_counter()
        scores = await connection.send("POST", "/prioritize", asked + left + b"}")
        seen.note("prioritize", began)
        tens = _TEN.findall(scores)
        seen.not_one_ten += len(tens) != 1
        node = tens[0].decode() if tens else ""
    meta = pod["metadata"]
    wish = {"PodName": meta["name"], "PodNamespace": meta["namespace"], "PodUID": meta["uid"], "Node": node}
    began = time.perf_counter()
    error = msgspec.json.decode(await connection.send("POST", "/bind", msgspec.json.encode(wish)), type=_Bound).Error
    seen.note("bind", began)
    seen.bound, seen.refused = seen.bound + (not error), seen.refused + bool(error)
    return not error


async def measure(extender: Extender, pods: Sequence[Plain], nodes: Sequence[str], at_once: int) -> Plain:
    """All ``pods``, ``at_once`` of them under way at any time."""
    seen, names_json, waiting = Seen(), msgspec.json.encode(list(nodes)), iter(pods)
    connections = [await open_connection(extender.target) for _ in range(at_once)]

    async def work(connection: Connection) -> None:
        for pod in waiting:
            for _ in range(TRIES):
                if await decide(connection, pod, names_json, seen):
                    break

    cpu, began = extender.cpu_s(), time.perf_counter()
    await asyncio.gather(*map(work, connections))
    took = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return {
        "nodes": len(nodes),
        "at_once": at_once,
        "pods": len(pods),
        "bound": seen.bound,
        "refused_bindings": seen.refused,
        "not_exactly_one_ten": seen.not_one_ten,
        "decisions_per_s": round(seen.bound / took, 1),
        "cpu_ms_per_decision": round((extender.cpu_s() - cpu) / len(pods) * 1000, 2),
        "ms": {verb: {f"p{p}": percentile_ms(seen.seconds[verb], p) for p in (50, 99)} for verb in VERBS},
    }


async def races(api: Target, extender: Extender, nodes: Sequence[str], runs: int) -> Plain:
    """``runs`` times 32 pods at once for the 12 places of three nodes of eight GPUs that nobody else uses."""
    placed: list[int] = []
    over, seen = 0, Seen()
    connections = [await open_connection(extender.target) for _ in range(32)]
    for run in range(runs):
        pods = await population.create(api, [_pair(f"race-{run}-{index}") for index in range(32)])
        offered = msgspec.json.encode(list(nodes[3 * run : 3 * run + 3]))

        async def work(connection: Connection, pod: Plain, offered: bytes = offered) -> None:
            for _ in range(TRIES):
                if await decide(connection, pod, offered, seen) is not False:
                    return

        await asyncio.gather(*map(work, connections, pods))
        bound = [pod for pod in await population.stored_pods(api, f"race-{run}-") if pod["spec"].get("nodeName")]
        placed.append(len(bound))
        over += _shared_gpus(bound)
        await population.delete(api, pods)
    for connection in connections:
        connection.close()
    return {
        "runs": runs,
        "asked": 32,
        "places": 12,
        "placed_min": min(placed),
        "placed_max": max(placed),
        "over_committed": over,
        "bindings_refused_and_tried_again": seen.refused,
    }


def _pair(name: str) -> Plain:
    (pod,) = population.waiting_pods(name, 1, seed=0)
    limits = {names.GPU: "2", names.SLICE: "1"}
    pod["metadata"]["name"] = name
    pod["spec"]["containers"][0]["resources"] = {"limits": limits, "requests": limits}
    return pod


def _shared_gpus(bound: Iterable[Plain]) -> int:
    """How many whole GPUs the API server says were given more than once."""
    given = Counter(
        share.uuid for pod in bound for share in decode(pod["metadata"]["annotations"][names.ASSIGNMENT]).shares
    )
    return sum(count - 1 for count in given.values())
