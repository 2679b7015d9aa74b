"""Looks after several things at once."""

import asyncio

import pytest

from tessera.node_agent.enforcement.looks import Looks
from tessera.node_agent.enforcement.port import Incident


def found(reason):
    return Incident("GPU-a", reason, "")


class Thing:
    """Looked after by ``look``, which takes until it is ``let`` go on."""

    def __init__(self, reason, slow=False):
        self.reason, self.begun, self._go_on = reason, 0, asyncio.Event()
        if not slow:
            self.let()

    def let(self):
        self._go_on.set()

    async def look(self):
        self.begun += 1
        await self._go_on.wait()
        return [found(self.reason)]


@pytest.fixture
async def looks():
    looks = Looks(0.02)
    yield looks
    await looks.close()


async def test_one_that_hangs_holds_up_none_and_is_not_begun_twice(looks):
    slow, quick = Thing("slow", slow=True), Thing("quick")
    for _ in range(3):
        assert await asyncio.wait_for(looks.round({1: slow.look, 2: quick.look}), 5.0) == (found("quick"),)
    assert (slow.begun, quick.begun) == (1, 3)


async def test_what_a_slow_one_finds_is_answered_once(looks):
    slow = Thing("slow", slow=True)
    assert await looks.round({1: slow.look}) == ()
    slow.let()
    assert await looks.round({1: slow.look}) == (found("slow"),)
    assert slow.begun == 1


async def test_what_was_found_after_the_thing_has_gone_is_answered_too(looks):
    slow = Thing("slow", slow=True)
    await looks.round({1: slow.look})
    slow.let()
    assert await looks.round({}) == (found("slow"),)
    assert await looks.round({}) == ()


async def test_one_that_fails_takes_nothing_from_the_others_and_is_begun_again(looks):
    quick, begun = Thing("quick"), []

    async def fails():
        begun.append(1)
        raise OSError("broken")

    for _ in range(2):
        assert await looks.round({1: fails, 2: quick.look}) == (found("quick"),)
    assert len(begun) == 2


async def test_close_ends_what_goes_on():
    looks, ended = Looks(0.02), asyncio.Event()

    async def hangs():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await looks.round({1: hangs})
    await looks.close()
    assert ended.is_set()
