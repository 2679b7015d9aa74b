"""The reflector's state machine, in every order of events that a network can think of."""

import random

import msgspec
import pytest

from tessera.kube.course import BACKOFF_LAST_S, AskPage, AskWatch, Course, Deleted, Listed, Pause, Replaced, Upserted
from tessera.kube.errors import ApiError, Unreachable
from tessera.kube.gateway import Page
from tessera.kube.resources import PODS, Plain, untyped

RESOURCE = untyped(PODS)
GONE = ApiError(410, "Expired", "too old")


def pod(name: str, version: int = 1) -> Plain:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(type_: str, obj: Plain) -> bytes:
    return msgspec.json.encode({"type": type_, "object": obj})


def course(seed: int = 1) -> Course[Plain]:
    return Course(RESOURCE, random.Random(seed), limit=2)


def watching(version: str = "10") -> Course[Plain]:
    made = course()
    made.next()
    made.page(Page((), version, ""))
    return made


def test_pages_are_given_out_once_and_whole() -> None:
    made = course()
    assert made.next() == AskPage(2, "")
    assert made.page(Page((pod("a"), pod("b")), "10", "more")) is None
    assert made.next() == AskPage(2, "more")
    assert made.page(Page((pod("c"),), "10", "")) == Replaced((pod("a"), pod("b"), pod("c")))
    step = made.next()
    assert isinstance(step, AskWatch)
    assert step.resource_version == "10"
    assert 300 <= step.timeout_s <= 600


def test_an_expired_continue_token_starts_over_and_then_asks_for_all_at_once() -> None:
    made = course()
    made.page(Page((pod("a"), pod("b")), "10", "more"))
    made.failed(GONE)
    assert made.next() == AskPage(2, "")
    made.page(Page((pod("a"), pod("b")), "11", "more"))
    made.failed(GONE)
    assert isinstance(made.next(), Pause)
    assert made.next() == AskPage(0, "")
    assert made.page(Page((pod("a"),), "12", "")) == Replaced((pod("a"),))


def named(obj: Plain) -> str:
    return obj["metadata"]["name"]


def test_with_a_key_each_page_is_told_when_it_comes_and_all_keys_with_the_last() -> None:
    made: Course[Plain] = Course(RESOURCE, random.Random(1), limit=2, key=named)
    assert made.page(Page((pod("a"), pod("b")), "10", "more")) == Listed((pod("a"), pod("b")))
    assert made.next() == AskPage(2, "more")
    assert made.page(Page((pod("c"),), "10", "")) == Listed((pod("c"),), frozenset("abc"))
    assert isinstance(made.next(), AskWatch)


def test_keys_of_a_list_that_expired_are_forgotten() -> None:
    made: Course[Plain] = Course(RESOURCE, random.Random(1), limit=2, key=named)
    made.page(Page((pod("a"), pod("b")), "10", "more"))
    made.failed(GONE)
    assert made.page(Page((pod("c"),), "12", "")) == Listed((pod("c"),), frozenset("c"))


def test_events_move_the_place_to_resume_from() -> None:
    made = watching()
    made.next()
    assert made.line(event("ADDED", pod("a", 11))) == Upserted(pod("a", 11))
    assert made.line(event("MODIFIED", pod("a", 12))) == Upserted(pod("a", 12))
    assert made.line(event("DELETED", pod("a", 13))) == Deleted(pod("a", 13))
    assert made.line(event("BOOKMARK", pod("", 40))) is None
    made.closed(200.0)
    step = made.next()
    assert isinstance(step, AskWatch)
    assert step.resource_version == "40"


def test_a_watch_that_expired_is_listed_anew_at_once() -> None:
    made = watching()
    made.next()
    with pytest.raises(ApiError) as caught:
        made.line(event("ERROR", {"code": 410, "reason": "Expired", "message": "too old"}))
    made.failed(caught.value)
    assert made.next() == AskPage(2, "")


def test_an_expiry_right_after_another_waits() -> None:
    made = watching()
    made.next()
    made.failed(GONE)
    made.next()
    made.page(Page((), "11", ""))
    made.next()
    made.failed(GONE)
    assert isinstance(made.next(), Pause)
    assert made.next() == AskPage(2, "")


@pytest.mark.parametrize("error", [Unreachable("down"), ApiError(429, "TooManyRequests", ""), ApiError(503, "", "")])
def test_a_passing_trouble_resumes_the_watch_after_a_pause(error: Exception) -> None:
    made = watching("10")
    made.next()
    made.failed(error)  # type: ignore[arg-type]
    assert isinstance(made.next(), Pause)
    step = made.next()
    assert isinstance(step, AskWatch)
    assert step.resource_version == "10"


def test_a_watch_refused_again_and_again_ends_in_a_list() -> None:
    made = watching("10")
    for _ in range(6):
        made.next()
        made.failed(ApiError(504, "Timeout", "Too large resource version"))
        assert isinstance(made.next(), Pause)
    assert made.next() == AskPage(2, "")


def test_a_watch_that_closes_at_once_is_not_asked_for_in_a_tight_loop() -> None:
    made = watching()
    made.next()
    made.closed(0.01)
    assert isinstance(made.next(), Pause)


def test_a_line_that_is_no_event_is_an_error_and_never_skipped() -> None:
    made = watching()
    for line in (b"{", b'{"type":"NEW","object":{}}', b'{"type":"ADDED","object":[1]}'):
        with pytest.raises(msgspec.DecodeError):
            made.line(line)
    assert made.resource_version == "10"


def test_back_off_has_full_jitter_and_a_ceiling() -> None:
    made = course()
    pauses = []
    for _ in range(400):
        made.failed(Unreachable("down"))
        step = made.next()
        assert isinstance(step, Pause)
        pauses.append(step.seconds)
        made.next()
    late = pauses[20:]
    assert 0 <= min(late) < 1.0 < BACKOFF_LAST_S - 1.0 < max(late) <= BACKOFF_LAST_S
    assert pauses[0] <= 0.4


def test_what_is_kept_is_cut_down_at_once_and_the_place_to_resume_from_is_not_lost() -> None:
    made: Course[str] = Course(RESOURCE, random.Random(1), limit=2, keep=lambda pod: str(pod["metadata"]["name"]))
    made.page(Page((pod("a"), pod("b")), "10", "more"))
    assert made.page(Page((pod("c"),), "10", "")) == Replaced(("a", "b", "c"))
    assert made.line(event("MODIFIED", pod("b", 11))) == Upserted("b")
    assert made.line(event("DELETED", pod("b", 12))) == Deleted("b")
    step = made.next()
    assert isinstance(step, AskWatch) and step.resource_version == "12"
