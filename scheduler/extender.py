"""The HTTP routes that kube-scheduler calls: filter, prioritize, bind, preempt.

Raw bytes in and out through msgspec; the engine decides in memory, only bind awaits the API server. A body that is
not the protocol's answers 400 with one sentence; a scheduler that does not lead, or has not read the cluster yet,
answers an ``Error``, which sends the pod back to the queue.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Protocol

import msgspec
import numpy as np
from prometheus_client import Histogram
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from tessera.kube import wire as kube
from tessera.kube.convert import pod_of
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler import extender_wire as wire
from tessera.scheduler.engine import Engine
from tessera.scheduler.offers import Offer, Offers
from tessera.scheduler.preemption import Leaving

_encode = msgspec.json.Encoder().encode
_args = msgspec.json.Decoder(wire.ExtenderArgs).decode
_pod = msgspec.json.Decoder(kube.Pod).decode
_binding = msgspec.json.Decoder(wire.ExtenderBindingArgs).decode
_preemption = msgspec.json.Decoder(wire.ExtenderPreemptionArgs).decode
_NO_NODES = msgspec.Raw(b"[]")
_PODS = 256
"""How many pods are remembered as kube-scheduler sent them; it sends each of them once for each verb."""

_NO_NAMES = (
    "NodeNames: found none; allowed: names of nodes, with nodeCacheCapable: true in the extender's configuration"
)


class Gate(Protocol):
    """Whether this process may answer at all; ``None`` or why not."""

    def __call__(self) -> Reason | None: ...


class Binds(Protocol):
    async def bind(self, namespace: str, name: str, uid: str, node: str) -> Reason | None: ...


class Preempts(Protocol):
    async def preempt(self, pod: Pod, candidates: Mapping[str, list[str]]) -> Mapping[str, Leaving]: ...


class Extender:
    """The four verbs over one engine.

    ``on_refused`` hears of every pod that no node can hold, why, of the nodes asked about, and whether that was the
    pod's nominated node alone.
    """

    def __init__(
        self,
        engine: Engine,
        binder: Binds,
        gate: Gate,
        on_refused: Callable[[Pod, Reason, list[str], bool], None],
        seconds: Histogram,
        preempts: Preempts,
    ) -> None:
        self._engine, self._binder, self._gate, self._on_refused = engine, binder, gate, on_refused
        self._preempts = preempts
        self._seconds = seconds
        self._offers = Offers()

    def routes(self) -> list[Route]:
        verbs: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            "filter": self.filter,
            "prioritize": self.prioritize,
            "bind": self.bind,
            "preempt": self.preempt,
        }
        return [
            Route(f"/{name}", _endpoint(name, verb, self._seconds.labels(name)), methods=["POST"])
            for name, verb in verbs.items()
        ]

    async def filter(self, body: bytes) -> bytes:
        args = _args(body)
        if reason := self._gate():
            return _no_nodes(reason.text)
        pod = _known_pod(bytes(args.Pod))
        if args.NodeNames == wire.NULL:
            return _no_nodes(_NO_NAMES)
        offer = self._offer(args.NodeNames)
        found = self._engine.filter(pod, offer)
        if found.reason is not None:
            # A nominated node is asked about alone first; all others follow if it will not do, and only they are news.
            self._on_refused(pod, found.reason, offer.names, offer.names == [pod.nominated])
        nodes = msgspec.Raw(self._offers.part(self._engine.ledger, offer, found.kept))
        return _encode(wire.ExtenderFilterResult(nodes, found.failed, found.unresolvable))

    async def prioritize(self, body: bytes) -> bytes:
        args = _args(body)
        offer = self._offer(args.NodeNames if args.NodeNames != wire.NULL else _NO_NODES)
        if self._gate():
            scores = np.zeros(len(offer.rows), np.int8)
        else:
            scores = self._engine.scores(_known_pod(bytes(args.Pod)), offer)
        return self._offers.scored(self._engine.ledger, offer, scores)

    async def bind(self, body: bytes) -> bytes:
        args = _binding(body)
        reason = self._gate() or await self._binder.bind(args.PodNamespace, args.PodName, args.PodUID, args.Node)
        return _encode(wire.ExtenderBindingResult(reason.text if reason else ""))

    async def preempt(self, body: bytes) -> bytes:
        args = _preemption(body)
        candidates = wire.victims_of(args)
        if self._gate():
            return _encode(wire.ExtenderPreemptionResult({}))
        uids = {node: [pod.UID for pod in victims.Pods or ()] for node, victims in candidates.items()}
        answer = await self._preempts.preempt(pod_of(args.Pod), uids)
        return _encode(wire.ExtenderPreemptionResult(
            {node: wire.MetaVictims([wire.MetaPod(uid) for uid in leaving.uids],
                                    candidates[node].NumPDBViolations + leaving.broken)
             for node, leaving in answer.items()}
        ))  # fmt: skip

    def _offer(self, names: msgspec.Raw) -> Offer:
        return self._offers.of(self._engine.ledger, bytes(names))


@lru_cache(maxsize=_PODS)
def _known_pod(raw: bytes) -> Pod:
    return pod_of(_pod(raw))


def _no_nodes(error: str) -> bytes:
    return _encode(wire.ExtenderFilterResult(_NO_NODES, Error=error))


def _endpoint(
    name: str, verb: Callable[[bytes], Awaitable[bytes]], seconds: Histogram
) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def endpoint(request: HttpRequest) -> Response:
        body = await request.body()
        try:
            with seconds.time():
                answer = await verb(body)
        except msgspec.MsgspecError as error:
            text = f"{name}: the body is not kube-scheduler's extender/v1 request: {error}"
            return Response(_encode({"Error": text}), status_code=400, media_type="application/json")
        return Response(answer, media_type="application/json")

    return endpoint
