"""``make bench-parity TRACES=DIR``: whether kube-scheduler with the extender decides as ``tessera simulate`` does.

A random part of the openb trace's nodes (Alibaba, cluster-trace-gpu-v2023) as objects in a real kube-apiserver, and the
inflation protocol's pods, one at a time, in the order that the replay has with the same seed. Each seed is run with the
chart's configuration, with ``scheduler.steerOthers`` and without. Writes ``parity.json`` into ``--out``.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks import control_plane, options, population
from benchmarks.connection import Target
from benchmarks.control_plane import ControlPlane
from benchmarks.extender_process import extender
from benchmarks.figures import machine
from benchmarks.parity_arrivals import arrivals
from benchmarks.parity_objects import configuration, node_steps, pod_object
from tessera.model import names
from tessera.simulator.replay.arrivals import inflated
from tessera.simulator.replay.cluster import Cluster
from tessera.simulator.replay.inflate import Course
from tessera.simulator.replay.openb import Shape, TraceNode
from tessera.simulator.replay.plans import Job, Plan, Subset, jobs_of
from tessera.simulator.replay.tables import TraceError

NODES_FILE, PODS_FILE = "openb_node_list_gpu_node.csv", "openb_pod_list_default.csv"
FACTOR = Fraction(13, 10)
POLICY = "fragmentation"
MODES = ("steered", "plain")
MISSING = (
    f"TRACES: found none; allowed: a folder with {NODES_FILE} and {PODS_FILE}, as in data/csv of "
    "github.com/hkust-adsl/kubernetes-scheduler-simulator"
)
Plain = dict[str, Any]


@dataclass(slots=True)
class Played:
    """What came of the pods, in order: the node of each, ``None`` for one that was refused."""

    course: Course
    nodes: list[str | None]
    took_s: float = 0.0
    errors: int = 0

    def plain(self) -> Plain:
        found = self.course.allocated_percent()
        percent = {key: round(found[key] or 0.0, 2) for key in ("80", "95", "100")}
        return {"allocated_percent": percent, "refused": self.nodes.count(None)}


def job_of(traces: Path, count: int, seed: int) -> Job:
    """The run that ``tessera simulate --subset COUNT:SEED --seeds SEED`` makes."""
    plan = Plan(traces / NODES_FILE, (traces / PODS_FILE,), (POLICY,), (seed,), subset=Subset(count, seed))
    (job,) = jobs_of(plan)
    return job


def arriving(job: Job, capacity_milli: int) -> list[Shape]:
    """The pods until what has arrived is more than all GPUs, rounded to a percent as the protocol does."""
    pods, arrived, count = inflated(job.trace, capacity_milli, FACTOR, job.seed), 0, 0
    while count < len(pods) and 200 * arrived < 201 * capacity_milli:
        arrived += pods[count].milli
        count += 1
    return pods[:count]


def simulated(job: Job, pods: Sequence[Shape], cluster: Cluster) -> Played:
    """As the replay plays them."""
    found = Played(Course(cluster.capacity_milli, FACTOR), [])
    for index, shape in enumerate(pods):
        placed = cluster.arrive(f"pod-{index}", shape)
        if placed is None:
            cluster.drop(f"pod-{index}")
        found.nodes.append(cluster.engine.ledger.names[placed.row] if placed else None)
        found.course.record(shape, cluster.allocated_milli, placed=placed is not None)
    return found


async def real(job: Job, pods: Sequence[Shape], capacity_milli: int, values: Sequence[str]) -> Played:
    """Through kube-apiserver, kube-scheduler and ``tessera scheduler``, all of their own for this run."""
    async with control_plane.real() as plane:
        await population.prepare(plane.api)
        await add_nodes(plane.api, job.nodes)
        options = {"placement": POLICY, "order-seed": job.seed, "filter-answers": "chosen"}
        async with extender(plane, f"parity-{job.seed}", options) as running:
            await running.first_answer_s(_question(job.nodes))
            process = plane.kube_scheduler(configuration(running.target, values), "kube-scheduler")
            assert process is not None
            process.start().wait_ready()
            try:
                return await _bring(plane, pods, capacity_milli)
            finally:
                process.stop()


async def add_nodes(api: Target, nodes: Sequence[TraceNode]) -> None:
    await population.each(api, nodes, lambda node: iter(node_steps(node)))


async def _bring(plane: ControlPlane, pods: Sequence[Shape], capacity_milli: int) -> Played:
    found, allocated, began = Played(Course(capacity_milli, FACTOR), []), 0, time.monotonic()
    async with arrivals(plane.api) as coming:
        for index, shape in enumerate(pods):
            node = await coming.bring(pod_object(shape, f"pod-{index}"))
            allocated += shape.milli if node else 0
            found.nodes.append(node)
            found.course.record(shape, allocated, placed=node is not None)
        found.errors = coming.errors
    found.took_s = time.monotonic() - began
    return found


def compared(expected: Played, found: Played) -> Plain:
    """What the real one loses, in points, and how many pods went to the very same node."""
    same = [mine == theirs for mine, theirs in zip(expected.nodes, found.nodes, strict=True)]
    wanted, got = expected.plain(), found.plain()
    lost = {key: round(wanted["allocated_percent"][key] - got["allocated_percent"][key], 2) for key in ("95", "100")}
    return got | {
        "lost_points": lost,
        "same_node_percent": round(100 * sum(same) / len(same), 2),
        "first_difference": same.index(False) if False in same else None,
        "kube_scheduler_errors": found.errors,
        "pods_per_s": round(len(same) / found.took_s, 1),
    }


async def run(traces: Path, count: int, seeds: Sequence[int], modes: Sequence[str]) -> Plain:
    """All seeds, one after another."""
    out: Plain = {"machine": machine(), "policy": POLICY, "nodes": count, "traces": PODS_FILE, "runs": []}
    for seed in seeds:
        job = job_of(traces, count, seed)
        cluster = Cluster(job.nodes, POLICY, seed)
        pods = arriving(job, cluster.capacity_milli)
        expected = simulated(job, pods, cluster)
        entry: Plain = {"seed": seed, "pods": len(pods), "gpus": cluster.capacity_milli // 1000}
        entry["simulated"] = expected.plain()
        for mode in modes:
            values = [f"scheduler.steerOthers={str(mode == 'steered').lower()}"]
            found = await real(job, pods, cluster.capacity_milli, values)
            entry[mode] = compared(expected, found)
            _trace(seed, mode, pods, expected, found)
        out["runs"].append(entry)
        out |= _means(out["runs"], modes)
        _say(json.dumps(entry))
    return out


def _means(runs: Sequence[Plain], modes: Sequence[str]) -> Plain:
    lost = {mode: [each[mode]["lost_points"]["100"] for each in runs] for mode in modes}
    return {f"mean_lost_points_100_{mode}": round(sum(each) / len(each), 2) for mode, each in lost.items()}


def _trace(seed: int, mode: str, pods: Sequence[Shape], expected: Played, found: Played) -> None:
    """The first pods that went elsewhere, for whoever wants to know why."""
    lines = list(zip(pods, expected.nodes, found.nodes, strict=True))
    differing = [(index, *line) for index, line in enumerate(lines) if line[1] != line[2]]
    for index, shape, mine, theirs in differing[:5]:
        _say(f"seed {seed}, {mode}, pod {index}: simulated {mine}, real {theirs}: {shape}")


def _question(nodes: Sequence[TraceNode]) -> bytes:
    """About a pod that is refused as malformed: the policy must not learn it as one that arrived."""
    pod = pod_object(Shape(1000, 1024, 1, 10), "probe")
    pod["metadata"] |= {"uid": "probe", "namespace": "default"}
    pod["spec"]["containers"][0]["resources"]["limits"][names.GPU_CORE] = "none"
    return json.dumps({"Pod": pod, "NodeNames": [node.name for node in nodes]}).encode()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench-parity", description=__doc__)
    parser.add_argument("--traces", type=Path, help="folder of the openb trace's files")
    parser.add_argument("--nodes", type=options.positive, default=200, help="how many nodes of it")
    parser.add_argument("--seeds", type=options.seeds, default=(42, 43, 44), help="such as 42,43 or 42-44")
    parser.add_argument("--modes", type=options.names(MODES), default=MODES, help="steered, plain or both")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    arguments = parser.parse_args()
    if why := control_plane.missing() or (None if arguments.traces else MISSING):
        _say(why)
        return 2
    try:
        found = asyncio.run(run(arguments.traces, arguments.nodes, arguments.seeds, arguments.modes))
    except TraceError as error:
        _say(str(error))
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "parity.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key.startswith("mean")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
