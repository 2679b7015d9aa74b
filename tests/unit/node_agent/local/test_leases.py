"""What becomes of leases that nobody's connection holds, at whatever step their agent ended."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.model.assignment import Share
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.watch import Watch
from tessera.node_agent.gpus import Gpus
from tessera.node_agent.health import Rules
from tessera.node_agent.inventory import Inventory
from tessera.node_agent.local.clients import Clients
from tessera.node_agent.local.homes import CgroupHomes
from tessera.node_agent.local.leases import FIELD, NAMESPACE, Leases, container_of
from tessera.node_agent.preparation import Preparation
from tessera.node_agent.slices import Slice, SliceStore

LEASE = Slice("run-1", "11111111-2222-3333-4444-555555555555", NAMESPACE, "uid-0", FIELD, (Share("GPU-0", 1, 0),))
KILLED = -9


class LateHomes(CgroupHomes):
    """A process that was being let in gets in just before the home is taken away."""

    late: int = 0

    def remove(self, container: Container) -> None:
        pid, self.late = self.late, 0
        if pid:
            self.join(container, pid)
        super().remove(container)


@pytest.fixture
def homes(cgroups: Path) -> Iterator[LateHomes]:
    made = LateHomes(cgroups)
    yield made
    made.remove(container_of(LEASE))


@pytest.fixture
def store(tmp_path: Path) -> SliceStore:
    """With the lease on record."""
    made = SliceStore(tmp_path)
    made.put(LEASE)
    return made


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"]) as child:
        yield child
        child.kill()


def leases_of(store: SliceStore, homes: CgroupHomes) -> Leases:
    """Of an agent that has just come."""
    inventory = Inventory(Rules(1, 0.0), store.folder("x").parent / "inventory.json", "", time.monotonic)
    gpus = Gpus(inventory, Watch(), lambda _: 0)
    return Leases(Preparation(store, gpus, Watch()), store, gpus, homes)


def record_ended_client(store: SliceStore) -> None:
    clients = Clients(store.folder)
    with subprocess.Popen(["sleep", "600"]) as child:
        client = clients.look(child.pid)
        child.kill()
    assert client is not None
    clients.put(LEASE.id, client)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_lease_in_which_nothing_was_started_is_released(store: SliceStore, homes: LateHomes, recorded: bool):
    """Its agent ended before the client was on record, or after."""
    if recorded:
        record_ended_client(store)
    asyncio.run(leases_of(store, homes).sweep())
    assert not list(store) and not list(SliceStore(store.folder("x").parents[1]))


def test_what_a_client_left_behind_is_ended_first(
    store: SliceStore, homes: LateHomes, process: "subprocess.Popen[bytes]"
):
    record_ended_client(store)
    homes.make(container_of(LEASE), None)
    homes.join(container_of(LEASE), process.pid)
    leases = leases_of(store, homes)
    asyncio.run(leases.sweep())
    assert [item.id for item in store] == [LEASE.id] and process.wait(60) == KILLED
    asyncio.run(leases.sweep())
    assert not list(store)


def test_a_command_of_an_agent_that_recorded_no_clients_goes_on(
    store: SliceStore, homes: LateHomes, process: "subprocess.Popen[bytes]"
):
    homes.make(container_of(LEASE), None)
    homes.join(container_of(LEASE), process.pid)
    leases = leases_of(store, homes)
    asyncio.run(leases.sweep())
    assert process.poll() is None and list(store)
    process.kill()
    process.wait()
    asyncio.run(leases.sweep())
    assert not list(store)


def test_who_is_let_in_while_the_lease_ends_is_ended_too(
    store: SliceStore, homes: LateHomes, process: "subprocess.Popen[bytes]"
):
    """Though the client, which hung up, has not ended."""
    clients = Clients(store.folder)
    me = clients.look(os.getpid())
    assert me is not None
    clients.put(LEASE.id, me)
    homes.make(container_of(LEASE), me)
    leases = leases_of(store, homes)
    homes.late = process.pid

    async def end() -> None:
        await leases.end(LEASE.id)
        assert list(store) and process.poll() is None, "it has come between the last look and the end"
        assert await leases.join(LEASE.id, 0, process.pid) is not None
        await leases.sweep()

    asyncio.run(end())
    assert process.wait(60) == KILLED
    asyncio.run(leases.sweep())
    assert not list(store)
