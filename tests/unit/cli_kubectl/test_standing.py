"""``kubectl tessera lease create``, ``stop`` and ``start``: what is asked of standing leases, and the wait for it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tessera.cli.kubectl_lease_waiting import Overtaken, wait_for
from tessera.dashboard.cluster import lease_state_of
from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import POOL, eventually, fill_pool, standing
from tests.unit.cli_kubectl.conftest import Run

ROOM = {"node": "host-a", "gpuUUID": "GPU-1", "memoryBytes": 8 * GIB, "corePercent": 30}


@pytest.fixture(autouse=True)
def pool(api: ApiServer) -> None:
    fill_pool(api)


def stored(api: ApiServer, name: str = "mine") -> Any:
    found = api.store.get("gpuleases", "default", name)
    assert found is not None
    return found


def change(api: ApiServer, spec: dict[str, Any], status: dict[str, Any]) -> None:
    """As the system writes it; ``None`` takes away."""
    old = stored(api)
    parts = {"spec": old["spec"] | spec, "status": (old.get("status") or {}) | status}
    kept = {part: {k: v for k, v in fields.items() if v is not None} for part, fields in parts.items()}
    api.store.put("gpuleases", old | kept)


def served(api: ApiServer) -> None:
    executor = {"namespace": POOL, "name": "executor-mine"}
    change(api, {"slice": ROOM, "target": None}, {"phase": "Detached", "executor": executor, "unmoved": None})


async def test_a_lease_is_made_of_what_was_asked_and_of_nothing_else(run: Run, api: ApiServer) -> None:
    api.store.put("namespaces", {"metadata": {"name": "team", "uid": "team"}})
    done = await run(
        "lease", "create", "team/mine", "--gpu-mem", "8Gi", "--gpu-core", "30", "--gpu-model", "a100,!h100",
        "--annotation", "tessera.io/placement=pack", "--annotation", "tessera.io/enforcement=1", "--no-wait",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stdout == "GPULease team/mine: 8Gi, 30% of its compute, were asked for\n"
    made = api.store.get("gpuleases", "team", "mine")
    assert made is not None
    wanted = {"memoryBytes": 8 * GIB, "corePercent": 30}
    assert made["spec"] == {"standing": True, "wanted": wanted}
    assert made["metadata"]["annotations"] == {
        "tessera.io/gpu-model": "a100,!h100", "tessera.io/placement": "pack", "tessera.io/enforcement": "1",
    }  # fmt: skip
    again = await run("lease", "create", "team/mine", "--gpu-mem", "4Gi", "--no-wait")
    assert again.exit_code == 1 and again.stderr.startswith("error: ") and "already exists" in again.stderr
    assert api.store.get("gpuleases", "team", "mine") == made


async def test_without_compute_there_is_no_cap_and_memory_is_whole_mib(run: Run, api: ApiServer) -> None:
    done = await run("lease", "create", "mine", "--gpu-mem", "1000M", "--no-wait")
    assert done.stdout == "GPULease default/mine: 954Mi, compute without a cap, were asked for\n"
    assert stored(api)["spec"]["wanted"] == {"memoryBytes": 954 << 20, "corePercent": 0}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--gpu-mem", "0"], "--gpu-mem: found '0'; allowed: whole bytes from 1 to 64Ti"),
        (["--gpu-mem", "4Gi", "--gpu-core", "200"], "--gpu-core: found '200'; allowed: a whole number from 0"),
        (["--gpu-mem", "4Gi", "--gpu-model", "a,,b"], "metadata.annotations[tessera.io/gpu-model]: found 'a,,b'"),
        (["--gpu-mem", "4Gi", "--annotation", "x"], "--annotation: found 'x'; allowed: KEY=VALUE"),
        (["--gpu-mem", "4Gi", "--annotation", "=x"], "--annotation: found '=x'; allowed: KEY=VALUE"),
        (["--gpu-mem", "4Gi", "--annotation", "tessera.io/remote=never"],
         "metadata.annotations: found 'tessera.io/remote'; allowed: tessera.io/placement, tessera.io/gpu-model"),
        (["--gpu-mem", "4Gi", "--gpu-model", "a", "--annotation", "tessera.io/gpu-model=b"],
         "--annotation: found 'tessera.io/gpu-model=b'; allowed: tessera.io/gpu-model once"),
        (["--gpu-mem", "4Gi", "--annotation", "tessera.io/qos=fast"],
         "metadata.annotations[tessera.io/qos]: found 'fast'; allowed: guaranteed, burstable"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_is_one_sentence(run: Run, api: ApiServer, argv: list[str], says: str) -> None:
    refused = await run("lease", "create", "mine", *argv)
    assert refused.exit_code == 1 and refused.stderr.startswith(f"error: {says}"), refused.output
    assert refused.stderr.count("\n") == 1 and api.store.get("gpuleases", "default", "mine") is None


async def test_a_name_that_cannot_be_and_a_missing_right_are_the_servers_to_say(run: Run, api: ApiServer) -> None:
    odd = await run("lease", "create", "Mine", "--gpu-mem", "4Gi")
    assert odd.exit_code == 1 and "RFC 1123" in odd.stderr
    api.faults.fail_next(1, status=403, verb="create", plural="gpuleases")
    assert (await run("lease", "create", "mine", "--gpu-mem", "4Gi")).exit_code == 1


async def test_create_waits_until_it_serves_and_tells_each_cause_once(run: Run, api: ApiServer) -> None:
    command = asyncio.create_task(run("lease", "create", "mine", "--gpu-mem", "8Gi", "--gpu-core", "30", "-o", "json"))
    await eventually(lambda: api.store.get("gpuleases", "default", "mine") is not None, "it is made")
    assert not command.done()
    served(api)
    done = await command
    assert done.exit_code == 0, done.output
    assert done.stderr == "GPULease default/mine waits: room for it is looked for\n"
    found = json.loads(done.stdout)
    assert (found["phase"], found["uuid"], found["standing"], found["pod"]) == ("Detached", "GPU-1", True, "")


async def test_the_way_from_no_room_to_service_is_told(api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine", room=False, phase="Pending"))
    steps: list[Callable[[], None]] = [
        lambda: change(api, {}, {"unmoved": "3 GPUs: 3 not enough memory"}),
        lambda: change(api, {"target": ROOM}, {"unmoved": None}),
        lambda: change(api, {"target": None, "slice": ROOM}, {}),
        lambda: change(api, {}, {"phase": "Reserved", "message": "its image is pulled"}),
        lambda: served(api),
    ]
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text.removeprefix("GPULease default/mine waits: "))
        steps[len(told) - 1]()

    async with Gateway(plain(api.url)) as gateway, asyncio.timeout(30):
        asked = lease_state_of(await gateway.get(GPU_LEASES, "mine", namespace="default"))
        _, done = await wait_for(gateway, asked, 25.0, tell)
    assert done and told == [
        "room for it is looked for",
        "3 GPUs: 3 not enough memory",
        "8Gi of GPU-1 on host-a are kept, and an executor is made there",
        "it has its size and is Pending: its room is kept, and no executor serves yet",
        "it has its size and is Reserved: its image is pulled",
    ]


async def test_status_3_says_why_there_is_no_room(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine", room=False, phase="Pending", unmoved="no GPU is free"))
    late = await run("lease", "start", "mine", "--timeout", "1")
    assert (late.exit_code, late.stderr) == (3, "GPULease default/mine waits: no GPU is free\n")
    assert late.stdout == "GPULease default/mine: 8Gi, 30% of its compute, were asked for\n"


async def test_stop_waits_until_the_room_is_given_back(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine"))
    command = asyncio.create_task(run("lease", "stop", "mine"))
    await eventually(lambda: bool(stored(api)["spec"].get("stopped")), "its stop is asked for")
    change(api, {}, {"phase": "Stopped", "executor": None, "endpoint": None})
    assert not command.done()
    change(api, {"slice": None}, {})
    done = await command
    assert done.exit_code == 0, done.output
    assert done.stderr == "GPULease default/mine waits: its room is given back once its executor is gone\n"
    said = "GPULease default/mine is stopped and has no room; once started it has 8Gi, 30% of its compute\n"
    assert done.stdout == said
    again = await run("lease", "stop", "mine", "-o", "json")
    assert again.exit_code == 0 and json.loads(again.stdout)["stopped"] is True


async def test_a_stop_that_takes_longer_is_status_3_and_one_that_is_not_waited_for_is_0(
    run: Run, api: ApiServer
) -> None:
    api.store.put("gpuleases", standing("mine"))
    asked = await run("lease", "stop", "mine", "--no-wait")
    assert (asked.exit_code, asked.stdout) == (0, "GPULease default/mine was asked to stop\n")
    late = await run("lease", "stop", "mine", "--timeout", "1")
    assert (late.exit_code, late.stdout) == (3, "GPULease default/mine was asked to stop\n")


async def test_start_takes_the_stop_back_and_waits_for_service(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine", room=False, phase="Stopped", stopped=True))
    command = asyncio.create_task(run("lease", "start", "mine"))
    await eventually(lambda: "stopped" not in stored(api)["spec"], "its start is asked for")
    served(api)
    done = await command
    assert (done.exit_code, done.stderr) == (0, "GPULease default/mine waits: room for it is looked for\n")
    assert done.stdout == "GPULease default/mine has 8Gi of GPU-1 on host-a, 30% of its compute\n"


async def test_one_that_is_used_is_not_stopped_and_a_pods_own_is_never(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine", pod_name="train", phase="Active"))
    used = await run("lease", "stop", "mine")
    assert used.exit_code == 1
    assert used.stderr == "error: GPULease default/mine: found 'one used by pod train'; allowed: one that no pod uses\n"
    for verb in ("stop", "start"):
        refused = await run("lease", verb, "train-1")
        assert refused.exit_code == 1
        assert "found 'one made for pod train'; allowed: a standing one, which users make" in refused.stderr
    assert "stopped" not in stored(api)["spec"] and "stopped" not in stored(api, "train-1")["spec"]
    missing = await run("lease", "stop", "none")
    assert missing.exit_code == 1 and "none" in missing.stderr


async def test_another_size_of_a_stopped_one_is_for_its_next_start(run: Run, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine", room=False, phase="Stopped", stopped=True))
    done = await run("lease", "resize", "mine", "--gpu-mem", "16Gi")
    assert (done.exit_code, done.stderr) == (0, "")
    said = "GPULease default/mine is stopped and has no room; once started it has 16Gi, 30% of its compute\n"
    assert done.stdout == said and stored(api)["spec"]["wanted"]["memoryBytes"] == 16 * GIB


@pytest.mark.parametrize(
    ("stopped", "then", "says"),
    [(False, {"stopped": True}, "was stopped while"), (True, {"stopped": None}, "was started while")],
)
async def test_who_waits_is_told_that_somebody_asked_for_the_opposite(
    api: ApiServer, stopped: bool, then: dict[str, Any], says: str
) -> None:
    api.store.put("gpuleases", standing("mine", room=stopped, phase="Pending", stopped=stopped))
    async with Gateway(plain(api.url)) as gateway, asyncio.timeout(30):
        asked = lease_state_of(await gateway.get(GPU_LEASES, "mine", namespace="default"))
        with pytest.raises(Overtaken, match=says):
            await wait_for(gateway, asked, 25.0, lambda _: change(api, then, {}))
