"""``kubectl tessera resize`` and ``lease resize``: what is asked for, and the wait for it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tessera.cli.kubectl_lease_waiting import Overtaken, wait_for
from tessera.dashboard.cluster import lease_state_of
from tessera.dashboard.states import LeaseState
from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import POOL, eventually, fill_pool, lease
from tests.unit.cli_kubectl.conftest import Run

ROOM = {"node": "host-b", "gpuUUID": "GPU-2", "memoryBytes": 16 * GIB, "corePercent": 30}
NEXT = {"namespace": POOL, "name": "executor-next"}


@pytest.fixture(autouse=True)
def pool(api: ApiServer) -> None:
    fill_pool(api)


def stored(api: ApiServer, name: str = "train-1") -> Any:
    found = api.store.get("gpuleases", "default", name)
    assert found is not None
    return found


def change(api: ApiServer, spec: dict[str, Any], status: dict[str, Any]) -> None:
    """As the system writes it; ``None`` takes away."""
    old = stored(api)
    parts = {"spec": old["spec"] | spec, "status": old["status"] | status}
    kept = {part: {k: v for k, v in fields.items() if v is not None} for part, fields in parts.items()}
    api.store.put("gpuleases", old | kept)


def moved(api: ApiServer) -> None:
    change(api, {"slice": ROOM, "target": None}, {"phase": "Active", "next": None, "unmoved": None})


@pytest.mark.parametrize("words", [["lease", "resize", "train-1"], ["resize", "train"], ["resize", "default/train"]])
async def test_the_size_is_asked_for_and_nothing_else(run: Run, api: ApiServer, words: list[str]) -> None:
    before = stored(api)
    done = await run(*words, "--gpu-mem", "16Gi", "--no-wait")
    assert done.exit_code == 0, done.output
    assert done.stdout == "GPULease default/train-1: 16Gi, 30% of its compute, were asked for\n"
    after = stored(api)
    assert after["spec"] == before["spec"] | {"wanted": {"memoryBytes": 16 * GIB, "corePercent": 30}}
    assert after["status"] == before["status"]
    assert "wanted" not in stored(api, "eval-1")["spec"]


async def test_compute_stays_as_it_was_last_asked_for(run: Run, api: ApiServer) -> None:
    await run("resize", "train", "--gpu-mem", "16Gi", "--gpu-core", "0", "--no-wait")
    await run("resize", "train", "--gpu-mem", "12Gi", "--no-wait")
    assert stored(api)["spec"]["wanted"] == {"memoryBytes": 12 * GIB, "corePercent": 0}


async def test_it_waits_until_the_slice_has_the_size_and_serves(run: Run, api: ApiServer) -> None:
    command = asyncio.create_task(run("lease", "resize", "train-1", "--gpu-mem", "16Gi", "-o", "json"))
    await eventually(lambda: "wanted" in stored(api)["spec"], "the size is asked for")
    assert not command.done()
    moved(api)
    done = await command
    assert done.exit_code == 0, done.output
    assert done.stderr == "GPULease default/train-1 waits: room for it is looked for\n"
    found = json.loads(done.stdout)
    assert (found["node"], found["uuid"], found["mem_bytes"]) == ("host-b", "GPU-2", 16 * GIB)
    assert found["wanted"] == {"mem_bytes": 16 * GIB, "core_percent": 30} and found["target"] is None


async def test_back_to_the_size_that_it_has_is_done_at_once(run: Run, api: ApiServer) -> None:
    await run("resize", "train", "--gpu-mem", "16Gi", "--no-wait")
    done = await run("resize", "train", "--gpu-mem", "8Gi")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "GPULease default/train-1 has 8Gi of GPU-0 on host-a, 30% of its compute\n"


async def test_status_3_says_that_it_still_waits_and_why(run: Run, api: ApiServer) -> None:
    change(api, {}, {"unmoved": "3 GPUs: 2 not enough memory, 1 unhealthy"})
    late = await run("resize", "train", "--gpu-mem", "16Gi", "--timeout", "1")
    assert late.exit_code == 3
    assert late.stderr == "GPULease default/train-1 waits: 3 GPUs: 2 not enough memory, 1 unhealthy\n"
    assert "were asked for" in late.stdout
    assert stored(api)["spec"]["wanted"]["memoryBytes"] == 16 * GIB, "it stays asked for"


async def asked(api: ApiServer, gateway: Gateway) -> LeaseState:
    change(api, {"wanted": {"memoryBytes": 16 * GIB, "corePercent": 30}}, {})
    return lease_state_of(await gateway.get(GPU_LEASES, "train-1", namespace="default"))


async def test_each_step_of_the_way_is_told_once(api: ApiServer) -> None:
    steps: list[Callable[[], None]] = [
        lambda: change(api, {}, {"unmoved": "no room"}),
        lambda: change(api, {"target": ROOM}, {"unmoved": None}),
        lambda: change(api, {}, {"next": NEXT, "phase": "Migrating", "message": "2 of 4 GiB are copied"}),
        lambda: change(api, {"slice": ROOM, "target": None}, {}),
        lambda: moved(api),
    ]
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text.removeprefix("GPULease default/train-1 waits: "))
        steps[len(told) - 1]()

    async with Gateway(plain(api.url)) as gateway, asyncio.timeout(30):
        seen, done = await wait_for(gateway, await asked(api, gateway), 25.0, tell)
    assert done and (seen.node, seen.mem_bytes) == ("host-b", 16 * GIB)
    assert told == [
        "room for it is looked for",
        "no room",
        "16Gi of GPU-2 on host-b are kept, and an executor is made there",
        "its sessions are carried over to executor tessera-system/executor-next on host-b (2 of 4 GiB are copied)",
        "it has its size and is Migrating: 2 of 4 GiB are copied",
    ]


async def test_a_server_that_is_away_for_a_while_is_waited_for(api: ApiServer) -> None:
    async with Gateway(plain(api.url)) as gateway, asyncio.timeout(30):
        start = await asked(api, gateway)
        api.faults.fail_next(1, status=503, verb="get", plural="gpuleases")
        api.faults.lose_answers(1, verb="get", plural="gpuleases")
        _, done = await wait_for(gateway, start, 25.0, lambda _: moved(api))
    assert done


@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (lambda api: api.store.remove("gpuleases", "default", "train-1"), "was ended"),
        (lambda api: api.store.put("gpuleases", lease("train") | {"metadata": _named("another")}), "was ended"),
        (lambda api: change(api, {"wanted": {"memoryBytes": GIB, "corePercent": 0}}, {}), "was asked for another size"),
    ],
)
async def test_what_will_not_come_is_not_waited_for(
    api: ApiServer, happens: Callable[[ApiServer], None], says: str
) -> None:
    async with Gateway(plain(api.url)) as gateway, asyncio.timeout(30):
        start = await asked(api, gateway)
        with pytest.raises(Overtaken, match=says):
            await wait_for(gateway, start, 25.0, lambda _: happens(api))


def _named(uid: str) -> dict[str, str]:
    return {"name": "train-1", "namespace": "default", "uid": uid}


async def test_refusals_are_one_sentence_and_change_nothing(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", lease("ended", phase="Released"))
    second = lease("train")
    second["metadata"] = {"name": "train-2", "namespace": "default", "uid": "second"}
    second["spec"]["client"] = second["spec"]["client"] | {"container": "side"}
    api.store.put("gpuleases", second)
    for argv, says in (
        (["train-1", "--gpu-mem", "65Ti"], "--gpu-mem: found '65Ti'; allowed: whole bytes from 1 to 64Ti"),
        (["train-1", "--gpu-mem", "4Gi", "--gpu-core", "200"], "--gpu-core: found '200'; allowed: a whole number"),
        (["nobody", "--gpu-mem", "4Gi"], "LEASE: found 'nobody'; allowed: a GPULease of namespace default, or a pod"),
        (["train", "--gpu-mem", "4Gi"],
         "LEASE: found 'train'; allowed: one of this pod's, train-1 (container main), train-2 (container side)"),
        (["ended-1", "--gpu-mem", "4Gi"], "GPULease default/ended-1: found 'one that ends'; allowed: one that stays"),
        (["a/b/c", "--gpu-mem", "4Gi"], "LEASE: found 'a/b/c'; allowed: NAME or NAMESPACE/NAME"),
    ):  # fmt: skip
        refused = await run("resize", *argv)
        assert refused.exit_code == 1 and refused.stderr.startswith(f"error: {says}"), refused.output
        assert refused.stderr.count("\n") == 1
    api.faults.fail_next(1, status=403, verb="patch", plural="gpuleases")
    refused = await run("resize", "train-1", "--gpu-mem", "4Gi")
    assert refused.exit_code == 1 and refused.stderr.count("\n") == 1
    assert not any("wanted" in each["spec"] for each in api.store.list("gpuleases", "default"))
    assert (await run("resize", "train-1")).exit_code == 2, "no size"


async def test_list_and_get_say_where_leases_go(run: Run, api: ApiServer) -> None:
    assert "MOVES TO" not in (await run("lease", "list")).stdout
    change(api, {"wanted": {"memoryBytes": 16 * GIB, "corePercent": 0}}, {"unmoved": "no room for 16Gi"})
    head, _, line = (await run("lease", "list")).stdout.splitlines()
    assert "MOVES TO" in head and "16Gi no cap" in line and line.rstrip().endswith("no room for 16Gi")
    said = (await run("lease", "get", "train-1")).stdout
    assert "Asked for: 16Gi, compute without a cap.\n" in said and "no room for 16Gi" in said
    change(api, {"target": ROOM}, {"unmoved": None, "next": NEXT, "phase": "Migrating"})
    assert "GPU-2 on host-b, 16Gi 30%" in (await run("lease", "list")).stdout
    said = (await run("lease", "get", "train-1")).stdout
    assert "Migrating: its sessions are carried over to another executor, and go on there." in said
    assert "It moves to 16Gi of GPU-2 on host-b, 30% of its compute, executor tessera-system/executor-next." in said
