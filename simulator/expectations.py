"""What must come of each manifest, derived from the manifest and the cluster's GPUs, and whether it has.

A slice that fits no GPU waits with a reason; a pod that takes more than it asked for is ended with a reason; a Job
completes; all others run, each container with exactly the slice that it asked for. For every slice the API server's
objects, the container's own view and the node agent's record must say the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from tessera.kube import wire
from tessera.kube.convert import pod_of
from tessera.model.charges import fits_demand
from tessera.model.demands import PodDemand, demand_of
from tessera.model.gpus import GpuNode
from tessera.model.quantities import QuantityError, format_bytes, parse_whole
from tessera.simulator.manifests import Manifest
from tessera.simulator.observation import Figures, Holder, Observation
from tessera.simulator.report import reason_of
from tessera.simulator.workload import USE

Plain = dict[str, Any]


class Outcome(StrEnum):
    """How a manifest's pods must end up."""

    RUN = "run"
    WAIT = "wait"
    COMPLETE = "complete"
    OVER_LIMIT = "end for taking more than asked"


@dataclass(frozen=True, slots=True)
class Expectation:
    """``count`` pods that come of one manifest."""

    manifest: Manifest
    outcome: Outcome
    count: int


def expected(manifest: Manifest, stored: wire.Pod, nodes: Sequence[GpuNode]) -> Expectation:
    """``stored``: the pod, or a pod of the template, as the API server keeps it, with qualified names."""
    spec = manifest.object["spec"]
    demand = demand_of(pod_of(stored))
    if isinstance(demand, PodDemand) and not any(_could_hold(node, demand) for node in nodes):
        return Expectation(manifest, Outcome.WAIT, _replicas(manifest))
    if manifest.resource.kind == "Job":
        return Expectation(manifest, Outcome.COMPLETE, int(spec.get("completions", 1)))
    if isinstance(demand, PodDemand) and _takes_more(stored, demand):
        return Expectation(manifest, Outcome.OVER_LIMIT, _replicas(manifest))
    return Expectation(manifest, Outcome.RUN, _replicas(manifest))


def unmet(expectations: Sequence[Expectation], seen: Observation) -> list[str]:
    """A sentence for each expectation that does not hold now."""
    found = [sentence for one in expectations for sentence in _of_manifest(one, seen)]
    return found + list(_agreement(seen))


def pods_of(manifest: Manifest, seen: Observation) -> list[wire.Pod]:
    """The pods that came of a manifest: itself, or those whose names begin with its own and that have an owner."""
    if manifest.resource.kind == "Pod":
        return [p for p in seen.pods if (p.metadata.namespace, p.metadata.name) == (manifest.namespace, manifest.name)]
    return [
        pod
        for pod in seen.pods
        if pod.metadata.namespace == manifest.namespace
        and any(_is_of(manifest, owner) for owner in pod.metadata.owner_references)
    ]


def template_pod(stored: Plain, manifest: Manifest) -> wire.Pod:
    """The pod that an object is, or whose template it holds."""
    obj = stored if manifest.resource.kind == "Pod" else stored["spec"]["template"]
    meta = {"name": manifest.name, "annotations": (obj.get("metadata") or {}).get("annotations") or {}}
    return msgspec.convert({"metadata": meta, "spec": obj["spec"]}, wire.Pod)


def _of_manifest(one: Expectation, seen: Observation) -> Iterator[str]:
    pods = pods_of(one.manifest, seen)
    name = f"{one.manifest.source}: {one.manifest.resource.kind} {one.manifest.name}"
    right = [pod for pod in pods if _came_out(one.outcome, pod, seen)]
    if len(right) != one.count or len(pods) != one.count:
        phases = ", ".join(sorted(f"{p.metadata.name} {p.status.phase} {reason_of(seen, p)}".strip() for p in pods))
        yield f"{name}: expected {one.count} to {one.outcome}; found {phases or 'no pods'}"
    for pod in pods:
        yield from _held(pod, seen)


def _came_out(outcome: Outcome, pod: wire.Pod, seen: Observation) -> bool:
    phase, reason = pod.status.phase, reason_of(seen, pod)
    match outcome:
        case Outcome.RUN:
            return phase == "Running"
        case Outcome.WAIT:
            return phase == "Pending" and not pod.spec.node_name and "available" in (reason + _condition(pod))
        case Outcome.COMPLETE:
            return phase == "Succeeded"
        case Outcome.OVER_LIMIT:
            return phase == "Failed" and "limit" in reason and "ended" in reason


def _held(pod: wire.Pod, seen: Observation) -> Iterator[str]:
    """Whether a running pod holds exactly what it asked for."""
    demand = demand_of(pod_of(pod))
    if pod.status.phase != "Running" or not isinstance(demand, PodDemand):
        return
    assignment = seen.assignment(pod)
    if assignment is None:
        yield f"pod {pod.metadata.name} runs without an assignment"
    elif difference := fits_demand(demand, assignment):
        yield f"pod {pod.metadata.name}: {difference}"


def _agreement(seen: Observation) -> Iterator[str]:
    names = {pod.metadata.uid: pod.metadata.name for pod in seen.pods}
    ledger = seen.figures()
    for side, found in (("the container", seen.views), ("the node agent's record", seen.records)):
        for holder in sorted(ledger.keys() | found.keys()):
            if ledger.get(holder) != found.get(holder):
                said, true = _words(found.get(holder)), _words(ledger.get(holder))
                yield f"pod {_named(holder, names)}: {side} says {said}; the ledger says {true}"


def _named(holder: Holder, names: dict[str, str]) -> str:
    return f"{names.get(holder[0], holder[0])}, container {holder[1]}"


def _words(figures: Figures | None) -> str:
    if not figures:
        return "nothing"
    return ", ".join(f"{format_bytes(mem)} and {core}% of {uuid}" for uuid, mem, core in sorted(figures))


def _could_hold(node: GpuNode, demand: PodDemand) -> bool:
    """Whether the empty node has enough large enough GPUs for each container by itself."""
    return all(
        sum(gpu.mem_bytes >= container.mem_on(gpu) for gpu in node.gpus) >= container.gpus
        for container in demand.containers
    )


def _takes_more(pod: wire.Pod, demand: PodDemand) -> bool:
    try:
        wished = parse_whole(pod.metadata.annotations.get(USE, "0"))
    except QuantityError:
        return False
    return wished > sum(container.mem_bytes * container.gpus for container in demand.containers)


def _replicas(manifest: Manifest) -> int:
    return int(manifest.object["spec"].get("replicas", 1)) if manifest.resource.kind != "Pod" else 1


def _is_of(manifest: Manifest, owner: wire.OwnerReference) -> bool:
    """A Deployment's pods are its ReplicaSet's, which bears its name and a hash."""
    if manifest.resource.kind == "Deployment":
        return owner.kind == "ReplicaSet" and owner.name.rpartition("-")[0] == manifest.name
    return owner.kind == manifest.resource.kind and owner.name == manifest.name


def _condition(pod: wire.Pod) -> str:
    return " ".join(c.message or "" for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False")
