"""``tessera simulate --from-cluster`` against a simulated API server: where pods would go, and why not."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tessera.cli.tessera import invoke
from tessera.kube.connection import plain
from tessera.kube.convert import gpu_lease_object
from tessera.kube.gateway import Gateway
from tessera.model.assignment import Share
from tessera.model.gpu_leases import Client, GpuLease
from tessera.model.hosts import HostNeed
from tessera.model.quantities import GIB
from tessera.scheduler.engine import Engine
from tessera.scheduler.notes import settings_note
from tessera.scheduler.options import Options, PoolOptions
from tessera.scheduler.settings import LEASE, SYSTEM
from tessera.scheduler.snapshot import read
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import fill, pod

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  template:
    spec:
      containers:
      - name: main
        image: x
        resources: {limits: {gpu-mem: 12Gi, cpu: "2", memory: 1Gi}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: train, namespace: team}
spec:
  parallelism: 2
  completions: 5
  template:
    metadata: {annotations: {tessera.io/gpu-model: H200}}
    spec:
      containers:
      - name: main
        image: x
        resources: {limits: {tessera.io/gpu: 8}}
---
apiVersion: v1
kind: Pod
metadata: {name: wrong}
spec:
  containers:
  - {name: main, image: x, resources: {limits: {gpu-mem: lots}}}
---
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  containers:
  - {name: main, image: x}
"""


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    """Two nodes with three GPUs, one of them unhealthy; 24 of 80 healthy GiB given; ``huge`` waits."""
    async with ApiServer() as server:
        fill(server)
        for name, cpu in (("host-a", "4"), ("host-b", "64")):
            status = {"allocatable": {"cpu": cpu, "memory": "64Gi"}}
            server.store.put("nodes", {"metadata": {"name": name}, "spec": {}, "status": status})
        decides(server)
        yield server


def decides(server: ApiServer, **options: Any) -> None:
    """The leader says so on its Lease."""
    meta = {"name": LEASE, "namespace": SYSTEM, "annotations": settings_note(Options(**options))}
    server.store.put("leases", {"metadata": meta, "spec": {}})


