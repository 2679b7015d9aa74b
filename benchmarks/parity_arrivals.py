"""Pods that come one at a time to a real kube-scheduler: each is bound, or refused and taken away, before the next."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from benchmarks.connection import Connection, Target, open_connection
from benchmarks.population import PODS
from tessera.kube.connection import Connection as KubeConnection
from tessera.kube.connection import FixedToken
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS as POD_RESOURCE

LIMIT_S = 60.0
Plain = dict[str, Any]


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""
    reason: str = ""


class _Meta(msgspec.Struct):
    name: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _Status(msgspec.Struct):
    conditions: list[_Condition] = []


class _Pod(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Event(msgspec.Struct):
    object: _Pod


class Arrivals:
    """``node = await arrivals.bring(pod)``. ``errors``: how often kube-scheduler gave a pod another try by itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waited_for = ""
        self._outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.errors = 0

    async def bring(self, pod: Plain) -> str | None:
        """The node that the pod was bound to; ``None`` if no node holds it, and then the pod is deleted."""
        self._waited_for = pod["metadata"]["name"]
        self._outcome = asyncio.get_running_loop().create_future()
        await self._connection.send("POST", PODS, msgspec.json.encode(pod))
        async with asyncio.timeout(LIMIT_S):
            node = await self._outcome
        if node is None:
            await self._connection.send("DELETE", f"{PODS}/{self._waited_for}?gracePeriodSeconds=0")
        return node

    def heard(self, line: bytes) -> None:
        """One line of the pods' watch."""
        pod = msgspec.json.decode(line, type=_Event).object
        if pod.metadata.name != self._waited_for or self._outcome.done():
            return
        if pod.spec.node_name:
            self._outcome.set_result(pod.spec.node_name)
        for condition in pod.status.conditions:
            if condition.type == "PodScheduled" and condition.status == "False" and not self._outcome.done():
                if condition.reason == "Unschedulable":
                    self._outcome.set_result(None)
                else:
                    self.errors += 1


@asynccontextmanager
async def arrivals(api: Target) -> AsyncIterator[Arrivals]:
    """Follows the pods of the namespace ``default`` while it is open."""
    tls = ssl.create_default_context(cafile=str(api.ca)) if api.ca else None
    connection = await open_connection(api)
    found = Arrivals(connection)
    async with Gateway(KubeConnection(api.url, tls, FixedToken(api.token))) as gateway:
        page = await gateway.list_page(POD_RESOURCE, limit=1)
        async with gateway.watch(POD_RESOURCE, page.resource_version, namespace="default") as lines:

            async def follow() -> None:
                async for line in lines:
                    found.heard(line)

            following = asyncio.create_task(follow())
            try:
                yield found
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
    connection.close()
