"""Pods without slices: where they strand no GPUs. One verb, prioritize, which kube-scheduler may do without.

CPU and memory of a host are what its idle GPUs are used with. Nodes without GPUs come first, 10 each, so that
kube-scheduler's own preferences decide among them, and GPU nodes follow by the policy's rank; where there are only GPU
nodes exactly one has 10. Nothing is held: kube-scheduler counts CPU and memory itself.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tessera.kube import wire
from tessera.kube.convert import pod_of
from tessera.model.demands import wants_slice
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.offers import offer_of
from tessera.scheduler.ranking import tens

PATH = "/others/prioritize"
_BEST = 10


class _Whose(msgspec.Struct):
    """The pod alone: a pod with slices needs no list of nodes read."""

    Pod: wire.Pod


class _Nodes(msgspec.Struct):
    NodeNames: list[str] | None = None


_whose, _nodes = msgspec.json.Decoder(_Whose).decode, msgspec.json.Decoder(_Nodes).decode


class Others:
    """See the module. ``gate`` says why nothing may be answered now, if so."""

    def __init__(self, engine: Engine, gate: Callable[[], Reason | None]) -> None:
        self._engine, self._gate = engine, gate

    def route(self) -> Route:
        return Route(PATH, self._answer, methods=["POST"])

    def prioritize(self, body: bytes) -> list[dict[str, str | int]]:
        """kube-scheduler's HostPriorityList, empty for pods with slices. Raises ``msgspec.MsgspecError``."""
        pod = pod_of(_whose(body).Pod)
        if wants_slice(pod) or self._gate():
            return []
        names = _nodes(body).NodeNames or []
        return [{"Host": name, "Score": score} for name, score in scores(self._engine, pod, names).items()]

    async def _answer(self, request: Request) -> Response:
        try:
            answer = self.prioritize(await request.body())
        except msgspec.MsgspecError as error:
            text = f"others/prioritize: the body is not kube-scheduler's extender/v1 request: {error}"
            return Response(msgspec.json.encode({"Error": text}), 400, media_type="application/json")
        return Response(msgspec.json.encode(answer), media_type="application/json")


def scores(engine: Engine, pod: Pod, names: Sequence[str]) -> Mapping[str, int]:
    """0 to 10 for each of ``names``; ``pod`` asks for no slice."""
    ledger = engine.ledger
    offer = offer_of(ledger, names)
    offered = offer.mask(ledger) & ledger.present.any(axis=1)
    # The policy is asked even where no GPU node is offered: it learns what arrives.
    scored = engine.scores_beside(pod, offered)
    ranked, on_gpus = tens(scored, None, offer), offer.among(offered)
    ranked[~on_gpus] = _BEST
    if on_gpus.all() and len(names):
        ranked[offer.rows == scored.argmax()] = _BEST
    return dict(zip(names, ranked.tolist(), strict=True))
