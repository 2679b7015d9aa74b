"""PodResources is rate limited and shared: one List serves many, and a refused one is tried again."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tessera.device_plugin.flights import SharedCall
from tessera.device_plugin.podresources import Place, PodResources
from tessera.simulator.kubelet.devices import DeviceTable, Held
from tessera.simulator.kubelet.podresources import PodResourcesServer

POD = {
    "metadata": {"name": "web", "namespace": "ns", "uid": "u"},
    "spec": {"containers": [{"name": "main"}], "initContainers": [{"name": "init"}]},
}


@pytest.fixture
async def server() -> AsyncIterator[PodResourcesServer]:
    folder = Path(tempfile.mkdtemp(prefix="tsr-"))
    held = [
        Held("u", name, "tessera.io/slice", (slot,), b"") for name, slot in (("main", "slot-1"), ("init", "slot-2"))
    ]
    made = PodResourcesServer(folder / "s.sock", DeviceTable(held=held), lambda: [POD], per_s=20, burst=3)
    await made.start()
    yield made
    await made.stop()
    shutil.rmtree(folder)


async def test_sixty_callers_share_two_lists(server: PodResourcesServer) -> None:
    client = PodResources(server.socket)
    answers = await asyncio.gather(*(client.slots() for _ in range(60)))
    assert all(answer == {"slot-1": [Place("ns", "web", "main")]} for answer in answers)
    assert server.lists <= 2
    await client.close()


async def test_a_list_refused_by_the_rate_limit_is_tried_again(server: PodResourcesServer) -> None:
    client = PodResources(server.socket, jitter=lambda: 0.5)
    for _ in range(8):
        assert await client.slots()
    assert server.refused > 0 and server.lists == 8
    await client.close()


async def test_a_caller_is_never_served_by_a_call_that_began_before_it() -> None:
    begun, started, gate = 0, asyncio.Event(), asyncio.Event()

    async def call() -> int:
        nonlocal begun
        begun += 1
        number = begun
        started.set()
        await gate.wait()
        return number

    shared = SharedCall(call)
    first = asyncio.create_task(shared())
    await started.wait()
    late = [asyncio.create_task(shared()) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    assert await first == 1
    assert await asyncio.gather(*late) == [2] * 5


async def test_a_caller_that_gives_up_does_not_harm_the_others() -> None:
    gate = asyncio.Event()

    async def call() -> str:
        await gate.wait()
        return "done"

    shared = SharedCall(call)
    tasks = [asyncio.create_task(shared()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    gate.set()
    assert await tasks[0] == await tasks[2] == "done"


async def test_an_error_reaches_every_caller_of_that_call() -> None:
    async def call() -> str:
        raise OSError("no")

    shared = SharedCall(call)
    results = await asyncio.gather(*(shared() for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError] * 3
