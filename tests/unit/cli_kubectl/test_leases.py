"""``kubectl tessera lease``, and what the other commands say of pods whose slices are on other nodes."""

import json

import pytest

from tessera.cli.kubectl_lease_tables import age
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import fill_pool, lease
from tests.unit.cli_kubectl.conftest import Run


@pytest.fixture(autouse=True)
def pool(api: ApiServer) -> None:
    fill_pool(api)


async def test_list_shows_where_each_slice_is_and_how_far_it_has_come(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", lease("far", namespace="team", client="cpu-2"))
    head, lost, served, *rest = (await run("lease", "list")).stdout.splitlines()
    assert not rest, "those of the context's namespace"
    assert head.split() == ["NAMESPACE", "NAME", "POD", "CONTAINER", "CLIENT", "NODE", "GPU", "MEMORY", "COMPUTE",
                            "PHASE", "EPOCH", "AGE", "MESSAGE"]  # fmt: skip
    assert served.split()[:11] == ["default", "train-1", "train", "main", "cpu-1", "host-a", "GPU-0", "8Gi", "30%",
                                   "Active", "2"]  # fmt: skip
    assert "Lost" in lost and "container gate ended with status 1" in lost
    everywhere = json.loads((await run("lease", "list", "-A", "-o", "json")).stdout)["items"]
    assert [x["name"] for x in everywhere] == ["eval-1", "train-1", "far-1"]
    none = await run("lease", "list", "-n", "empty")
    assert none.exit_code == 0 and none.stdout == "There is no slice on another node in empty.\n"


async def test_get_says_for_whom_where_and_by_whom(run: Run) -> None:
    said = (await run("lease", "get", "train-1")).stdout
    assert "default/train-1 is for container main of pod train on cpu-1: 8Gi of GPU-0 on host-a, 30%" in said
    assert "Active: the container uses it." in said
    assert "Epoch 2, executor tessera-system/executor-train at 10.0.0.1:7443." in said
    found = json.loads((await run("lease", "get", "default/eval-1", "-o", "json")).stdout)
    assert (found["phase"], found["pod"], found["executor"]) == ("Lost", "eval", "")


async def test_delete_asks_for_the_end_of_that_lease_and_of_nothing_else(run: Run, api: ApiServer) -> None:
    done = await run("lease", "delete", "train-1")
    assert done.exit_code == 0, done.output
    assert done.stdout == "GPULease default/train-1: its end was asked for\n"
    assert done.stderr == "pod default/train stays, without this slice\n"
    assert api.store.get("gpuleases", "default", "train-1") is None
    assert api.store.get("gpuleases", "default", "eval-1") is not None
    assert api.store.get("pods", "default", "train") is not None
    again = await run("lease", "delete", "train-1")
    assert again.exit_code == 1 and "train-1" in again.stderr and again.stderr.count("\n") == 1


async def test_a_lease_that_is_ending_says_so(run: Run, api: ApiServer) -> None:
    held = lease("train")
    held["metadata"]["finalizers"] = ["pool.tessera.io/executor"]
    api.store.put("gpuleases", held)
    assert json.loads((await run("lease", "delete", "train-1", "-o", "json")).stdout)["ending"] is True
    assert "Terminating" in (await run("lease", "list")).stdout
    assert "its deletion was asked for" in (await run("lease", "get", "train-1")).stdout


async def test_who_may_not_is_told_in_one_sentence(run: Run, api: ApiServer) -> None:
    for verb, argv in (("list", ["list"]), ("get", ["get", "train-1"]), ("delete", ["delete", "train-1"])):
        api.faults.fail_next(1, status=403, verb=verb, plural="gpuleases")
        refused = await run("lease", *argv)
        assert refused.exit_code == 1 and refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert api.store.get("gpuleases", "default", "train-1") is not None
    api.faults.fail_next(1, status=404, verb="list", plural="gpuleases")
    assert "the cluster has no GPULeases" in (await run("lease", "list")).stderr
    odd = await run("lease", "get", "a/b/c")
    assert odd.stderr == "error: LEASE: found 'a/b/c'; allowed: NAME or NAMESPACE/NAME\n"


async def test_help_says_what_becomes_of_the_pod(run: Run) -> None:
    said = " ".join((await run("lease", "delete", "--help")).stdout.split())
    assert "The pod itself stays, and the lease is not made again" in said


async def test_top_counts_a_slice_once_and_shows_client_nodes_as_such(run: Run) -> None:
    said = (await run("top")).stdout
    assert "3 GPUs on 2 nodes: 40Gi of 96Gi given" in said and "1 pod waits." in said
    assert "2 of 16 slots used on 1 client node." in said
    (line,) = [x for x in said.splitlines() if x.startswith("cpu-1")]
    assert "client node: 2 of 16 slots used" in line
    tenants = json.loads((await run("top", "tenants", "-o", "json")).stdout)["items"]
    assert [(t["pod"], t["node"], t["uuid"], t["mem_bytes"] // GIB, t["lease"]) for t in tenants] == [
        ("large", "host-a", "GPU-1", 20, ""),
        ("eval", "host-a", "GPU-1", 8, "default/eval-1"),
        ("train", "host-a", "GPU-0", 8, "default/train-1"),
        ("small", "host-a", "GPU-0", 4, ""),
    ]


async def test_pods_hold_what_their_leases_give_them(run: Run) -> None:
    lines = {line.split()[1]: line for line in (await run("pods", "-A")).stdout.splitlines()}
    assert "GPU-0 8Gi 30% on host-a" in lines["train"] and "cpu-1" in lines["train"]
    assert "LeaseLost: GPULease default/eval-1: executor executor-eval" in lines["eval"]
    assert "computes for default/train" in lines["executor-train"]


async def test_explain_follows_a_pod_to_its_slice_and_an_executor_to_its_pod(run: Run, api: ApiServer) -> None:
    said = (await run("explain", "train")).stdout
    assert "It is Running on cpu-1 and holds:" in said
    assert "8Gi of GPU-0 (GPU 0, NVIDIA A100, on host-a), 30% of its compute, held by MPS" in said
    assert "GPULease default/train-1 is Active, epoch 2, executor tessera-system/executor-train" in said
    executor = (await run("explain", "tessera-system/executor-train")).stdout
    assert "It is the executor of GPULease default/train-1, for default/train." in executor
    api.store.remove("gpuleases", "default", "train-1")
    gone = (await run("explain", "train")).stdout
    assert "holds nothing: NoLease: GPULease default/train-1 of container main is gone" in gone


async def test_without_the_right_to_read_leases_pods_name_them(run: Run, api: ApiServer) -> None:
    api.faults.fail_next(1, status=403, verb="list", plural="gpuleases")
    lines = {line.split()[1]: line for line in (await run("pods")).stdout.splitlines()}
    assert "default/train-1" in lines["train"] and "NoLease" not in lines["train"]
    api.faults.fail_next(1, status=403, verb="get", plural="gpuleases")
    said = (await run("explain", "train")).stdout
    assert "its slices are on other nodes, by GPULeases that you may not read: default/train-1" in said


def test_ages_read_as_kubectl_s() -> None:
    start = "2026-01-01T00:00:00Z"
    assert [age(start, 1767225600 + s) for s in (-5, 90, 300, 7200, 200_000)] == ["0s", "90s", "5m", "2h", "2d"]
    assert age("", 0) == "-"
