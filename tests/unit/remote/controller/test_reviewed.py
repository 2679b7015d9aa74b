"""How long a gate's token counts as reviewed, and how many reviews there are of it."""

import asyncio

import pytest

from tessera.remote.controller import reviewed
from tessera.remote.controller.reviewed import KEPT_S, Reviewed
from tessera.remote.controller.reviews import Bearer, Refused

GOOD = Bearer("pool", "executor", "executor-1", "uid-1")
BAD = Refused("bad-token", "token: found one that is not good")


class ApiServer:
    """Answers reviews when it is let; ``now`` is the time."""

    def __init__(self) -> None:
        self.now, self.asked, self.under_way = 100.0, list[str](), 0
        self.good, self.going = {"good"}, asyncio.Event()
        self.going.set()
        self.reviewed = Reviewed(self.review, "gates", lambda: self.now)

    async def review(self, token: str) -> Bearer | Refused:
        self.asked.append(token)
        self.under_way += 1
        try:
            await self.going.wait()
        finally:
            self.under_way -= 1
        if token == "broken":
            raise OSError("no API server")
        return GOOD if token in self.good else BAD


async def test_a_good_token_is_reviewed_again_when_its_time_is_over() -> None:
    server = ApiServer()
    assert [await server.reviewed("good") for _ in range(3)] == [GOOD] * 3
    server.good.clear()
    server.now += KEPT_S - 0.1
    assert await server.reviewed("good") == GOOD and len(server.asked) == 1
    server.now += 0.1
    assert await server.reviewed("good") == BAD and len(server.asked) == 2


async def test_the_time_counts_from_before_the_question() -> None:
    """The API server may have said so at its beginning."""
    server = ApiServer()
    server.going.clear()
    asked = asyncio.create_task(server.reviewed("good"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.asked == ["good"]
    server.now += KEPT_S
    server.going.set()
    assert await asked == GOOD
    await server.reviewed("good")
    assert len(server.asked) == 2


async def test_a_bad_token_and_a_question_without_answer_are_asked_again() -> None:
    server = ApiServer()
    assert [await server.reviewed("bad") for _ in range(2)] == [BAD, BAD] and len(server.asked) == 2
    for _ in range(2):
        with pytest.raises(OSError, match="no API server"):
            await server.reviewed("broken")
    assert len(server.asked) == 4


async def test_a_crowd_shares_one_review_whoever_of_it_leaves() -> None:
    server = ApiServer()
    server.going.clear()
    crowd = [asyncio.create_task(server.reviewed("good")) for _ in range(20)]
    other = asyncio.create_task(server.reviewed("bad"))
    await asyncio.sleep(0)
    crowd[0].cancel()
    await asyncio.sleep(0)
    server.going.set()
    assert await asyncio.gather(*crowd[1:]) == [GOOD] * 19 and await other == BAD
    assert sorted(server.asked) == ["bad", "good"]


async def test_reviews_under_way_are_bounded_and_all_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviewed, "AT_ONCE", 3)
    server = ApiServer()
    server.going.clear()
    crowd = [asyncio.create_task(server.reviewed(f"bad-{number}")) for number in range(10)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert server.under_way == 3
    server.going.set()
    assert await asyncio.gather(*crowd) == [BAD] * 10


async def test_what_is_kept_is_bounded_and_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviewed, "MOST", 4)
    server = ApiServer()
    server.good = {f"good-{number}" for number in range(10)}
    for token in sorted(server.good):
        await server.reviewed(token)
    assert len(server.reviewed._kept) == 4 and "good" not in repr(server.reviewed._kept)
    await server.reviewed("good-9")
    assert len(server.asked) == 10, "the newest are kept"
    server.now += KEPT_S
    await server.reviewed("good-0")
    assert len(server.reviewed._kept) == 1, "what is over goes"
