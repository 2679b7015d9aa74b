"""What several sessions may hold together."""

import os

import pytest

from tessera.remote.executor.quota import Quota, Share


def share(quota: Quota, name: str) -> Share:
    return Share(os.dup(quota.descriptor), quota.take(name))


def test_one_holds_what_the_others_leave() -> None:
    quota = Quota(100, 4)
    one, other = share(quota, "one"), share(quota, "other")
    assert one.over(60) is None
    assert other.over(50) == (100, 60)
    assert other.over(40) is None
    assert one.over(61) == (100, 40)
    one.hold(10)
    assert other.over(90) is None


def test_another_limit_holds_at_once() -> None:
    quota = Quota(100, 4)
    one = share(quota, "one")
    assert one.over(100) is None
    quota.limit(50)
    assert one.over(80) == (50, 0)
    quota.limit(0)
    assert one.over(1 << 40) is None


def test_what_a_session_held_is_free_once_it_has_ended() -> None:
    quota = Quota(100, 2)
    one, other = share(quota, "one"), share(quota, "other")
    assert one.over(100) is None
    with pytest.raises(IndexError):
        quota.take("third")
    quota.give_back("one")
    quota.give_back("one")
    assert other.over(100) is None
    assert quota.take("third") != quota.take("other")


def test_a_session_has_one_slot_in_whichever_process_it_is() -> None:
    quota = Quota(100, 2)
    former = share(quota, "one")
    assert former.over(70) is None
    latter = share(quota, "one")
    latter.hold(70)
    assert share(quota, "other").over(30) is None
