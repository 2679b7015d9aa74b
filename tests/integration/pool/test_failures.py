"""Executors that end, controllers that end, answers that are lost: the lease comes to where it belongs."""

from collections.abc import AsyncIterator

import pytest

from tessera.kube.errors import ApiError
from tessera.kube.resources import DISRUPTION_BUDGETS, PODS, untyped
from tessera.model import names
from tessera.remote.controller.service import Service
from tests.integration.pool.process import ControllerProcess
from tests.integration.pool.stage import POOL, Stage, stage, until


@pytest.fixture
async def pool() -> AsyncIterator[Stage]:
    async with stage() as found:
        yield found


@pytest.mark.parametrize("how", ["its container ends", "somebody deletes it"])
async def test_an_executor_that_ends_is_lost_and_another_serves_the_next_epoch(pool: Stage, how: str) -> None:
    lease = await pool.serving()
    before = pool.status(lease)
    name = before["executor"]["name"]
    if how == "its container ends":
        await pool.kubelet.kill(name)
    else:
        await pool.gateway.delete(PODS, name, namespace=POOL)
    after = await pool.phase(lease, "Active", epoch=before["epoch"] + 1)
    assert after["executor"]["name"] != name and after["endpoint"] != before["endpoint"]
    assert after["attached"] == before["attached"], "the container has not started anew"
    await until(lambda: len(pool.executors()) == 1, "the former one to be gone")
    events = {each["reason"] for each in pool.server.store.list("events", "default")}
    assert {"SliceLost", "SliceServed"} <= events


async def test_a_controller_that_is_killed_leaves_sessions_alone_and_goes_on(pool: Stage) -> None:
    await pool.stop()
    async with ControllerProcess(pool.settings) as controller:
        lease = await pool.serving()
        before = pool.status(lease)
        await controller.kill()
        kept = set(pool.kubelet.running)
        await pool.attach(lease, "slot-1", "c0ffee")
        await controller.start()
        after = await pool.phase(lease, "Active", epoch=before["epoch"] + 1)
        assert (after["executor"], after["endpoint"]) == (before["executor"], before["endpoint"])
        assert set(pool.kubelet.running) == kept
        _, answer = await pool.hello(lease, pool.token("train"))
        assert answer.reason == "Torch", "the gate has found the controller again"
        await pool.end("train")
        await until(pool.nothing_left, "nothing left")
        assert await controller.end() == 0


@pytest.mark.parametrize("verb", ["create", "patch", "delete"])
@pytest.mark.parametrize("how", ["lose", "fail"])
async def test_answers_that_are_lost_and_requests_that_fail(pool: Stage, verb: str, how: str) -> None:
    lease = await pool.client("train", bound=False)
    faults = pool.server.faults
    for plural in ("pods", "gpuleases"):
        faults.lose_answers(2, verb=verb, plural=plural) if how == "lose" else faults.fail_next(
            2, 503, verb=verb, plural=plural
        )
    await pool.bind(lease)
    await pool.phase(lease, "Ready")
    assert len(pool.executors()) == 1
    pool.server.store.remove("pods", "default", "train")
    await until(pool.nothing_left, "nothing left")


async def test_an_executor_that_may_not_be_made_is_said_on_its_lease(pool: Stage) -> None:
    """A quota, a policy of the pool's namespace, a priority class that is gone: who waits for it learns of it."""
    lease = await pool.client("train", bound=False)
    pool.server.faults.fail_next(1000, 403, verb="create", plural="pods")
    await pool.bind(lease)
    status = await until(lambda: pool.status(lease).get("message") and pool.status(lease), "a message")
    said = f"executor {status['executor']['name']} is not taken: "
    assert status["phase"] == "Reserved" and status["message"].startswith(said)
    pool.server.faults.clear()
    assert "message" not in await pool.phase(lease, "Ready")


async def test_a_lease_whose_pod_is_not_bound_with_it_is_swept() -> None:
    clock = [0.0]
    async with stage(clock=lambda: clock[0]) as pool:
        unbound, elsewhere = await pool.client("unbound", bound=False), await pool.client("elsewhere", leased=False)
        bound = await pool.client("bound")
        await pool.phase(bound, "Ready")
        await until(lambda: pool.service.book.lease(unbound.key) and pool.service.book.lease(elsewhere.key), "known")
        assert pool.status(unbound) == {} and len(pool.executors()) == 1
        pool.service.keeper.touch(unbound.key)
        pool.service.keeper.touch(elsewhere.key)
        clock[0] = 61.0
        for lease in (unbound, elsewhere):
            pool.service.keeper.touch(lease.key)
        leases = pool.server.store.list
        await until(lambda: [each["metadata"]["name"] for each in leases("gpuleases")] == [bound.name], "swept")
        assert pool.status(bound)["phase"] == "Ready"


async def test_an_executor_without_a_lease_is_swept(pool: Stage) -> None:
    lease = await pool.serving()
    (mine,) = pool.executors()
    stray = {**mine, "metadata": {**mine["metadata"], "name": "executor-stray"}, "spec": {**mine["spec"]}}
    stray["spec"].pop("nodeName")
    stray["metadata"]["labels"] = {names.LEASE_UID: "gone"}
    await pool.stop()
    await pool.gateway.create(untyped(PODS), stray, namespace=POOL)
    await pool.start()
    await until(lambda: [each["metadata"]["name"] for each in pool.executors()] == [mine["metadata"]["name"]], "swept")
    assert pool.status(lease)["phase"] == "Active"


async def test_an_eviction_does_not_end_an_executor_in_use(pool: Stage) -> None:
    """The chart's budget, as the disruption controller counts it."""
    lease = await pool.serving()
    (executor,) = pool.executors()
    selector = {"matchLabels": {"app.kubernetes.io/component": "pool-executor"}}
    budget = {"metadata": {"name": "executors"}, "spec": {"minAvailable": 2147483647, "selector": selector}}
    await pool.gateway.create(DISRUPTION_BUDGETS, budget, namespace=POOL)
    status = {"status": {"disruptionsAllowed": 0, "desiredHealthy": 2147483647, "currentHealthy": 1}}
    await pool.gateway.merge_patch(DISRUPTION_BUDGETS, "executors", status, namespace=POOL, subresource="status")
    with pytest.raises(ApiError) as error:
        await pool.gateway.evict(POOL, executor["metadata"]["name"])
    assert error.value.too_many_requests
    await pool.end("train")
    await until(pool.nothing_left, "the pool itself ends it")
    assert pool.status(lease) == {}


async def test_who_does_not_lead_answers_no_gate_and_touches_nothing(pool: Stage) -> None:
    standby = pool.settings.model_copy(update={"identity": "standby", "port": 0, "metrics_port": 0})
    second = Service(standby)
    await second.start()
    try:
        await until(lambda: second.synced, "the second to know the cluster")
        assert not second.leads()
        lease = await pool.serving()
        assert len(pool.executors()) == 1
        await pool.stop()
        await until(second.leads, "the second to lead", 30)
        await pool.attach(lease, "slot-1", "c0ffee")
        raised = await until(lambda: pool.status(lease)["epoch"] == 3 and pool.status(lease), "the next epoch")
        assert raised["phase"] == "Reserved", "its gate does not know the address of the second"
    finally:
        await second.stop()
