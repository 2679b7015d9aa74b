"""When levels are detected: one that hangs holds up none, and nothing found is older than a doubt."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tessera.node_agent import detections
from tessera.node_agent.detections import DETECT_S, NOT_YET, UNDER_WAY, Detections
from tessera.node_agent.enforcement.port import Finding

WATCHED, HELD = Finding(0, "watched"), Finding(1, "held")


class Driver:
    """What a look at each GPU finds. Those in ``hangs`` answer once their event is set; ``asked``: in order."""

    def __init__(self) -> None:
        self.now, self.hangs = 0.0, dict[str, asyncio.Event]()
        self.found: dict[str, Finding | Exception] = {}
        self.asked: list[str] = []
        self.detections = Detections(self.detect, lambda: self.now)

    async def detect(self, uuid: str) -> Finding:
        self.asked.append(uuid)
        found = self.found.get(uuid, WATCHED)
        if uuid in self.hangs:
            await self.hangs[uuid].wait()
        if isinstance(found, Exception):
            raise found
        return found

    async def levels(self, *uuids: str) -> list[int]:
        await self.detections.round(uuids)
        return [self.detections.of(uuid).level for uuid in uuids]


@pytest.fixture
async def driver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Driver]:
    monkeypatch.setattr(detections, "FIRST_S", 0.05)
    monkeypatch.setattr(detections, "AGAIN_S", 0.02)
    made = Driver()
    yield made
    await made.detections.close()


async def test_one_that_hangs_keeps_its_level_and_the_others_have_theirs(driver: Driver) -> None:
    assert await driver.levels("a", "b") == [0, 0]
    driver.hangs["a"] = asyncio.Event()
    driver.found = {"a": HELD, "b": HELD}
    driver.now += DETECT_S
    assert await driver.levels("a", "b") == [0, 1]
    driver.now += DETECT_S
    assert await driver.levels("a", "b") == [0, 1]
    assert driver.asked == ["a", "b", "a", "b", "b"], "no second look where one goes on"
    driver.hangs["a"].set()
    assert await driver.levels("a", "b") == [1, 1]


async def test_until_the_first_is_done_nothing_is_placed(driver: Driver) -> None:
    driver.hangs["a"] = asyncio.Event()
    assert driver.detections.of("a") == NOT_YET
    assert await driver.levels("a", "b") == [-1, 0]
    assert driver.detections.of("a") == UNDER_WAY
    driver.hangs["a"].set()
    assert await driver.levels("a", "b") == [0, 0]


async def test_what_was_doubted_while_it_was_found_is_found_again(driver: Driver) -> None:
    driver.hangs["a"] = asyncio.Event()
    await driver.detections.round(["a"])
    driver.found["a"] = HELD
    driver.detections.doubt(["a"])
    driver.hangs["a"].set()
    while driver.detections.of("a") == UNDER_WAY:
        await driver.detections.round(["a"])
    assert await driver.levels("a") == [1]
    assert driver.asked == ["a", "a"]
    assert await driver.levels("a") == [1] and driver.asked == ["a", "a"], "and not once more"


async def test_one_that_fails_takes_nothing_and_leaves_the_others(driver: Driver) -> None:
    driver.found["a"] = OSError("no disk")
    assert await driver.levels("a", "b") == [-1, 0]
    assert driver.detections.of("a").evidence == "its level could not be detected: no disk"
    driver.found["a"] = HELD
    driver.now += DETECT_S
    assert await driver.levels("a", "b") == [1, 0]


async def test_a_gpu_that_was_unhealthy_is_looked_at_at_once(driver: Driver) -> None:
    assert await driver.levels("a", "b") == [0, 0]
    await driver.detections.round(["b"])
    driver.found["a"] = HELD
    assert await driver.levels("a", "b") == [1, 0]
