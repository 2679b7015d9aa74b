"""Pods as a move needs to know them: who would make them again, and which nodes kube-scheduler's own rules leave them.

Pure, but for the shapes on the wire. What only kube-scheduler can judge (rules between pods, volumes) makes a pod one
that is not moved, with the reason; nothing is guessed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec import field as wire_field

from tessera.kube import wire
from tessera.kube.convert import pod_of
from tessera.kube.resources import PODS, Resource
from tessera.model import names
from tessera.model.ledger import Bools, Ledger
from tessera.model.pods import Pod

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
_MIRROR = "kubernetes.io/config.mirror"
_SERVES = "holds a slice for a pod on another node, which moves by itself once its node is cordoned"


class Toleration(Struct, frozen=True, kw_only=True, rename="camel"):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class ResidentSpec(wire.PodSpec, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What kube-scheduler's rules read beside the requests."""

    node_selector: dict[str, str] = wire_field(default_factory=dict)
    affinity: dict[str, Any] = wire_field(default_factory=dict)
    tolerations: list[Toleration] = wire_field(default_factory=list)
    topology_spread_constraints: list[dict[str, Any]] = wire_field(default_factory=list)


class ResidentPod(wire.Pod, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    spec: ResidentSpec = ResidentSpec()


RESIDENTS: Resource[ResidentPod] = Resource(PODS.api_version, PODS.kind, PODS.plural, True, ResidentPod)


@dataclass(frozen=True, slots=True)
class Rules:
    """Node selector, required node affinity (``nodeSelectorTerms``) and tolerations."""

    selector: tuple[tuple[str, str], ...] = ()
    terms: tuple[Mapping[str, Any], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class Resident:
    """A pod with its rules. ``fixed`` says why it is not moved, ``undecided`` what only kube-scheduler can judge.

    ``owner`` names the controller, as ``ReplicaSet web-5d``, and ``owner_uid`` is its UID; both empty without one.
    """

    pod: Pod
    owner: str = ""
    owner_uid: str = ""
    fixed: str = ""
    undecided: str = ""
    rules: Rules = Rules()


@dataclass
class Population:
    """Residents by UID, and the nodes as kube-scheduler's rules see them."""

    residents: Mapping[str, Resident] = field(default_factory=dict)
    nodes: Mapping[str, wire.Node] = field(default_factory=dict)
    _known: dict[Rules, frozenset[str]] = field(default_factory=dict)

    def open_to(self, uid: str, ledger: Ledger) -> Bools:
        """Per ledger row: whether kube-scheduler's own rules leave that node to the pod. A node not listed is open."""
        out = np.zeros(len(ledger.present), np.bool_)
        out[list(ledger.rows().values())] = True
        resident = self.residents.get(uid)
        if resident is not None:
            for name in self._barred(resident.rules):
                row = ledger.row(name)
                if row is not None:
                    out[row] = False
        return out

    def _barred(self, rules: Rules) -> frozenset[str]:
        key = Rules(rules.selector, (), rules.tolerations)
        if rules.terms:
            return frozenset(name for name, node in self.nodes.items() if not permits(rules, node))
        if key not in self._known:
            self._known[key] = frozenset(name for name, node in self.nodes.items() if not permits(key, node))
        return self._known[key]


def population(pods: Iterable[ResidentPod], nodes: Iterable[wire.Node]) -> Population:
    """Reads what the API server lists."""
    residents = (resident_of(pod) for pod in pods)
    return Population({each.pod.uid: each for each in residents}, {node.metadata.name: node for node in nodes})


def resident_of(pod: ResidentPod) -> Resident:
    controller = next((o for o in pod.metadata.owner_references if o.controller), None)
    spec = pod.spec
    affinity = (spec.affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    rules = Rules(
        tuple(sorted(spec.node_selector.items())),
        tuple(affinity.get("nodeSelectorTerms") or ()),
        tuple(spec.tolerations),
    )
    undecided = _undecided(spec)
    return Resident(
        pod=pod_of(pod),
        owner=f"{controller.kind} {controller.name}" if controller else "",
        owner_uid=controller.uid if controller else "",
        fixed=_serves(pod) or _fixed(pod, controller.kind if controller else "") or undecided,
        undecided=undecided,
        rules=rules,
    )


def permits(rules: Rules, node: wire.Node) -> bool:
    """Whether kube-scheduler's plugins NodeAffinity, NodeUnschedulable and TaintToleration let the pod on ``node``."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in rules.selector):
        return False
    if rules.terms and not any(_term(term, node) for term in rules.terms):
        return False
    taints = [t for t in node.spec.taints if t.effect in ("NoSchedule", "NoExecute")]
    if node.spec.unschedulable:
        taints.append(wire.Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule"))
    return all(any(_tolerates(t, taint) for t in rules.tolerations) for taint in taints)


def _serves(pod: ResidentPod) -> str:
    return _SERVES if names.LEASE in pod.metadata.annotations else ""


def _fixed(pod: ResidentPod, kind: str) -> str:
    if pod.metadata.deletion_timestamp:
        return "is being deleted already"
    if kind == "Node" or _MIRROR in pod.metadata.annotations:
        return "is a static pod of its kubelet"
    if not kind:
        return "has no controller: nobody would make it again"
    if kind == "DaemonSet":
        return "belongs to a DaemonSet, which makes it again on the same node"
    for marks, what in ((pod.metadata.annotations, "annotation"), (pod.metadata.labels, "label")):
        if marks.get(SAFE_TO_EVICT) == "false":
            return f'has the {what} {SAFE_TO_EVICT}: "false"'
    return ""


def _undecided(spec: ResidentSpec) -> str:
    if any((spec.affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
           for kind in ("podAffinity", "podAntiAffinity")):  # fmt: skip
        return "has required rules towards other pods, which only kube-scheduler can judge"
    if any(c.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule" for c in spec.topology_spread_constraints):
        return "has required spreading rules, which only kube-scheduler can judge"
    if any(volume.persistent_volume_claim is not None or volume.ephemeral is not None for volume in spec.volumes):
        return "holds a persistent volume, and only kube-scheduler can judge which nodes reach it"
    return ""


def _tolerates(toleration: Toleration, taint: wire.Taint) -> bool:
    same_key = not toleration.key or toleration.key == taint.key
    same_value = toleration.operator == "Exists" or (toleration.key != "" and toleration.value == taint.value)
    return same_key and same_value and toleration.effect in ("", taint.effect)


def _term(term: Mapping[str, Any], node: wire.Node) -> bool:
    """One nodeSelectorTerm: all its expressions; a term without any matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    found = [_matches(e, node.metadata.labels) for e in expressions]
    found += [_matches(e, {"metadata.name": node.metadata.name}) for e in fields]
    return bool(found) and all(found)


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = str(expression.get("key")), expression.get("operator")
    values, value = expression.get("values") or (), labels.get(key)
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) is (operator == "Exists")
    return _compared(value, str(operator), [str(each) for each in values])


def _compared(value: str | None, operator: str, values: list[str]) -> bool:
    """``Gt`` and ``Lt``, on whole numbers; anything malformed matches nothing."""
    try:
        found, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return found > bound if operator == "Gt" else operator == "Lt" and found < bound
