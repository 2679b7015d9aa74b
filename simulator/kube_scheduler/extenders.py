"""The client of a scheduler extender over HTTP, with Go's field names, as kube-scheduler sends them
(k8s.io/kubernetes/pkg/scheduler/extender.go, ``nodeCacheCapable: true``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import msgspec

Plain = dict[str, Any]
TIMEOUT_S = 5.0


class ExtenderError(Exception):
    """The extender refused to answer, or its answer was none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Nodes that remain, and a text for each that does not."""

    nodes: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)


class Extender(Protocol):
    """What the scheduler asks of an extender. Each raises ``ExtenderError``."""

    async def filter(self, pod: Plain, nodes: Sequence[str]) -> Verdict:
        """Which nodes can take the pod."""

    async def prioritize(self, pod: Plain, nodes: Sequence[str]) -> Mapping[str, int]:
        """A score from 0 to 10 for each node."""

    async def bind(self, pod: Plain, node: str) -> None:
        """Binds the pod."""


class _Filtered(msgspec.Struct):
    NodeNames: list[str] | None = None
    FailedNodes: dict[str, str] | None = None
    FailedAndUnresolvableNodes: dict[str, str] | None = None
    Error: str = ""


class _HostPriority(msgspec.Struct):
    Host: str
    Score: int


class _Bound(msgspec.Struct):
    Error: str = ""


class HttpExtender:
    """One extender at ``url``."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url.rstrip("/")

    async def filter(self, pod: Plain, nodes: Sequence[str]) -> Verdict:
        body = await self._post("filter", {"Pod": pod, "Nodes": None, "NodeNames": list(nodes)})
        found = _decoded("filter", body, _Filtered)
        if found.Error:
            raise ExtenderError(found.Error)
        failed = {**(found.FailedNodes or {}), **(found.FailedAndUnresolvableNodes or {})}
        return Verdict(tuple(found.NodeNames or ()), failed)

    async def prioritize(self, pod: Plain, nodes: Sequence[str]) -> Mapping[str, int]:
        body = await self._post("prioritize", {"Pod": pod, "Nodes": None, "NodeNames": list(nodes)})
        return {item.Host: item.Score for item in _decoded("prioritize", body, list[_HostPriority])}

    async def bind(self, pod: Plain, node: str) -> None:
        meta = pod["metadata"]
        args = {"PodName": meta["name"], "PodNamespace": meta["namespace"], "PodUID": meta["uid"], "Node": node}
        answer = _decoded("bind", await self._post("bind", args), _Bound)
        if answer.Error:
            raise ExtenderError(answer.Error)

    async def _post(self, verb: str, args: Plain) -> bytes:
        try:
            async with self._session.post(
                f"{self._url}/{verb}",
                data=msgspec.json.encode(args),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ExtenderError(f"{verb} at {self._url}: {error or type(error).__name__}") from error
        if response.status != 200:
            raise ExtenderError(f"failed {verb} with extender at URL {self._url}/{verb}, code {response.status}")
        return body


def _decoded(verb: str, body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise ExtenderError(f"{verb}: the extender's answer cannot be read: {error}") from error
