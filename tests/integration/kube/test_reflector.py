"""Nothing is lost and nothing is doubled, whatever the network and the server do."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.reflector import Deleted, Listed, Reflector, Replaced, Told, Upserted
from tessera.kube.resources import CONFIG_MAPS, NODES, PODS, Plain, Resource, untyped
from tessera.simulator.apiserver import ApiServer

Until = Callable[..., Any]


class Mirror:
    """A sink that checks the order as it listens, and holds what it has heard."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Plain] = {}
        self.changes: list[Told[Plain]] = []

    def __call__(self, change: Told[Plain]) -> None:
        self.changes.append(change)
        match change:
            case Replaced(objects):
                self.objects = {key(obj): obj for obj in objects}
                assert len(self.objects) == len(objects)
            case Listed(objects, keys):
                self.objects |= {key(obj): obj for obj in objects}
                if keys is not None:
                    self.objects = {at: obj for at, obj in self.objects.items() if name_of(obj) in keys}
            case Upserted(obj):
                known = self.objects.get(key(obj))
                assert known is None or version(known) < version(obj), "an event came twice or out of order"
                self.objects[key(obj)] = obj
            case Deleted(obj):
                assert key(obj) in self.objects, "deleted what was never there"
                del self.objects[key(obj)]


def key(obj: Plain) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def name_of(obj: Plain) -> str:
    return str(obj["metadata"]["name"])


def version(obj: Plain) -> int:
    return int(obj["metadata"]["resourceVersion"])


async def brief(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.01))


@asynccontextmanager
async def reflecting(
    gateway: Gateway, resource: Resource[Plain], sink: Callable[[Told[Plain]], None], **options: Any
) -> AsyncIterator[Reflector[Plain]]:
    reflector = Reflector(gateway, resource, sink, sleep=brief, **options)
    task = asyncio.create_task(reflector.run())
    try:
        yield reflector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stored(server: ApiServer, plural: str = "configmaps") -> dict[tuple[str, str], Plain]:
    return {key(obj): obj for obj in server.store.list(plural)}


