"""``make bench-extender``: what the extender costs, against a real kube-apiserver and beside a real kube-scheduler.

Writes ``extender.json``, ``extender.md`` and ``extender.svg`` into ``--out``. All figures of a file come from one run.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks import control_plane, decisions, kube_scheduler, population, report
from benchmarks.connection import open_connection
from benchmarks.control_plane import ControlPlane
from benchmarks.extender_process import extender
from benchmarks.figures import machine, publish
from tessera.model import names

Plain = dict[str, Any]
GPUS = 8
PAGE = 500
LISTS = (population.PODS.replace("/namespaces/default", ""), population.GPU_NODES, population.NODES)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; the defaults are what ``docs/benchmarks.md`` shows."""

    sizes: Sequence[int] = (100, 1000, 5000)
    pods: int = 1000
    bound: int = 50_000
    runs: int = 100
    scheduler_pods: int = 1000
    scheduler_nodes: int = 1000
    scheduler_turns: int = 5


async def run(plan: Plan) -> Plain:
    """All measurements, smallest cluster first; nodes are added from one to the next."""
    async with _control_plane() as plane:
        found: Plain = {"machine": machine(), "api_server": plane.words, "gpus_per_node": GPUS, "decisions": []}
        nodes: list[str] = []
        for size in plan.sizes:
            _say(f"{size} nodes")
            more = population.node_names(len(nodes), size)
            await population.add_nodes(plane.api, more, GPUS)
            nodes += more
            await _decisions(plane, nodes, plan, found["decisions"])
            if size == plan.scheduler_nodes:
                found["races"] = await _races(plane, nodes, plan)
                found["kube_scheduler"] = await _kube_scheduler(plane, nodes, plan)
        found["large"] = await _large(plane, nodes, plan)
        return found


async def _decisions(plane: ControlPlane, nodes: Sequence[str], plan: Plan, found: list[Plain]) -> None:
    for at_once in (1, 8):
        pods = await population.create(plane.api, population.waiting_pods(f"d{at_once}", plan.pods, seed=at_once))
        async with extender(plane, f"d-{len(nodes)}-{at_once}") as running:
            await running.first_answer_s(_question(nodes))
            found.append(await decisions.measure(running, pods, nodes, at_once))
            found[-1]["rss_mib"] = round(running.rss_mib())
        await population.delete(plane.api, pods)
        _say(json.dumps(found[-1]))


