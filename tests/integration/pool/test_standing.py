"""Standing leases at the controller: served before there is a pod, by another executor after each, stopped, started.

Over real gRPC and real TLS; the scheduler's part, room and clients, is written as the scheduler writes it.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tessera.kube import wire
from tessera.kube.convert import gpu_lease_of
from tessera.kube.lease_use import part, use
from tessera.kube.lease_verbs import ask_end, ask_new, ask_no_user, ask_stopped
from tessera.kube.resources import GPU_LEASES, PODS, untyped
from tessera.model import names
from tessera.model.assignment import Assignment
from tessera.model.gpu_leases import Client, GpuLease, Size, Slice
from tessera.remote.controller.deciding import UNBOUND_S
from tessera.remote.protocol.frames import Kind
from tests.integration.pool.stage import SHARE, TARGET, Stage, stage, until

ROOM = Slice("gpu-node", SHARE)


class Pool:
    """A stage with one standing lease."""

    def __init__(self, found: Stage) -> None:
        self.stage = found

    async def made(self, **annotations: str) -> GpuLease:
        size = Size(SHARE.mem_bytes, SHARE.core_percent)
        lease = gpu_lease_of(await ask_new(self.stage.gateway, "default", "mine", size, annotations))
        await self.stage.phase(lease, "Pending")
        return lease

    async def served(self, **annotations: str) -> GpuLease:
        lease = await self.made(**annotations)
        await self.stage.target(lease, ROOM)
        await self.stage.phase(lease, "Detached")
        return lease

    async def read(self) -> wire.GpuLease:
        return await self.stage.gateway.get(GPU_LEASES, "mine", namespace="default")

    async def used(self, lease: GpuLease, name: str, *, bound: bool = True) -> GpuLease:
        """A pod comes to use it, as the binder has it."""
        limits = {names.GPU_MEM: str(SHARE.mem_bytes), names.SLICE: "1"}
        container = {"name": "main", "image": "pytorch", "resources": {"limits": limits}}
        body = {"metadata": {"name": name}, "spec": {"schedulerName": "tessera", "containers": [container]}}
        made = await self.stage.gateway.create(untyped(PODS), body, namespace="default")
        taken = replace(lease, client=Client(name, made["metadata"]["uid"], "main", "cpu-node"))
        await use(self.stage.gateway, taken)
        if bound:
            await self.stage.bind(taken)
        return taken

    def executor(self) -> dict[str, Any]:
        (found,) = self.stage.executors()
        return dict(found["metadata"])


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with stage() as found:
        yield Pool(found)


async def test_it_is_held_placed_and_served_without_a_pod(pool: Pool) -> None:
    lease = await pool.served(**{names.QOS: "best-effort"})
    found = await pool.read()
    assert found.metadata.finalizers == [names.LEASE_FINALIZER]
    assert found.spec.slice and found.spec.slice.node == "gpu-node" and found.spec.target is None
    assert found.status.endpoint and found.status.client == ""
    assert pool.executor()["annotations"][names.QOS] == "best-effort"
    kind, refused = await pool.stage.hello(lease, "no token")
    assert kind is Kind.REFUSED and "used by no pod" in refused.text


async def test_a_pod_comes_to_a_warm_executor_and_the_next_pod_to_another(pool: Pool) -> None:
    lease = await pool.served()
    warm = pool.executor()
    first = await pool.used(lease, "first")
    ready = await pool.stage.phase(lease, "Ready", client=first.pod_uid)
    assert pool.executor()["uid"] == warm["uid"], "it was made before"
    await pool.stage.attach(first, "slot-1")
    await pool.stage.phase(lease, "Active", epoch=ready["epoch"] + 1)
    kind, refused = await pool.stage.hello(first, pool.stage.token("first"))
    assert kind is Kind.REFUSED and refused.reason == "Torch", "it is let in to the executor"
    await pool.stage.end("first", phase="Succeeded")
    await pool.stage.phase(lease, "Detached")
    await until(lambda: len(pool.stage.executors()) == 1, "the former executor to be gone")
    assert pool.executor()["uid"] != warm["uid"], "whoever used it may have taken it over"
    found = await pool.read()
    assert found.spec.client is None and found.spec.attach is None and found.status.attached is None
    second = await pool.used(lease, "second")
    await pool.stage.phase(lease, "Ready", client=second.pod_uid)
    kind, refused = await pool.stage.hello(second, pool.stage.token("second"))
    assert kind is Kind.REFUSED and refused.reason == "Torch"


async def test_a_pod_that_has_left_is_let_in_no_more(pool: Pool) -> None:
    lease = await pool.served()
    first = await pool.used(lease, "first")
    await pool.stage.phase(lease, "Ready", client=first.pod_uid)
    former, token = pool.executor(), pool.stage.token("first")
    await ask_no_user(pool.stage.gateway, await pool.read())
    await until(lambda: former["uid"] not in {e["metadata"]["uid"] for e in pool.stage.executors()}, "its end")
    await pool.stage.phase(lease, "Detached")
    kind, refused = await pool.stage.hello(lease, token)
    assert kind is Kind.REFUSED and "used by no pod" in refused.text
    second = await pool.used(lease, "second")
    await pool.stage.phase(lease, "Ready", client=second.pod_uid)
    kind, refused = await pool.stage.hello(lease, token)
    assert kind is Kind.REFUSED and "found that of pod default/first" in refused.text


async def test_a_pod_that_is_not_bound_in_time_is_taken_off() -> None:
    """However long the lease has been there before: the time begins when the controller sees the pod."""
    now = [1000.0]
    async with stage(clock=lambda: now[0]) as found:
        pool = Pool(found)
        lease = await pool.served()
        now[0] += 3600.0
        await pool.used(lease, "late", bound=False)

        def free() -> bool:
            now[0] += UNBOUND_S / 10
            found.service.keeper.touch(lease.key)
            return "client" not in found.spec(lease)

        await until(free, "the pod to be taken off")


async def test_stopped_it_has_neither_executor_nor_room_and_started_both(pool: Pool) -> None:
    lease = await pool.served()
    pool.stage.kubelet.held = True
    await ask_stopped(pool.stage.gateway, await pool.read(), stopped=True)
    await pool.stage.phase(lease, "Stopped")
    assert (await pool.read()).spec.slice, "room is kept while an executor has it"
    pool.stage.kubelet.held = False
    await until(lambda: not pool.stage.executors() and "slice" not in pool.stage.spec(lease), "its room to be free")
    await ask_stopped(pool.stage.gateway, await pool.read(), stopped=False)
    await pool.stage.phase(lease, "Pending")
    await pool.stage.target(lease, TARGET)
    await pool.stage.phase(lease, "Detached")
    assert pool.executor()["annotations"][names.LEASE] == lease.key
    assert (await pool.read()).spec.slice.node == TARGET.node  # type: ignore[union-attr]


async def test_an_executor_that_dies_is_made_again(pool: Pool) -> None:
    lease = await pool.served()
    former = pool.executor()
    await pool.stage.kubelet.kill(former["name"])
    await until(lambda: former["uid"] not in {e["metadata"]["uid"] for e in pool.stage.executors()}, "its end")
    await pool.stage.phase(lease, "Detached")
    assert pool.executor()["uid"] != former["uid"]


async def test_it_moves_without_a_pod(pool: Pool) -> None:
    lease = await pool.served()
    await pool.stage.target(lease, TARGET)
    await until(lambda: pool.stage.spec(lease).get("slice", {}).get("node") == TARGET.node, "the slice to be another")
    await pool.stage.phase(lease, "Detached")
    assert "target" not in pool.stage.spec(lease)


async def test_its_end_leaves_nothing_whoever_uses_it(pool: Pool) -> None:
    lease = await pool.served()
    used = await pool.used(lease, "first")
    await pool.stage.phase(lease, "Ready", client=used.pod_uid)
    await ask_end(pool.stage.gateway, await pool.read())
    await until(pool.stage.nothing_left, "nothing left")


@pytest.mark.parametrize("step", ["part", "status", "executor"])
async def test_another_controller_goes_on_with_a_pods_leaving(pool: Pool, step: str) -> None:
    """The first one ends before, or at, each of its steps."""
    lease = await pool.served()
    used = await pool.used(lease, "first")
    await pool.stage.phase(lease, "Ready", client=used.pod_uid)
    former = pool.executor()
    faults = pool.stage.server.faults
    match step:
        case "part":
            faults.lose_answers(1, verb="patch", plural="gpuleases")
        case "status":
            await part(pool.stage.gateway, (await pool.read()).metadata)
        case "executor":
            faults.fail_next(3, status=503, verb="delete", plural="pods")
    await pool.stage.end("first", phase="Failed")
    await pool.stage.stop()
    faults.clear()
    await pool.stage.start()
    await until(lambda: former["uid"] not in {e["metadata"]["uid"] for e in pool.stage.executors()}, "its end", 30)
    await pool.stage.phase(lease, "Detached")
    assert (await pool.read()).spec.client is None


async def test_an_assignment_that_names_the_lease_is_no_word_of_the_leases(pool: Pool) -> None:
    """A pod that is bound with the lease's name and is not its client is not let in."""
    lease = await pool.served()
    used = await pool.used(lease, "first")
    await pool.stage.phase(lease, "Ready", client=used.pod_uid)
    other = await pool.stage.client("other")
    assert Assignment((), "", (("main", other.name),)).lease_of("main") != lease.name
    kind, refused = await pool.stage.hello(lease, pool.stage.token("other"))
    assert kind is Kind.REFUSED and "found that of pod default/other" in refused.text
