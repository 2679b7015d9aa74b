"""CPU and memory of the hosts: every pod counts, with slices and without, promised and bound."""

from dataclasses import replace

import msgspec

from tessera.kube import wire
from tessera.kube.convert import pod_of
from tessera.kube.reflector import Deleted, Replaced, Upserted
from tessera.model.hosts import UNKNOWN_HOST, Host, HostNeed
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine
from tessera.scheduler.watching import brief_pod_of, host_sink, pod_sink
from tests.unit.scheduler.clusters import Clock, bound, engine, node, pod

NEED = HostNeed(1500, 2 << 30)
HOST = Host("a", 8000, 32 << 30, "zone-1", "rack-1")
FREE, LEFT = (8000, 32 << 30), (6500, 30 << 30)


def cluster(clock: Clock | None = None) -> Engine:
    found = engine(node("a", 24), clock=clock)
    found.replace_hosts([HOST])
    return found


def free(engine: Engine, name: str = "a") -> tuple[int, int]:
    row = engine.ledger.rows()[name]
    return int(engine.ledger.free_cpu[row]), int(engine.ledger.free_memory[row])


def plain(uid: str, node: str = "a", phase: str = "Running") -> Pod:
    return Pod("default", uid, uid, node=node, phase=phase, host=NEED)


def test_a_pod_without_slices_takes_of_its_host_until_it_ends() -> None:
    made = cluster()
    made.observe_pod(plain("p", node=""))
    assert free(made) == FREE
    made.observe_pod(plain("p"))
    made.observe_pod(plain("p"))
    assert free(made) == LEFT
    made.observe_pod(plain("p", phase="Succeeded"))
    assert free(made) == FREE


def test_a_hold_and_a_reservation_take_and_give_back() -> None:
    clock = Clock()
    made = cluster(clock)
    asked = replace(pod("p", "gpu-mem=4Gi"), host=NEED)
    made.filter(asked, ["a"])
    assert free(made) == LEFT
    clock.now += 11
    made.expire()
    assert free(made) == FREE
    made.filter(asked, ["a"])
    reserved = made.reserve(asked.uid, "a")
    assert isinstance(reserved, tuple) and free(made) == LEFT
    made.undo(asked.uid)
    assert free(made) == FREE


def test_a_bound_pod_with_slices_takes_once() -> None:
    made = cluster()
    asked = replace(pod("p", "gpu-mem=4Gi"), host=NEED)
    made.filter(asked, ["a"])
    reserved = made.reserve(asked.uid, "a")
    assert isinstance(reserved, tuple)
    made.confirm(asked.uid)
    made.observe_pod(replace(bound(asked, "a", reserved[1]), host=NEED))
    assert free(made) == LEFT
    made.forget_pod(asked.uid)
    assert free(made) == FREE


def test_a_list_drops_pods_and_hosts_that_it_does_not_hold() -> None:
    made = cluster()
    made.replace_pods([plain("p"), plain("q")])
    made.replace_pods([plain("q")])
    assert free(made) == LEFT
    made.replace_hosts([])
    assert free(made) == (UNKNOWN_HOST, UNKNOWN_HOST)
    made.replace_hosts([HOST])
    assert free(made) == LEFT


def test_zone_and_rack_are_numbers_by_row() -> None:
    made = engine(node("a", 24), node("b", 24), node("c", 24), node("d", 24))
    made.replace_hosts([HOST, Host("b", 1, 1, "zone-2", "rack-1"), Host("c", 1, 1, "zone-1", "rack-1")])
    at = made.ledger.rows()
    zones, racks = made.ledger.zone, made.ledger.rack
    assert zones[at["a"]] == zones[at["c"]] == made.ledger.zones()["zone-1"] != zones[at["b"]]
    assert racks[at["a"]] == racks[at["c"]] == made.ledger.racks()["zone-1", "rack-1"] != racks[at["b"]]
    assert zones[at["d"]] == racks[at["d"]] == 0


def test_a_heartbeat_of_a_node_changes_nothing() -> None:
    made = cluster()
    made.freed.clear()
    before = made.ledger.free_cpu.copy()
    host_sink(made, Upserted(replace(HOST)))
    assert made.freed == set() and (made.ledger.free_cpu == before).all()
    host_sink(made, Upserted(replace(HOST, cpu_milli=4000)))
    assert free(made)[0] == 4000
    host_sink(made, Deleted(HOST))
    assert free(made)[0] == UNKNOWN_HOST
    host_sink(made, Replaced((HOST,)))
    assert free(made) == FREE


POD = b"""{"metadata": {"name": "p", "namespace": "ns", "uid": "u", "annotations": {"a": "b"}},
  "spec": {"nodeName": "a", "priority": 3, "containers": [
  {"name": "c", "resources": {"requests": {"cpu": "1500m", "memory": "2Gi"}}}]}}"""


def test_of_a_pod_without_slices_only_what_it_takes_is_kept() -> None:
    read = brief_pod_of(msgspec.json.decode(POD, type=wire.Pod))
    assert (read.containers, read.annotations, read.uid, read.node, read.host) == ((), {}, "u", "a", NEED)
    made = cluster()
    pod_sink(made, Upserted(read))
    assert dict(made.ledger.occupants()) == {"u": ("a", NEED)} and free(made) == LEFT
    pod_sink(made, Deleted(read))
    assert not made.ledger.occupants() and free(made) == FREE


def test_a_pod_with_slices_is_kept_whole_but_for_what_others_wrote_on_it() -> None:
    ours = POD.replace(b'"a": "b"', b'"a": "b", "tessera.io/qos": "burstable"')
    sliced = msgspec.json.decode(ours.replace(b'"cpu"', b'"tessera.io/gpu-mem": "1Gi", "cpu"'), type=wire.Pod)
    assert brief_pod_of(sliced) == replace(pod_of(sliced), annotations={"tessera.io/qos": "burstable"})
