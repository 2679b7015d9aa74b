"""All the runs that one command asks for: every policy on every trace with every seed, in a fixed order."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

from tessera.simulator.replay.arrivals import inflated, poisson
from tessera.simulator.replay.churn import churn
from tessera.simulator.replay.cluster import Cluster
from tessera.simulator.replay.inflate import inflate
from tessera.simulator.replay.openb import WHOLE, Shape, Trace, TraceNode, read_nodes, read_pods
from tessera.simulator.replay.progress import Progress, Silent
from tessera.simulator.replay.results import Run
from tessera.simulator.replay.tables import TraceError


class Protocol(StrEnum):
    INFLATE = "inflate"
    CHURN = "churn"


@dataclass(frozen=True, slots=True)
class Subset:
    """A random part of the nodes."""

    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. ``inflate`` concerns that protocol alone, ``load`` and ``arrivals`` churn alone."""

    nodes: Path
    pods: tuple[Path, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    protocol: Protocol = Protocol.INFLATE
    inflate: Fraction = Fraction(13, 10)
    load: Fraction = Fraction(94, 100)
    arrivals: int = 80_000
    subset: Subset | None = None
    jobs: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One run, with all it needs."""

    nodes: tuple[TraceNode, ...]
    trace: Trace
    policy: str
    seed: int


def run(plan: Plan, progress: Progress) -> list[Run]:
    """Runs everything; the same plan gives the same result, but for the times. Raises ``TraceError``."""
    jobs = list(jobs_of(plan))
    for note in dict.fromkeys(job.trace.note for job in jobs):
        if note:
            progress.note(note)
    if plan.jobs == 1 or len(jobs) == 1:
        return [run_one(plan, job, progress) for job in jobs]
    progress.begin("runs", len(jobs))
    found: list[Run] = []
    with ProcessPoolExecutor(min(plan.jobs, len(jobs)), mp_context=get_context("spawn")) as workers:
        for each in workers.map(run_one, [plan] * len(jobs), jobs):
            found.append(each)
            progress.told(len(found))
    return found


def jobs_of(plan: Plan) -> Iterator[Job]:
    """The runs: by trace, then policy, then seed. All files are read and checked before the first."""
    every = read_nodes(plan.nodes)
    nodes = _part(every, plan)
    traces = [_within(read_pods(path, every, plan.nodes), nodes, plan) for path in plan.pods]
    return (Job(nodes, trace, policy, seed) for trace in traces for policy in plan.policies for seed in plan.seeds)


def run_one(plan: Plan, job: Job, progress: Progress | None = None) -> Run:
    """Plays one run."""
    progress = progress or Silent()
    _warm_up(job.policy)
    cluster = Cluster(job.nodes, job.policy, job.seed)
    label = f"{job.trace.variant} {job.policy} {job.seed}"
    played = _churn if plan.protocol is Protocol.CHURN else _inflate
    found = played(plan, job, cluster, progress, label)
    return replace(found, us_per_decision=cluster.us_per_decision, left_out=job.trace.left_out if plan.subset else None)


def _inflate(plan: Plan, job: Job, cluster: Cluster, progress: Progress, label: str) -> Run:
    pods = inflated(job.trace, cluster.capacity_milli, plan.inflate, job.seed)
    progress.begin(label, len(pods))
    course = inflate(cluster, pods, plan.inflate, progress.told)
    return Run(
        job.policy,
        job.seed,
        job.trace.variant,
        course.allocated_percent(),
        failed_at_100=course.failed_at_100 if plan.inflate >= 1 else None,
        first_failure_percent=course.first_failure_percent,
    )


def _churn(plan: Plan, job: Job, cluster: Cluster, progress: Progress, label: str) -> Run:
    # Whom no node can hold would wait for ever.
    pods = [shape for shape in job.trace.shapes if any(shape.held_by(node) for node in job.nodes)]
    arrivals = poisson(pods, cluster.capacity_milli, plan.load, plan.arrivals, job.seed)
    progress.begin(label, plan.arrivals)
    means = churn(cluster, arrivals, plan.arrivals, progress.told)
    allocated = {"mean": means.allocated_percent}
    return Run(job.policy, job.seed, job.trace.variant, allocated, queue_percent=means.queue_percent)


def _part(nodes: tuple[TraceNode, ...], plan: Plan) -> tuple[TraceNode, ...]:
    if plan.subset is None:
        return nodes
    if plan.subset.count > len(nodes):
        raise TraceError(f"--subset: found {plan.subset.count} nodes; allowed: 1 to {len(nodes)}, as {plan.nodes} has")
    chosen = random.Random(plan.subset.seed).sample(range(len(nodes)), plan.subset.count)
    return tuple(nodes[index] for index in sorted(chosen))


def _within(trace: Trace, nodes: Sequence[TraceNode], plan: Plan) -> Trace:
    """The trace without the pods that no node of the part can hold."""
    if plan.subset is None:
        return trace
    fits = {shape: any(shape.held_by(node) for node in nodes) for shape in set(trace.shapes)}
    kept = tuple(shape for shape in trace.shapes if fits[shape])
    found = replace(trace, shapes=kept, left_out=len(trace.shapes) - len(kept))
    if not found.milli:
        raise TraceError(f"--subset: found {len(nodes)} nodes that hold no GPU pod of {trace.variant}; allowed: more")
    return found


@lru_cache
def _warm_up(policy: str) -> None:
    """What is compiled or read from a cache at the first decision must not count as a decision's time."""
    cluster = Cluster([TraceNode("warm-up", 64_000, 262_144, 8, "any")], policy, 0)
    kinds = [
        Shape(1000, 1024, 0, 0),
        Shape(1000, 1024, 1, 500),
        Shape(1000, 1024, 1, WHOLE),
        Shape(1000, 1024, 2, WHOLE),
    ]
    for index, shape in enumerate([*kinds, *(replace(kind, models=("any",)) for kind in kinds[1:])]):
        cluster.arrive(f"pod-{index}", shape)
