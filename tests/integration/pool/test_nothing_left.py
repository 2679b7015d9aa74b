"""A hundred leases, made and ended in any order, while executors and controllers are killed and answers are lost."""

import asyncio
import random

import pytest

from tessera.kube.errors import KubeError
from tessera.kube.resources import PODS
from tests.integration.pool.process import ControllerProcess
from tests.integration.pool.stage import POOL, Stage, stage, until

LEASES, CRASHES = 100, 4


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_left_of_a_hundred_leases(seed: int) -> None:
    rng = random.Random(seed)
    async with stage(started=False) as pool:
        # A gate costs a thread of each kind: some have one, the others never serve.
        pool.kubelet.with_gates = lambda: rng.random() < 0.1
        async with ControllerProcess(pool.settings) as controller:
            crashes = set(rng.sample(range(2 * LEASES), CRASHES))
            alive: list[str] = []
            orders = ["make"] * LEASES
            for number in range(2 * LEASES):
                if number in crashes:
                    await controller.kill()
                    await controller.start()
                if orders and (not alive or rng.random() < 0.5):
                    orders.pop()
                    alive.append(await made(pool, rng, number))
                elif alive:
                    await ended(pool, rng, alive.pop(rng.randrange(len(alive))))
                await disturbed(pool, rng)
                await asyncio.sleep(rng.random() * 0.02)
            while alive:
                await ended(pool, rng, alive.pop())
            pool.server.faults.clear()
            await until(pool.nothing_left, "nothing left", 60)
            assert [each["metadata"]["name"] for each in pool.server.store.list("secrets")] == ["tessera-pool-ca"]
            assert not pool.server.store.list("pods", POOL)


async def made(pool: Stage, rng: random.Random, number: int) -> str:
    name = f"pod-{number}"
    lease = await retried(lambda: pool.client(name, bound=rng.random() < 0.9))
    if rng.random() < 0.5 and lease is not None:
        await retried(lambda: pool.attach(lease, f"slot-{number}"))
    return name


async def ended(pool: Stage, rng: random.Random, name: str) -> None:
    if pool.server.store.get("pods", "default", name) is None:
        return
    phase = rng.choice(["", "", "Failed", "Succeeded"])
    await retried(lambda: pool.end(name, phase=phase))


async def disturbed(pool: Stage, rng: random.Random) -> None:
    match rng.randrange(8):
        case 0:
            pool.server.faults.lose_answers(1, verb=rng.choice(["create", "patch", "delete"]))
        case 1:
            pool.server.faults.fail_next(1, 503, verb=rng.choice(["get", "create", "patch", "delete"]))
        case 2:
            pool.server.faults.drop_watches()
        case 3:
            pool.server.compact()
        case 4 if executors := pool.executors():
            name = rng.choice(executors)["metadata"]["name"]
            await retried(lambda: pool.gateway.delete(PODS, name, namespace=POOL))


async def retried(write):  # type: ignore[no-untyped-def]
    """The test's own requests meet the faults too; what is there already was done."""
    for _ in range(20):
        try:
            return await write()
        except KubeError as error:
            if "AlreadyExists" in str(error) or "NotFound" in str(error):
                return None
            await asyncio.sleep(0.01)
    raise AssertionError("not done")