def put(server: ApiServer, name: str, value: str) -> None:
    meta = {"name": name, "namespace": "default", "uid": name}
    server.store.put("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"v": value}})


async def test_it_lists_and_then_follows(gateway: Gateway, server: ApiServer, until: Until) -> None:
    put(server, "a", "1")
    mirror = Mirror()
    async with reflecting(gateway, CONFIG_MAPS, mirror) as reflector:
        assert not reflector.synced and reflector.age_s == math.inf
        await asyncio.wait_for(reflector.wait_synced(), 10)
        put(server, "b", "1")
        put(server, "a", "2")
        server.store.remove("configmaps", "default", "b")
        await until(lambda: len(mirror.changes) == 4)
        assert [type(change) for change in mirror.changes] == [Replaced, Upserted, Upserted, Deleted]
        assert mirror.objects == stored(server)
        await until(lambda: reflector.resource_version == str(server.store.version))
        assert reflector.age_s < 10


async def test_a_bookmark_saves_a_quiet_collection_from_expiry(
    gateway: Gateway, server: ApiServer, until: Until
) -> None:
    mirror = Mirror()
    async with reflecting(gateway, CONFIG_MAPS, mirror) as reflector:
        await asyncio.wait_for(reflector.wait_synced(), 10)
        await until(lambda: server.faults.watches == 1)
        for index in range(5):
            server.add_namespace(f"elsewhere-{index}")
        await until(lambda: reflector.resource_version == str(server.store.version))
        server.compact()
        server.faults.drop_watches()
        await until(lambda: server.faults.watches == 1)
        put(server, "a", "1")
        await until(lambda: mirror.objects == stored(server))
    assert sum(isinstance(change, Replaced) for change in mirror.changes) == 1


async def test_an_expired_watch_is_listed_anew_and_deletions_are_noticed(
    gateway: Gateway, server: ApiServer, until: Until
) -> None:
    mirror = Mirror()
    put(server, "a", "1")
    async with reflecting(gateway, CONFIG_MAPS, mirror) as reflector:
        await asyncio.wait_for(reflector.wait_synced(), 10)
        await until(lambda: server.faults.watches == 1)
        server.faults.fail_next(3, 503, verb="watch")
        server.faults.drop_watches()
        server.store.remove("configmaps", "default", "a")
        put(server, "b", "1")
        server.compact()
        await until(lambda: mirror.objects == stored(server))
    assert sum(isinstance(change, Replaced) for change in mirror.changes) == 2


async def test_a_list_that_expires_between_pages_starts_over(gateway: Gateway, server: ApiServer, until: Until) -> None:
    for index in range(10):
        put(server, f"c{index}", "1")
    server.faults.delay_next(1, 0.2, verb="list")
    mirror = Mirror()
    async with reflecting(gateway, CONFIG_MAPS, mirror, limit=2):
        for _ in range(30):
            put(server, "c0", "2")
            server.compact()
            await asyncio.sleep(0.01)
        await until(lambda: mirror.objects == stored(server))
    assert isinstance(mirror.changes[0], Replaced) and len(mirror.changes[0].objects) == 10


async def test_a_watch_by_node_sees_pods_come_when_they_are_bound(
    gateway: Gateway, pod: Callable[..., Plain], until: Until
) -> None:
    mirror = Mirror()
    async with reflecting(gateway, untyped(PODS), mirror, field_selector="spec.nodeName=n1") as reflector:
        await asyncio.wait_for(reflector.wait_synced(), 10)
        for name, node in (("a", "n1"), ("b", "n2")):
            made = await gateway.create(PODS, pod(name))
            await gateway.bind("default", name, made.metadata.uid, node, {})
        await until(lambda: bool(mirror.objects))
        await gateway.delete(PODS, "a", namespace="default", grace_period_s=0)
        await until(lambda: not mirror.objects)
    assert {name for change in mirror.changes[1:] for name in [change.object["metadata"]["name"]]} == {"a"}  # type: ignore[union-attr]


async def test_a_sink_that_raises_ends_the_run(gateway: Gateway) -> None:
    def broken(_change: Told[Plain]) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(Reflector(gateway, CONFIG_MAPS, broken).run(), 10)


class Counting(Gateway):
    """Counts the pages that were asked for."""

    asked = 0

    async def list_page(self, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        return await super().list_page(*arguments, **options)


async def test_a_page_is_told_while_the_next_is_on_its_way(server: ApiServer) -> None:
    for index in range(6):
        put(server, f"c{index}", "1")
    heard: list[tuple[int, int, bool]] = []

    async with Counting(plain(server.url)) as gateway:

        def sink(change: Told[Plain]) -> None:
            assert isinstance(change, Listed)
            heard.append((gateway.asked, len(change.objects), change.keys is not None))

        async with reflecting(gateway, CONFIG_MAPS, sink, limit=2, key=name_of) as reflector:
            await asyncio.wait_for(reflector.wait_synced(), 10)
    assert heard == [(2, 2, False), (3, 2, False), (3, 2, True)]


async def test_a_sink_that_raises_leaves_no_request_behind(server: ApiServer) -> None:
    for index in range(4):
        put(server, f"c{index}", "1")

    def broken(_change: Told[Plain]) -> None:
        server.faults.delay_next(1, 60, verb="list")
        raise RuntimeError("a bug")

    async with Gateway(plain(server.url)) as gateway:
        with pytest.raises(RuntimeError, match="a bug"):
            await Reflector(gateway, CONFIG_MAPS, broken, limit=2, key=name_of).run()
        await asyncio.sleep(0)
        running = [task.get_coro() for task in asyncio.all_tasks()]
    assert not [each for each in running if "_asked" in getattr(each, "__qualname__", "")]


@pytest.mark.parametrize("options", [{}, {"key": name_of}])
@pytest.mark.parametrize("seed", range(6))
async def test_random_trouble_loses_and_doubles_nothing(
    gateway: Gateway, server: ApiServer, until: Until, seed: int, options: Plain
) -> None:
    rng = random.Random(seed)
    mirror = Mirror()
    trouble: list[Callable[[], object]] = [
        server.faults.drop_watches,
        server.compact,
        lambda: (server.faults.drop_watches(), server.compact()),
        lambda: server.faults.fail_next(rng.randint(1, 3), rng.choice([410, 429, 500, 503]), verb="watch"),
        lambda: server.faults.fail_next(1, rng.choice([410, 429, 500]), verb="list"),
        lambda: server.faults.lose_answers(1, verb="list"),
        lambda: server.faults.delay_next(1, 0.02, verb="watch"),
    ]
    async with reflecting(gateway, CONFIG_MAPS, mirror, limit=4, rng=random.Random(seed), **options):
        for count in range(400):
            name = f"c{rng.randrange(12)}"
            if rng.random() < 0.3:
                server.store.remove("configmaps", "default", name)
            else:
                put(server, name, str(count))
            if rng.random() < 0.04:
                rng.choice(trouble)()
            await asyncio.sleep(rng.choice([0, 0.001, 0.01]))
        server.faults.clear()
        await until(lambda: mirror.objects == stored(server))
    assert {type(change) for change in mirror.changes} == {Listed if options else Replaced, Upserted, Deleted}


async def test_five_thousand_nodes(gateway: Gateway, server: ApiServer, until: Until) -> None:
    for index in range(5000):
        meta = {"name": f"node-{index:05d}", "uid": f"u{index}"}
        server.store.put("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": meta})
    mirror = Mirror()
    async with reflecting(gateway, untyped(NODES), mirror) as reflector:
        await asyncio.wait_for(reflector.wait_synced(), 20)
        assert len(mirror.objects) == 5000
