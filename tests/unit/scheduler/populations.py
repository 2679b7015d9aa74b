"""Pods with owners, as literals, and clusters that hold them."""

from dataclasses import replace

from tessera.kube import wire
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine
from tessera.scheduler.residents import Population, Resident, Rules
from tests.unit.scheduler.clusters import bound, place

OWNER = "ReplicaSet web-1"


def owned(pod: Pod, *, fixed: str = "", undecided: str = "", rules: Rules | None = None) -> Resident:
    return Resident(pod, OWNER, "uid-owner", fixed or undecided, undecided, rules or Rules())


def people(*residents: Resident | Pod, nodes: tuple[wire.Node, ...] = ()) -> Population:
    found = [each if isinstance(each, Resident) else owned(each) for each in residents]
    return Population({each.pod.uid: each for each in found}, {node.metadata.name: node for node in nodes})


def put(engine: Engine, pod: Pod, node: str) -> Pod:
    """Binds ``pod`` to ``node`` and answers it as it is then."""
    assignment = place(engine, pod, [node])
    return replace(bound(pod, node, assignment), priority=pod.priority)
