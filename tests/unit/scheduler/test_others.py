"""Pods without slices go where they strand no GPUs."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host, HostNeed
from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tessera.reasons import Code, Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tessera.scheduler.others import PATH, Others, scores
from tessera.serving import straight
from tests.unit.scheduler.clusters import Clock, node, place
from tests.unit.scheduler.clusters import pod as slice_pod

NAMES = [f"gpu-{index}" for index in range(6)]


def cluster(*nodes: GpuNode) -> Engine:
    engine = Engine(Clock(), Options("fragmentation"))
    for each in nodes:
        engine.observe_node(each)
        engine.observe_host(Host(each.name, 16_000, 64 * GIB))
    return engine


def gpu_cluster() -> Engine:
    return cluster(*(node(name, 24, 24) for name in NAMES))


def plain_pod(name: str = "web", cpu_milli: int = 8_000) -> Pod:
    return Pod("default", name, f"uid-{name}", (), {}, host=HostNeed(cpu_milli, GIB))


def body(*names: str, slices: bool = False) -> bytes:
    limits = {"tessera.io/gpu-mem": "4Gi", "tessera.io/slice": "1"} if slices else {}
    container = {"name": "main", "resources": {"limits": limits, "requests": {"cpu": "1", **limits}}}
    meta = {"name": "web", "namespace": "default", "uid": "uid-web"}
    return msgspec.json.encode({"Pod": {"metadata": meta, "spec": {"containers": [container]}}, "NodeNames": names})


def others(engine: Engine, gate: Reason | None = None) -> Others:
    return Others(engine, lambda: gate)


def test_among_gpu_nodes_exactly_one_has_ten_and_it_is_the_one_that_place_takes() -> None:
    engine, twin = gpu_cluster(), gpu_cluster()
    for index in range(20):
        for each in (engine, twin):
            if index % 3:
                place(each, slice_pod(f"s{index}", "gpu-mem=10Gi gpu-core=40"), NAMES)
        pod = plain_pod(f"p{index}", 1_000)
        found = scores(engine, pod, NAMES)
        assert list(found.values()).count(10) == 1 and set(found) == set(NAMES)
        (best,) = (name for name, score in found.items() if score == 10)
        assert twin.place(pod, twin.ledger.present.any(axis=1)) == best
        engine.observe_pod(Pod("default", pod.name, pod.uid, (), {}, best, "Running", host=pod.host))


def test_nodes_without_gpus_come_first_and_alike() -> None:
    found = scores(gpu_cluster(), plain_pod(), ["cpu-1", *NAMES, "cpu-2"])
    assert found["cpu-1"] == found["cpu-2"] == 10
    assert max(found[name] for name in NAMES) == 9
    empty = cluster(*(node(name, 24) for name in NAMES), GpuNode("no-gpu", ()))
    assert scores(empty, plain_pod(), ["no-gpu", *NAMES])["no-gpu"] == 10


def test_a_node_whose_gpus_are_all_taken_is_still_a_gpu_node() -> None:
    engine = gpu_cluster()
    place(engine, slice_pod("large", "gpu=2"), [NAMES[3]])
    found = scores(engine, plain_pod(), NAMES)
    assert list(found.values()).count(10) == 1
    assert engine.place(plain_pod(), engine.ledger.present.any(axis=1)) == max(found, key=lambda name: found[name])


def test_only_nodes_that_are_offered_are_ranked() -> None:
    assert scores(gpu_cluster(), plain_pod(), NAMES[2:4]).keys() == set(NAMES[2:4])
    assert scores(gpu_cluster(), plain_pod(), []) == {}


def test_the_workload_learns_a_pod_once_however_often_it_is_asked_about() -> None:
    engine = gpu_cluster()
    before = engine.arrivals.workload.due
    for _ in range(40):
        scores(engine, plain_pod(), NAMES)
    assert engine.arrivals.workload.due == before + 1


def test_pods_with_slices_and_a_scheduler_that_does_not_lead_are_answered_with_nothing() -> None:
    engine = gpu_cluster()
    assert others(engine).prioritize(body(*NAMES, slices=True)) == []
    assert others(engine, Reason(Code.NOT_LEADER, "no")).prioritize(body(*NAMES)) == []
    assert engine.arrivals.workload.due == 0 and not engine.promises()


def test_the_answer_is_kube_schedulers_host_priority_list() -> None:
    answer: list[dict[str, Any]] = others(gpu_cluster()).prioritize(body(*NAMES))
    assert [set(each) for each in answer] == [{"Host", "Score"}] * len(NAMES)
    with pytest.raises(msgspec.MsgspecError):
        others(gpu_cluster()).prioritize(b'{"Pod": 3}')


def test_a_pod_that_runs_is_occupied_and_vacated_once_however_often_it_is_told_of() -> None:
    engine, row = gpu_cluster(), gpu_cluster().ledger.rows()[NAMES[0]]
    running = Pod("default", "web", "uid-web", (), {}, NAMES[0], "Running", host=HostNeed(8_000, GIB))
    engine.observe_pod(running)
    version = int(engine.ledger.version[row])
    for _ in range(5):
        engine.observe_pod(running)
    assert engine.ledger.free_cpu[row] == 8_000
    assert engine.ledger.version[row] == version
    engine.observe_pod(replace(running, phase="Succeeded"))
    engine.forget_pod(running.uid)
    assert engine.ledger.free_cpu[row] == 16_000


async def post(application: Any, body: bytes) -> tuple[int, Any]:
    """The status and the answer to a POST on the route's path, without a socket."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application({"type": "http", "method": "POST", "path": PATH, "headers": []}, receive, send)
    return sent[0]["status"], msgspec.json.decode(sent[1]["body"])


async def test_the_route_answers_and_refuses_what_is_not_the_protocol() -> None:
    application = straight([others(gpu_cluster()).route()])
    status, answer = await post(application, body(*NAMES))
    assert status == 200 and sum(each["Score"] == 10 for each in answer) == 1
    status, answer = await post(application, b"[]")
    assert status == 400 and "extender/v1" in answer["Error"]