async def _races(plane: ControlPlane, nodes: Sequence[str], plan: Plan) -> Plain:
    async with extender(plane, "races") as running:
        await running.first_answer_s(_question(nodes))
        found = await decisions.races(plane.api, running, nodes, min(plan.runs, len(nodes) // 3))
    _say(json.dumps(found))
    return found


async def _kube_scheduler(plane: ControlPlane, nodes: Sequence[str], plan: Plan) -> Plain | None:
    """Alone, with the extender as the chart runs it, and with one that answers every feasible node, in turn: on a
    machine that others use as well, one run of each says little. The rates are medians.
    """
    ways = {"alone": None, "with_extender": "chosen", "with_all_feasible": "feasible"}
    found: dict[str, list[Plain]] = {way: [] for way in ways}
    for turn in range(plan.scheduler_turns):
        for way, answers in ways.items():
            measured = await _kube_scheduler_once(plane, nodes, plan.scheduler_pods, answers, turn)
            if measured is None:
                return None
            found[way].append(measured)
            _say(f"kube-scheduler {way}: {json.dumps(measured)}")
    rates = {way: median(each["pods_per_s"] for each in runs) for way, runs in found.items()}
    return {
        "nodes": len(nodes),
        "pods": plan.scheduler_pods,
        "runs": found,
        "pods_per_s": rates,
        "percent": round(100 * rates["with_extender"] / rates["alone"], 1),
        "percent_all_feasible": round(100 * rates["with_all_feasible"] / rates["alone"], 1),
    }


async def _kube_scheduler_once(
    plane: ControlPlane, nodes: Sequence[str], count: int, answers: str | None, turn: int
) -> Plain | None:
    """One run; without the extender where filter answers nothing."""
    if answers is None:
        return await kube_scheduler.measure(plane, None, f"plain-{turn}", count, seed=3)
    async with extender(plane, f"kube-scheduler-{answers}-{turn}", {"filter-answers": answers}) as running:
        await running.first_answer_s(_question(nodes))
        return await kube_scheduler.measure(plane, running, names.SCHEDULER, count, seed=3)


async def _large(plane: ControlPlane, nodes: Sequence[str], plan: Plan) -> Plain:
    """Cold start, memory and processor time with many bound pods."""
    _say(f"{plan.bound} bound pods")
    await population.add_bound_pods(plane.api, nodes, GPUS, plan.bound)
    pods = await population.create(plane.api, population.waiting_pods("l", plan.pods, seed=7))
    lists_s = await _lists_s(plane)
    async with extender(plane, "large") as running:
        first_s = await running.first_answer_s(_question(nodes))
        start_cpu_s, start_rss = running.cpu_s(), running.rss_mib()
        found = await decisions.measure(running, pods, nodes, 1)
        found |= {"rss_mib": round(running.rss_mib()), "rss_peak_mib": round(running.rss_mib("VmHWM"))}
    found |= {
        "bound_pods": plan.bound,
        "cold_start_s": round(first_s, 2),
        "cold_start_lists_alone_s": round(lists_s, 2),
        "cold_start_ours_s": round(first_s - lists_s, 2),
        "cold_start_cpu_s": round(start_cpu_s, 2),
        "rss_after_start_mib": round(start_rss),
    }
    _say(json.dumps(found))
    return found


async def _lists_s(plane: ControlPlane) -> float:
    """Seconds until the API server has answered the lists that a start asks for, page by page, three at once, to a
    client that only reads bytes: the same pages, as fresh and as little compressed as the scheduler asks for them.
    Once before, so that caches are as warm as they will be."""

    async def one(path: str) -> None:
        connection = await open_connection(plane.api)
        token = ""
        while True:
            body = await connection.send("GET", f"{path}?limit={PAGE}" + (f"&continue={token}" if token else ""))
            token = _continue_token(body)
            if not token:
                break
        connection.close()

    await asyncio.gather(*map(one, LISTS))
    began = time.monotonic()
    await asyncio.gather(*map(one, LISTS))
    return time.monotonic() - began


def _continue_token(page: bytes) -> str:
    """Read off a list's first bytes, or off its last: a list of custom resources ends with its metadata."""
    ends = page.rfind(b'],"kind":')
    text = page[ends:] if 0 <= len(page) - ends < 2000 else page[:2000]
    found: Plain = msgspec.json.decode(text.partition(b'"metadata":')[2].partition(b"}")[0] + b"}")
    return str(found.get("continue", ""))


@asynccontextmanager
async def _control_plane() -> AsyncIterator[ControlPlane]:
    if why := control_plane.missing():
        _say(f"not against a real API server, but the simulated one: {why}")
        async with control_plane.embedded() as simulated:
            yield simulated
    else:
        async with control_plane.real() as plane:
            await population.prepare(plane.api)
            yield plane


def _question(nodes: Sequence[str]) -> bytes:
    (pod,) = population.waiting_pods("probe", 1, seed=0)
    pod["metadata"]["uid"] = "probe"
    return msgspec.json.encode({"Pod": pod, "NodeNames": list(nodes)})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench-extender", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that all of it works")
    arguments = parser.parse_args()
    quick = Plan((50, 200), pods=100, bound=1000, runs=5, scheduler_pods=100, scheduler_nodes=200, scheduler_turns=1)
    found = asyncio.run(run(quick if arguments.quick else Plan()))
    publish(arguments.out, "extender", found, report.markdown(found))
    if why := report.plot(found, arguments.out / "extender.svg"):
        _say(why)
    return 0


if __name__ == "__main__":
    sys.exit(main())
