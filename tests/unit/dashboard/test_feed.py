"""Versions, changes and the stream of events."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tessera.dashboard import stream
from tessera.dashboard.changes import Changes, between
from tessera.dashboard.feed import KEPT_CHANGES, Feed, Source
from tessera.dashboard.states import Snapshot
from tessera.model.assignment import Share
from tessera.model.quantities import GIB
from tests.unit.dashboard.clusters import gpu, lease, node, running, snapshot


def pool(*slices: int) -> Snapshot:
    """One node with two GPUs, and a pod and a lease for each of ``slices`` GiB."""
    facts = [running(f"p{i}", Share(f"G{i % 2}", gib * GIB)) for i, gib in enumerate(slices)]
    leases = [lease(f"l{i}", Share(f"G{i % 2}", gib * GIB)) for i, gib in enumerate(slices)]
    return snapshot([node("a", gpu("G0"), gpu("G1"))] if slices else [], facts, leases)


def applied(old: Snapshot, changes: Changes) -> Snapshot:
    gpus = {k: g for k, g in old.gpus.items() if k not in changes.gone_gpus} | {g.uuid: g for g in changes.gpus}
    nodes = {k: n for k, n in old.nodes.items() if k not in changes.gone_nodes} | {n.name: n for n in changes.nodes}
    pods = {k: p for k, p in old.pods.items() if k not in changes.gone_pods} | {p.key: p for p in changes.pods}
    leases = {k: x for k, x in old.leases.items() if k not in changes.gone_leases} | {x.key: x for x in changes.leases}
    return Snapshot(gpus, nodes, pods, changes.totals, leases)


@given(st.lists(st.integers(1, 4), max_size=5), st.lists(st.integers(1, 4), max_size=5))
def test_changes_lead_from_the_old_to_the_new(before: list[int], after: list[int]) -> None:
    old, new = pool(*before), pool(*after)
    assert applied(old, between(old, new)) == new
    assert not between(new, new)


def test_only_what_changed_is_sent() -> None:
    changes = between(pool(1, 1), pool(1, 2))
    assert [g.uuid for g in changes.gpus] == ["G1"] and [p.name for p in changes.pods] == ["p1"]
    assert [x.pod for x in changes.leases] == ["l1"]


def test_a_version_moves_only_when_something_changed() -> None:
    feed = Feed("e")
    feed.publish(pool())
    assert feed.synced and feed.version == "e.1"
    feed.publish(pool(1))
    feed.publish(pool(1))
    assert feed.version == "e.2"
    assert [version for version, _ in feed.since("e.0") or []] == ["e.1", "e.2"]
    assert feed.since("e.2") == []


def test_an_unknown_or_forgotten_version_is_told_to_start_again() -> None:
    feed = Feed("e")
    for i in range(KEPT_CHANGES + 2):
        feed.publish(pool(1 + i % 3))
    assert feed.since("other.1") is None
    assert feed.since("e.0") is None
    assert feed.since("e.999999") is None
    assert feed.since("nonsense") is None
    assert len(feed.since(f"e.{KEPT_CHANGES + 1}") or []) == 1


async def test_a_reader_gets_the_source_then_changes_then_the_end() -> None:
    feed = Feed("e")
    feed.publish(pool(1))
    feed.follow(Source(True, ""))
    events = stream.events(feed, "e.1", _always)
    assert _read(await anext(events)) == ("source", {"connected": True, "message": ""})
    feed.publish(pool(2))
    name, data = _read(await anext(events))
    assert name == "change" and data["version"] == "e.2" and data["changes"]["totals"]["allocated_bytes"] == 4 * GIB
    feed.close()
    assert [e async for e in events] == []


async def test_a_reader_of_another_process_is_reset() -> None:
    feed = Feed("e")
    feed.publish(pool(1))
    assert [_read(e)[0] async for e in stream.events(feed, "before.7", _always)] == ["source", "reset"]


async def test_a_reader_who_may_no_longer_read_is_cut_off_however_busy_the_stream() -> None:
    feed = Feed("e")
    feed.publish(pool(1))
    events = stream.events(feed, "e.1", _never, check_s=0.0)
    assert [e async for e in events] == []


async def test_a_quiet_stream_says_now_and_then_that_it_is_there() -> None:
    feed = Feed("e")
    feed.publish(pool(1))
    events = stream.events(feed, "e.1", _always, check_s=0.001)
    said = [await anext(events) for _ in range(3)]
    assert said.count(b": still here\n\n") == 2


async def _never() -> bool:
    return False


async def _always() -> bool:
    return True


def _read(event: bytes) -> tuple[str, dict[str, Any]]:
    lines = dict(line.split(": ", 1) for line in event.decode().strip().splitlines())
    return lines["event"], json.loads(lines["data"])