async def asked(api: ApiServer, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = await asyncio.to_thread(invoke, ["simulate", "--from-cluster", "--server", api.url, *argv])
    out, err = capsys.readouterr()
    return status, out, err


async def answered(api: ApiServer, capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    status, out, err = await asked(api, capsys, "-o", "json", *argv)
    assert (status, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def nodes_of(answer: dict[str, Any]) -> dict[str, str | None]:
    return {pod["name"]: pod["node"] for pod in answer["pods"]}


async def test_the_snapshot_holds_what_the_cluster_holds(api: ApiServer) -> None:
    gated = pod("gated", mem="1Gi")
    gated["spec"]["schedulingGates"] = [{"name": "quota"}]
    api.store.put("pods", gated)
    engine = Engine(lambda: 0.0)
    async with Gateway(plain(api.url)) as gateway:
        snapshot = await read(gateway, Options())
    snapshot.feed(engine)
    assert set(engine.ledger.charges()) == {"uid-default-small", "uid-kube-system-large"}
    assert engine.ledger.hosts()["host-a"].cpu_milli == 4000
    assert [each.name for each in snapshot.waiting] == ["huge"] and len(snapshot.pods) == 4


async def test_slices_on_other_nodes_are_planned_as_the_scheduler_gives_them(
    api: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    status = {"allocatable": {"cpu": "8", "memory": "64Gi"}}
    api.store.put("nodes", {"metadata": {"name": "plain"}, "spec": {}, "status": status})
    api.store.put("gpunodes", {"metadata": {"name": "plain"}, "status": {"clientSlots": 4}})
    far = pod("far", mem="4Gi")
    far["metadata"]["annotations"] = {"tessera.io/remote": "required"}
    api.store.put("pods", far)
    before = await answered(api, capsys)
    assert nodes_of(before)["far"] is None and before["before"]["nodes"] == 2
    decides(api, pool=PoolOptions("tessera-system", "executors", HostNeed(500, 1 << 30)))
    found = await answered(api, capsys)
    (planned,) = [each for each in found["pods"] if each["name"] == "far"]
    assert planned["node"] == "plain" and len(planned["gpus"]) == 1 and found["before"]["nodes"] == 2
    uuid = planned["gpus"][0]
    lease = GpuLease("default", "l", "uid-l", Client("p", "uid-p", "main", "plain"), "host-a", Share(uuid, 1 << 30))
    api.store.put("gpuleases", msgspec.to_builtins(gpu_lease_object(lease)))
    then = await answered(api, capsys)
    assert then["before"]["allocated_percent"]["memory"] > found["before"]["allocated_percent"]["memory"]


async def test_who_waits_finds_room_on_the_hosts_to_come(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    now = await answered(api, capsys)
    assert nodes_of(now) == {"huge": None} and now["pods"][0]["reason"] and now["added"] == []
    assert now["before"] == now["after"] and now["before"]["gpus"] == 3
    then = await answered(api, capsys, "--add", "2xH200:8:141Gi")
    assert then["added"] == ["new-h200-1", "new-h200-2"] and then["placed"] == 1 and then["not_placed"] == 0
    assert nodes_of(then)["huge"] in then["added"] and len(then["pods"][0]["gpus"]) == 1
    assert then["before"] == now["before"] and (then["after"]["nodes"], then["after"]["gpus"]) == (4, 19)
    expected = 100 * (24 + 90) / (2 * 40 + 16 + 16 * 141)
    assert then["after"]["allocated_percent"]["memory"] == pytest.approx(expected, abs=0.001)


async def test_workloads_are_expanded_and_each_pod_is_placed_or_says_why(
    api: ApiServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "workloads.yaml"
    file.write_text(DEPLOYMENT)
    found = await answered(api, capsys, "--pods-from", str(file), "--add", "1xH200:8", "--no-waiting")
    nodes = nodes_of(found)
    assert list(nodes) == ["web-0", "web-1", "web-2", "train-0", "train-1", "wrong", "bare"]
    web = [nodes[f"web-{number}"] for number in range(3)]
    assert all(web) and web.count("host-a") <= 2, "two cores each, and the host has four"
    reasons = {each["name"]: each["reason"] for each in found["pods"]}
    assert "gpu-mem]: found 'lots'; allowed: whole bytes" in reasons["wrong"]
    assert reasons["bare"] == "asks for no slice: kube-scheduler places it on any host"
    train = sorted(str(nodes[f"train-{number}"]) for number in range(2))
    assert train.count("new-h200-1") <= 1 and "None" in train
    assert {each["workload"] for each in found["pods"]} == {"Deployment web", "Job train", "Pod wrong", "Pod bare"}


async def test_a_host_without_cpu_takes_nobody(
    api: ApiServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "greedy.yaml"
    file.write_text(DEPLOYMENT.partition("---")[0].replace('cpu: "2"', 'cpu: "100"'))
    found = await answered(api, capsys, "--pods-from", str(file), "--no-waiting")
    assert set(nodes_of(found).values()) == {None}
    assert found["pods"][0]["reason"] == "2 of 2 hosts have too little CPU or memory left"
    found = await answered(api, capsys, "--pods-from", str(file), "--no-waiting", "--add", "1xH200:8:141Gi:200:1Ti")
    assert sorted(map(str, nodes_of(found).values())) == ["None", "new-h200-1", "new-h200-1"]


async def test_the_table_groups_like_pods_and_says_what_is_not_evaluated(
    api: ApiServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "workloads.yaml"
    file.write_text(DEPLOYMENT)
    status, out, _ = await asked(api, capsys, "--pods-from", str(file), "--add", "4xH200:8")
    assert status == 0
    assert "default/waiting in the cluster" in out and "team/Job train" in out
    assert "Before" in out and "After" in out
    assert out.rstrip().splitlines()[-1].startswith("Not evaluated: node selectors, affinities, taints")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--add", "H200"], "--add: found 'H200'; allowed: COUNTxMODEL:GPUS"),
        (["--add", "0xH200:8"], "--add: found '0xH200:8'"),
        (["--add", "1xH200:8:much"], "--add: found '1xH200:8:much'"),
        (["--add", "1xH200:8:141Gi:0"], "--add: found '1xH200:8:141Gi:0'"),
        (["--add", "1xOwn:8"], "allowed: the memory of each GPU after a further colon"),
        (["--policy", "pack,spread"], "--policy: found 'pack,spread'; allowed: one policy with --from-cluster"),
        (["--trust-domain", "team"], "--trust-domain: found 'team'; allowed: cluster, namespace, or label:KEY"),
        (["--lease", "here"], "--lease: found 'here'; allowed: NAMESPACE/NAME"),
        (["--nodes", "x.csv"], "--nodes: found beside --from-cluster"),
        (["--seeds", "1-3"], "--seeds: found beside --from-cluster"),
        (["--pods-from", "/nowhere.yaml"], "/nowhere.yaml: No such file or directory"),
    ],
)
async def test_what_cannot_be_used_is_one_sentence(
    api: ApiServer, argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = await asked(api, capsys, *argv)
    assert (status, out) == (2, "") and said in err and err.count("\n") == 1


async def test_who_may_share_a_gpu_is_the_schedulers_word(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    api.store.put("pods", pod("stranger", mem="10Gi", namespace="team", why="no room"))
    first = await answered(api, capsys)
    assert nodes_of(first)["stranger"] == "host-a" and first["trust_domain"] == "cluster"
    decides(api, trust_domain="namespace", placement="pack")
    then = await answered(api, capsys)
    assert (then["trust_domain"], then["policy"]) == ("namespace", "pack")
    why = {each["name"]: each["reason"] for each in then["pods"]}
    assert why["stranger"] == "3 GPUs: 2 another trust domain's, 1 unhealthy"
    asked_otherwise = await answered(api, capsys, "--trust-domain", "cluster", "--policy", "spread")
    assert nodes_of(asked_otherwise)["stranger"] == "host-a" and asked_otherwise["policy"] == "spread"


async def test_a_label_of_the_namespaces_decides(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    for name, team in (("default", "x"), ("friends", "x"), ("strangers", "y")):
        meta = {"name": name, "labels": {"team": team}}
        api.store.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        if name != "default":
            api.store.put("pods", pod(f"of-{name}", mem="10Gi", namespace=name, why="no room"))
    running = next(each for each in api.store.list("pods") if each["metadata"]["name"] == "small")
    annotations = running["metadata"]["annotations"]
    assignment = json.loads(annotations["tessera.io/assignment"]) | {"domain": "label/team=x"}
    annotations["tessera.io/assignment"] = json.dumps(assignment)
    api.store.put("pods", running)
    decides(api, trust_domain="label:team")
    found = await answered(api, capsys)
    assert nodes_of(found) == {"huge": None, "of-friends": "host-a", "of-strangers": None}


async def test_what_the_scheduler_would_refuse_is_refused(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    api.store.put("pods", pod("tiny", mem="1Gi", why="no room"))
    decides(api, context_bytes=2 * GIB)
    why = {each["name"]: each["reason"] for each in (await answered(api, capsys))["pods"]}
    assert "found '1Gi'; allowed: at least 2Gi for each GPU, which a program's context takes" in why["tiny"]


async def test_a_cluster_whose_scheduler_says_nothing(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = await asked(api, capsys, "-o", "json", "--lease", "gpus/scheduler")
    assert status == 0 and json.loads(out)["policy"] == Options().placement
    assert err.startswith("Lease gpus/scheduler is not there") and err.count("\n") == 1


def test_options_of_the_cluster_need_the_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["simulate", "--add", "1xH200:8"]) == 2
    assert "--add: found without --from-cluster; allowed: only together with it" in capsys.readouterr().err


async def test_an_api_server_that_refuses_is_one_sentence(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    api.faults.fail_next(10, status=403, verb="list")
    status, out, err = await asked(api, capsys)
    assert (status, out) == (1, "") and err.startswith("tessera simulate: ") and err.count("\n") == 1
    assert await asyncio.to_thread(invoke, ["simulate", "--from-cluster", "--server", "http://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert await asyncio.to_thread(invoke, ["simulate", "--from-cluster", "--kubeconfig", "/nowhere/config"]) == 2
    assert "/nowhere/config" in capsys.readouterr().err
