"""Who may be moved, and which nodes kube-scheduler's rules leave a pod; over objects as the API server sends them."""

from typing import Any

import msgspec
import pytest

from tessera.kube import wire
from tessera.scheduler.residents import RESIDENTS, Resident, permits, population, resident_of
from tests.unit.scheduler.clusters import engine, node

Plain = dict[str, Any]


def resident(meta: Plain | None = None, kind: str = "ReplicaSet", **spec: Any) -> Resident:
    owners = [{"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": True}] if kind else []
    body = {"metadata": {"name": "p", "namespace": "d", "uid": "x", "ownerReferences": owners, **(meta or {})},
            "spec": {"nodeName": "a", "containers": [{"name": "c"}], **spec}}  # fmt: skip
    return resident_of(RESIDENTS.decoder.decode(msgspec.json.encode(body)))


def host(labels: dict[str, str] | None = None, *taints: wire.Taint, closed: bool = False) -> wire.Node:
    spec = wire.NodeSpec(taints=list(taints), unschedulable=closed)
    return wire.Node(metadata=wire.ObjectMeta(name="h", labels=labels or {}), spec=spec)


def affinity(*expressions: Plain) -> Plain:
    terms = [{"matchExpressions": list(expressions)}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"nodeAffinity": required}


def tainted(effect: str, value: str = "") -> wire.Node:
    return host(None, wire.Taint(key="gpu", value=value, effect=effect))


def tolerating(**toleration: str) -> Resident:
    return resident(tolerations=[toleration])


def drawn(key: str, operator: str, *values: str) -> Resident:
    return resident(affinity=affinity({"key": key, "operator": operator, "values": list(values)}))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (resident(), ""),
        (resident(kind=""), "has no controller: nobody would make it again"),
        (resident(kind="DaemonSet"), "belongs to a DaemonSet"),
        (resident(kind="Node"), "static pod"),
        (resident({"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}), "safe-to-evict"),
        (resident({"labels": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}), "safe-to-evict"),
        (resident({"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}}), ""),
        (resident({"deletionTimestamp": "2026-01-01T00:00:00Z"}), "is being deleted already"),
        (resident(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}]), "persistent volume"),
        (resident(volumes=[{"name": "v", "emptyDir": {}}]), ""),
        (resident(topologySpreadConstraints=[{"whenUnsatisfiable": "DoNotSchedule"}]), "spreading rules"),
        (resident(topologySpreadConstraints=[{"whenUnsatisfiable": "ScheduleAnyway"}]), ""),
        (resident(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}), "towards"),
        (resident(affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{}]}}), ""),
    ],
)
def test_who_is_not_moved_and_why(found: Resident, why: str) -> None:
    assert why in found.fixed if why else found.fixed == ""


def test_the_owner_is_the_controller() -> None:
    assert (resident().owner, resident().owner_uid) == ("ReplicaSet o", "u")


@pytest.mark.parametrize(
    ("found", "at", "open_"),
    [
        (resident(), host(), True),
        (resident(), host(closed=True), False),
        (resident(nodeSelector={"disk": "ssd"}), host({"disk": "ssd"}), True),
        (resident(nodeSelector={"disk": "ssd"}), host({"disk": "hdd"}), False),
        (resident(), tainted("NoSchedule"), False),
        (resident(), tainted("PreferNoSchedule"), True),
        (tolerating(key="gpu", operator="Exists"), tainted("NoExecute"), True),
        (tolerating(operator="Exists"), host(closed=True), True),
        (tolerating(key="gpu", value="a"), tainted("NoSchedule", "b"), False),
        (tolerating(key="gpu", value="a"), tainted("NoSchedule", "a"), True),
        (tolerating(key="gpu", value="a", effect="NoExecute"), tainted("NoSchedule", "a"), False),
        (drawn("zone", "In", "a", "b"), host({"zone": "b"}), True),
        (drawn("zone", "NotIn", "a"), host({"zone": "a"}), False),
        (drawn("zone", "Exists"), host(), False),
        (drawn("zone", "DoesNotExist"), host(), True),
        (drawn("age", "Gt", "3"), host({"age": "4"}), True),
        (drawn("age", "Lt", "3"), host({"age": "x"}), False),
    ],
)
def test_the_nodes_that_rules_leave(found: Resident, at: wire.Node, open_: bool) -> None:
    assert permits(found.rules, at) is open_


def test_rules_are_told_by_row_of_the_ledger() -> None:
    cluster = engine(node("a", 8), node("b", 8), node("not-listed", 8))
    hosts = [wire.Node(metadata=wire.ObjectMeta(name=name, labels={"zone": name})) for name in ("a", "b")]
    for selector in ({"nodeSelector": {"zone": "b"}},
                     {"affinity": affinity({"key": "zone", "operator": "In", "values": ["b"]})}):  # fmt: skip
        body = {"metadata": {"uid": "x"}, "spec": {"containers": [], **selector}}
        crowd = population([RESIDENTS.decoder.decode(msgspec.json.encode(body))], hosts)
        out = crowd.open_to("x", cluster.ledger)
        assert [cluster.ledger.names[row] for row in out.nonzero()[0]] == ["b", "not-listed"]
