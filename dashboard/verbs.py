"""What the REST API asks of leases: that one be made, used by a pod or by none, stopped or started, of another size, or
gone.

Asked of the API server with the caller's own bearer token and nothing of the dashboard's, so that the caller's rights
and the cluster's policies decide, and its audit log names the caller. No cookie signs anybody in, and what a foreign
page may send without asking first (no Authorization header; no content type, or a form's) is refused.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from tessera.dashboard.answers import Failure
from tessera.dashboard.auth import NOT_ACCEPTED, bearer_of
from tessera.dashboard.cluster import lease_state_of
from tessera.dashboard.states import LeaseState
from tessera.dashboard.verb_bodies import NEW, NOTHING, POD, RESIZE, good, name_of, new_of, sent, size_of
from tessera.kube import wire
from tessera.kube.errors import ApiError, KubeError, UnknownOutcome
from tessera.kube.gateway import Gateway
from tessera.kube.lease_verbs import ask_end, ask_new, ask_no_user, ask_size, ask_stopped, ask_user
from tessera.kube.resources import GPU_LEASES
from tessera.reasons import Reason

_ANSWERS: dict[int | str, dict[str, Any]] = {s: {"model": Failure} for s in (400, 401, 403, 404, 409, 415, 429, 503)}
_Asked = Awaitable[wire.GpuLease | Reason]
_Verb = Callable[[Gateway, wire.GpuLease], _Asked]


def verbs(open_as: Callable[[str], Gateway], refusal: str = "") -> APIRouter:
    """The routes. ``open_as`` gives a gateway for a bearer token; with a ``refusal`` all of them answer only that."""
    router = APIRouter(prefix="/api/v1/leases/{namespace}", responses=_ANSWERS)

    def shown(request: Request) -> str:
        """The caller's token."""
        token = bearer_of(request.headers.get("authorization", ""))
        if not token:
            text = "authorization: found no bearer token; allowed: a Kubernetes token, whose rights decide"
            raise HTTPException(401, text, {"WWW-Authenticate": "Bearer"})
        if refusal:
            raise HTTPException(403, refusal)
        return token

    async def asked(token: str, ask: Callable[[Gateway], _Asked]) -> LeaseState:
        """What the API server answers to the caller."""
        try:
            async with open_as(token) as gateway:
                written = await ask(gateway)
        except KubeError as error:
            raise _refused(error) from error
        if isinstance(written, Reason):
            raise HTTPException(409, written.text)
        return lease_state_of(written)

    async def asked_of(token: str, namespace: str, name: str, verb: _Verb) -> LeaseState:
        """The same of the lease that there is of that name now."""

        async def ask(gateway: Gateway) -> wire.GpuLease | Reason:
            return await verb(gateway, await gateway.get(GPU_LEASES, name, namespace=namespace))

        return await asked(token, ask)

    @router.post("", status_code=201, openapi_extra=NEW.openapi)
    async def create(namespace: str, request: Request) -> LeaseState:
        """Makes a standing lease, which is then found room for and served."""
        token = shown(request)
        name, new = good(new_of(await sent(request, NEW)))
        return await asked(token, lambda gateway: ask_new(gateway, namespace, name, new.size, new.annotations))

    @router.post("/{name}/resize", status_code=202, openapi_extra=RESIZE.openapi)
    async def resize(namespace: str, name: str, request: Request) -> LeaseState:
        """Asks for another size; the lease as it is, which then moves to a slice of that size."""
        token = shown(request)
        size = good(size_of(await sent(request, RESIZE)))
        return await asked_of(token, namespace, name, lambda gateway, found: ask_size(gateway, found, size))

    @router.post("/{name}/attach", status_code=202, openapi_extra=POD.openapi)
    async def attach(namespace: str, name: str, request: Request) -> LeaseState:
        """Tells a pod of the namespace that waits to be placed to use a standing lease; the lease as it was before."""
        token = shown(request)
        pod = good(name_of(await sent(request, POD), "pod"))
        return await asked_of(token, namespace, name, lambda gateway, found: _attached(gateway, found, pod))

    @router.post("/{name}/detach", status_code=202, openapi_extra=NOTHING.openapi)
    async def detach(namespace: str, name: str, request: Request) -> LeaseState:
        """Takes the pod off a standing lease, whose sessions end; the lease as it is then."""
        token = shown(request)
        await sent(request, NOTHING)
        return await asked_of(token, namespace, name, ask_no_user)

    @router.post("/{name}/stop", status_code=202, openapi_extra=NOTHING.openapi)
    async def stop(namespace: str, name: str, request: Request) -> LeaseState:
        """Asks a standing lease that no pod uses to give its room back; the lease as it is then."""
        token = shown(request)
        await sent(request, NOTHING)
        return await asked_of(token, namespace, name, lambda gateway, found: ask_stopped(gateway, found, stopped=True))

    @router.post("/{name}/start", status_code=202, openapi_extra=NOTHING.openapi)
    async def start(namespace: str, name: str, request: Request) -> LeaseState:
        """Asks that a standing lease have room again; the lease as it is then."""
        token = shown(request)
        await sent(request, NOTHING)
        return await asked_of(token, namespace, name, lambda gateway, found: ask_stopped(gateway, found, stopped=False))

    @router.delete("/{name}", status_code=202)
    async def end(namespace: str, name: str, request: Request) -> LeaseState:
        """Asks for its end; the lease as it was before."""
        return await asked_of(shown(request), namespace, name, _ended)

    return router


async def _attached(gateway: Gateway, found: wire.GpuLease, pod: str) -> wire.GpuLease | Reason:
    told = await ask_user(gateway, found, pod)
    return told if isinstance(told, Reason) else found


async def _ended(gateway: Gateway, found: wire.GpuLease) -> wire.GpuLease:
    await ask_end(gateway, found)
    return found


def _refused(error: KubeError) -> HTTPException:
    """The API server's refusal as this API's."""
    if isinstance(error, UnknownOutcome):
        return HTTPException(503, f"whether it was asked for is not known, look at the lease: {error}")
    if not isinstance(error, ApiError):
        return HTTPException(503, f"the API server could not be asked: {error}")
    if error.unauthorized:
        return HTTPException(401, NOT_ACCEPTED, {"WWW-Authenticate": "Bearer"})
    status = 400 if error.invalid else error.status
    return HTTPException(status if status in (400, 403, 404, 409, 429) else 503, error.message or str(error))
