"""What the controller's door bears: calls at once, what they carry, and reviews that they cost the API server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tessera.kube.resources import PODS
from tessera.model.gpu_leases import GpuLease
from tessera.pb.remote.v1 import remote_pb2
from tessera.remote.controller import pool as serving
from tessera.remote.controller.reviewed import KEPT_S
from tessera.remote.executor.refusals import Refusal
from tessera.remote.gate.controller import Controller
from tests.integration.pool.stage import POOL, Stage, stage, until
from tests.integration.pool.test_refusals import controller, refusals, request

SESSIONS = 12
"""All may come back at once, and no more."""


class Clock:
    """The controller's."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pool(clock: Clock) -> AsyncIterator[Stage]:
    async with stage(clock=clock, sessions=SESSIONS) as found:
        yield found


@pytest.fixture
async def lease(pool: Stage) -> GpuLease:
    return await pool.serving("train")


@pytest.fixture
async def called(pool: Stage, lease: GpuLease, tmp_path: Path) -> AsyncIterator[Controller]:
    """The controller as the lease's gate sees it."""
    (token,) = pool.kubelet.tokens.values()
    found = controller(pool, tmp_path, token)
    yield found
    found.close()


async def code_of(called: Controller) -> grpc.StatusCode:
    try:
        await asyncio.to_thread(called.sign, request())
    except grpc.RpcError as error:
        return error.code()  # type: ignore[no-any-return]
    return grpc.StatusCode.OK


async def test_who_comes_too_often_is_told_to_come_again_and_others_are_not_held_up(
    pool: Stage, lease: GpuLease, clock: Clock
) -> None:
    other = await pool.client("other")
    await pool.phase(other, "Ready")
    for _ in range(SESSIONS):
        _, answer = await pool.hello(lease, "forged")
        assert answer.reason == "Denied"
    token = pool.token("train")
    _, answer = await pool.hello(lease, token)
    assert answer.reason == "Busy" and "12 at once, then 2 a second" in answer.text
    assert refusals(pool, "Admit", "rate") == 1
    _, answer = await pool.hello(other, pool.token("other"))
    assert answer.reason == "Torch", "it is let in"
    clock.now += 1
    answers = [(await pool.hello(lease, token))[1].reason for _ in range(3)]
    assert answers == ["Torch", "Torch", "Busy"] and refusals(pool, "Admit", "rate") == 2


async def test_a_clients_token_is_reviewed_each_time(pool: Stage, lease: GpuLease) -> None:
    token = pool.token("train")
    assert (await pool.hello(lease, token))[1].reason == "Torch"
    pool.server.handlers.reviews.revoke(token)
    assert (await pool.hello(lease, token))[1].reason == "Denied"


async def test_a_gates_token_is_reviewed_once_in_a_while(pool: Stage, called: Controller, clock: Clock) -> None:
    clock.now += KEPT_S
    assert await code_of(called) is grpc.StatusCode.OK
    pool.server.faults.fail_next(1000, 500, verb="create", plural="tokenreviews")
    clock.now += KEPT_S - 0.1
    assert await code_of(called) is grpc.StatusCode.OK
    clock.now += 0.1
    assert await code_of(called) is grpc.StatusCode.UNAVAILABLE
    pool.server.faults.clear()
    assert await code_of(called) is grpc.StatusCode.OK


async def test_a_gate_whose_pod_is_gone_is_not_answered_however_lately_it_was_reviewed(
    pool: Stage, called: Controller
) -> None:
    (executor,) = pool.executors()
    uid = executor["metadata"]["uid"]
    assert await code_of(called) is grpc.StatusCode.OK
    await pool.gateway.delete(PODS, executor["metadata"]["name"], namespace=POOL, grace_period_s=0)
    await until(lambda: pool.service.book.executor(uid) is None, "the controller knows")
    assert await code_of(called) is grpc.StatusCode.UNAVAILABLE


def held(stack: ExitStack, called: Controller) -> remote_pb2.LeaseState:
    """A stream that stays."""
    gone = threading.Event()
    stack.callback(gone.set)

    def said() -> Iterator[remote_pb2.FollowRequest]:
        yield remote_pb2.FollowRequest(epoch=0)
        gone.wait()

    states = called.follow(said())
    stack.callback(states.cancel)  # type: ignore[attr-defined]
    return next(states)


async def test_calls_at_once_are_bounded_and_the_streams_of_gates_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serving, "CALLS", 4)
    async with stage() as pool:
        lease = await pool.client("train")
        await pool.phase(lease, "Ready")
        (token,) = pool.kubelet.tokens.values()
        called = controller(pool, tmp_path, token)
        with ExitStack() as streams:
            for _ in range(3):
                assert (await asyncio.to_thread(held, streams, called)).serving
            assert await code_of(called) is grpc.StatusCode.RESOURCE_EXHAUSTED
            with pytest.raises(Refusal) as refused:
                await asyncio.to_thread(called.admit, pool.token("train"), "main", 1)
            assert refused.value.reason == "Busy"
        async with asyncio.timeout(15):
            while await code_of(called) is not grpc.StatusCode.OK:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        called.close()


async def test_more_metadata_than_a_token_needs_is_not_read(pool: Stage, lease: GpuLease, tmp_path: Path) -> None:
    (token,) = pool.kubelet.tokens.values()
    large = controller(pool, tmp_path, "x" * (20 << 10))
    assert await code_of(large) is grpc.StatusCode.RESOURCE_EXHAUSTED
    large.close()
    assert refusals(pool, "Sign", "bad-token") == 0
    usual = controller(pool, tmp_path, token)
    assert await code_of(usual) is grpc.StatusCode.OK
    usual.close()
