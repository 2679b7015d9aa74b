"""``kubectl tessera lease attach`` and ``detach``, and what is said of leases without a pod or without room."""

import json
from typing import Any

import pytest

from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import executor_of, fill_pool, pod, standing
from tests.unit.cli_kubectl.conftest import Run

Plain = dict[str, Any]


@pytest.fixture(autouse=True)
def pool(api: ApiServer) -> None:
    fill_pool(api)


async def gated(api: ApiServer, name: str = "next") -> None:
    """Makes a pod that waits to be told a lease, and for something else."""
    built = pod(name)
    built["metadata"]["annotations"] = {"tessera.io/remote": "required"}
    built["spec"]["schedulingGates"] = [{"name": "tessera.io/gpu-lease"}, {"name": "example.com/other"}]
    async with Gateway(plain(api.url)) as gateway:
        await gateway.create(PODS, built, namespace="default")


async def test_attach_names_the_lease_and_opens_its_gate_alone(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine"))
    await gated(api)
    done = await run("lease", "attach", "default/mine", "next")
    assert done.exit_code == 0, done.output
    assert done.stdout == "pod default/next uses GPULease default/mine once it is placed\n"
    told = api.store.get("pods", "default", "next")
    assert told is not None
    assert told["metadata"]["annotations"] == {"tessera.io/remote": "required", "tessera.io/gpu-lease": "mine"}
    assert told["spec"]["schedulingGates"] == [{"name": "example.com/other"}]
    lease = json.loads((await run("lease", "attach", "mine", "default/next", "-o", "json")).stdout)
    assert (lease["name"], lease["pod"]) == ("mine", "")


@pytest.mark.parametrize(
    ("lease", "says"),
    [
        (standing("mine", pod_name="train", phase="Active"), "which waits until pod train has left the lease"),
        (standing("mine", room=False, phase="Pending"), "which waits until the lease has room"),
        (standing("mine", room=False, phase="Stopped", stopped=True), "which waits until the lease is started"),
    ],
)
async def test_attach_says_what_the_pod_waits_for(run: Run, api: ApiServer, lease: Plain, says: str) -> None:
    api.store.put("gpuleases", lease)
    await gated(api)
    said = (await run("lease", "attach", "mine", "next")).stdout
    assert said == f"pod default/next uses GPULease default/mine once it is placed, {says}\n"


async def test_attach_refuses_in_one_sentence(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine"))
    await gated(api)
    for argv, says in (
        (
            ["mine", "other/next"],
            "POD: found 'other/next'; allowed: the name of a pod of namespace default, the lease's",
        ),
        (["mine", "default/"], "POD: found 'default/'; allowed: the name of a pod"),
        (["train-1", "next"], "GPULease default/train-1: found 'one made for pod train'; allowed: a standing one"),
        (["mine", "small"], "pod default/small: found 'it on node host-a'; allowed: one that waits to be placed"),
        (["mine", "huge"], "pod default/huge: metadata.annotations[tessera.io/remote]: found ''; allowed: required"),
    ):
        refused = await run("lease", "attach", *argv)
        assert refused.exit_code == 1 and refused.stderr.startswith(f"error: {says}"), refused.output
        assert refused.stderr.count("\n") == 1
    missing = await run("lease", "attach", "mine", "nobody")
    assert missing.exit_code == 1 and "nobody" in missing.stderr


async def test_detach_takes_the_pod_off_and_says_what_becomes_of_it(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine", pod_name="train", phase="Active"))
    done = await run("lease", "detach", "mine")
    assert done.exit_code == 0, done.output
    assert done.stderr == "pod default/train stays, without this slice\n"
    assert done.stdout == "GPULease default/mine is for no pod now\n"
    left = api.store.get("gpuleases", "default", "mine")
    assert left is not None and "client" not in left["spec"] and "slice" in left["spec"]
    again = await run("lease", "detach", "mine")
    assert (again.exit_code, again.stderr, again.stdout) == (0, "", done.stdout)
    refused = await run("lease", "detach", "train-1")
    assert refused.exit_code == 1 and "allowed: a standing one" in refused.stderr


async def test_delete_speaks_of_a_pod_only_where_there_is_one(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine"))
    done = await run("lease", "delete", "mine")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "GPULease default/mine: its end was asked for\n"
    said = " ".join((await run("lease", "delete", "--help")).stdout.split())
    assert "A standing lease goes whether or not a pod uses it" in said


async def test_list_shows_leases_without_pod_and_without_room(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("free"))
    api.store.put("gpuleases", standing("fresh", room=False, phase="", unmoved="no GPU is free"))
    api.store.put("gpuleases", standing("held", pod_name="large", phase="Active"))
    api.store.put("gpuleases", standing("off", room=False, phase="Stopped", stopped=True))
    head, *lines = (await run("lease", "list")).stdout.splitlines()
    assert head.split() == ["NAMESPACE", "NAME", "STANDING", "POD", "CONTAINER", "CLIENT", "NODE", "GPU", "MEMORY",
                            "COMPUTE", "PHASE", "EPOCH", "AGE", "MESSAGE"]  # fmt: skip
    rows = {line.split()[1]: line.split()[2:11] for line in lines}
    assert rows["free"] == ["yes", "-", "-", "-", "host-a", "GPU-0", "8Gi", "30%", "Detached"]
    assert rows["fresh"] == ["yes", "-", "-", "-", "-", "-", "8Gi", "30%", "Pending"]
    assert rows["held"] == ["yes", "large", "main", "cpu-1", "host-a", "GPU-0", "8Gi", "30%", "Active"]
    assert rows["off"] == ["yes", "-", "-", "-", "-", "-", "8Gi", "30%", "Stopped"]
    assert rows["train-1"][:2] == ["-", "train"]
    assert next(line for line in lines if "fresh" in line).rstrip().endswith("no GPU is free")


@pytest.mark.parametrize(
    ("lease", "says"),
    [
        (standing("mine"),
         ["default/mine is for no pod now: 8Gi of GPU-0 on host-a, 30% of its compute.",
          "Detached: an executor serves, and no pod uses it."]),
        (standing("mine", room=False, phase="Pending", unmoved="no GPU is free"),
         ["default/mine is for no pod now: no room yet for 8Gi, 30% of its compute.",
          "Pending: no room has been found for it yet.", "no GPU is free"]),
        (standing("mine", room=False, phase="Stopped", stopped=True),
         ["default/mine is for no pod now: stopped and without room, once started it has 8Gi, 30% of its compute.",
          "Stopped: its users have stopped it; it has no room.", "no executor."]),
        (standing("mine", phase="Stopped", stopped=True),
         ["Stopped: its users have stopped it; its room is given back once its executor is gone."]),
        (standing("mine", pod_name="train", phase="Active"),
         ["default/mine is for container main of pod train on cpu-1: 8Gi of GPU-0 on host-a, 30% of its compute.",
          "Active: the container uses it."]),
    ],
)  # fmt: skip
async def test_get_says_of_each_what_is_true(run: Run, api: ApiServer, lease: Plain, says: list[str]) -> None:
    api.store.put("gpuleases", lease)
    said = (await run("lease", "get", "mine")).stdout
    for sentence in [*says, "Its users made it, and it stays until they delete it."]:
        assert sentence in said
    assert "Its users made it" not in (await run("lease", "get", "train-1")).stdout


async def test_one_without_room_that_has_a_place_to_go_says_where(run: Run, api: ApiServer) -> None:
    found = standing("mine", room=False, phase="Pending")
    found["spec"]["target"] = {"node": "host-a", "gpuUUID": "GPU-1", "memoryBytes": 8 << 30, "corePercent": 30}
    api.store.put("gpuleases", found)
    said = (await run("lease", "get", "mine")).stdout
    assert "It moves to 8Gi of GPU-1 on host-a, 30% of its compute." in said and "Asked for" not in said
    head, *_ = (await run("lease", "list")).stdout.splitlines()
    assert "MOVES TO" in head


async def test_other_commands_show_a_slice_that_no_pod_uses(run: Run, api: ApiServer) -> None:
    found = standing("mine")
    api.store.put("gpuleases", found)
    api.store.put("pods", executor_of(found))
    tenants = (await run("top", "tenants")).stdout
    row = next(line.split() for line in tenants.splitlines() if "default/mine" in line)
    assert row == ["default", "-", "-", "host-a", "GPU-0", "8Gi", "30%", "default/mine"]
    lines = {line.split()[1]: line for line in (await run("pods", "-A")).stdout.splitlines()}
    assert "computes for default/mine" in lines["executor-mine"]
    said = (await run("explain", "tessera-system/executor-mine")).stdout
    assert "It is the executor of GPULease default/mine." in said


async def test_a_pod_that_was_taken_off_its_lease_says_so(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("train-1"))
    said = (await run("explain", "train")).stdout
    assert "NoLease: GPULease default/train-1 of container main was taken off this pod" in said
