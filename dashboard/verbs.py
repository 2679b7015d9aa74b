"""What the REST API changes: the size that is wanted of a lease, and the end of one.

Asked of the API server with the caller's own bearer token and nothing of the dashboard's, so that the caller's rights
and the cluster's policies decide, and its audit log names the caller. No cookie signs anybody in, and what a foreign
page may send without asking first (no Authorization header, a form's content type) is refused.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, HTTPException, Request

from tessera.dashboard.answers import Failure
from tessera.dashboard.auth import NOT_ACCEPTED, bearer_of
from tessera.dashboard.cluster import lease_state_of
from tessera.dashboard.states import LeaseState
from tessera.kube.errors import ApiError, KubeError, UnknownOutcome
from tessera.kube.gateway import Gateway
from tessera.kube.lease_verbs import ask_end, ask_size
from tessera.kube.resources import GPU_LEASES
from tessera.model.demands import MEM_ALLOWED
from tessera.model.resizes import CORE_ALLOWED, Resize, resize_of
from tessera.reasons import Reason, invalid

MAX_BODY = 4096
_BODY = 'a JSON object such as {"gpu-mem": "16Gi", "gpu-core": 40}'
_AMOUNT = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
_SCHEMA = {
    "type": "object",
    "required": ["gpu-mem"],
    "additionalProperties": False,
    "properties": {
        "gpu-mem": {**_AMOUNT, "description": MEM_ALLOWED},
        "gpu-core": {**_AMOUNT, "description": f"{CORE_ALLOWED}; left out: as it is"},
    },
}
_RESIZE: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {s: {"model": Failure} for s in (400, 401, 403, 404, 409, 415, 429, 503)}


def verbs(open_as: Callable[[str], Gateway], refusal: str = "") -> APIRouter:
    """The routes. ``open_as`` gives a gateway for a bearer token; with a ``refusal`` all of them answer only that."""
    router = APIRouter(prefix="/api/v1/leases/{namespace}/{name}", responses=_ANSWERS)

    def shown(request: Request) -> str:
        """The caller's token."""
        token = bearer_of(request.headers.get("authorization", ""))
        if not token:
            text = "authorization: found no bearer token; allowed: a Kubernetes token, whose rights decide"
            raise HTTPException(401, text, {"WWW-Authenticate": "Bearer"})
        if refusal:
            raise HTTPException(403, refusal)
        return token

    @router.post("/resize", status_code=202, openapi_extra=_RESIZE)
    async def resize(namespace: str, name: str, request: Request) -> LeaseState:
        """Asks for another size; the lease as it is, which then moves to a slice of that size."""
        token = shown(request)
        asked = await _asked(request)
        try:
            async with open_as(token) as gateway:
                found = await gateway.get(GPU_LEASES, name, namespace=namespace)
                written = await ask_size(gateway, found, asked)
        except KubeError as error:
            raise _refused(error) from error
        if isinstance(written, Reason):
            raise HTTPException(409, written.text)
        return lease_state_of(written)

    @router.delete("", status_code=202)
    async def end(namespace: str, name: str, request: Request) -> LeaseState:
        """Asks for its end; the lease as it was before."""
        token = shown(request)
        try:
            async with open_as(token) as gateway:
                found = await gateway.get(GPU_LEASES, name, namespace=namespace)
                await ask_end(gateway, found)
        except KubeError as error:
            raise _refused(error) from error
        return lease_state_of(found)

    return router


async def _asked(request: Request) -> Resize:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, f"content-type: found {kind!r}; allowed: application/json")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise HTTPException(400, f"body: found more than {MAX_BODY} bytes; allowed: {_BODY}")
    found = read(body)
    if isinstance(found, Reason):
        raise HTTPException(400, found.text)
    return found


def read(body: bytes) -> Resize | Reason:
    """The size that a request's body asks for."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return invalid("body", body.decode(errors="replace"), _BODY)
    if not isinstance(found, dict):
        return invalid("body", found, _BODY)
    for key in found.keys() - {"gpu-mem", "gpu-core"}:
        return invalid(key, found[key], "gpu-mem and gpu-core only")
    mem, core = found.get("gpu-mem"), found.get("gpu-core")
    if not _amount(mem):
        return invalid("gpu-mem", mem, MEM_ALLOWED)
    if "gpu-core" in found and not _amount(core):
        return invalid("gpu-core", core, CORE_ALLOWED)
    return resize_of(str(mem), None if core is None else str(core))


def _amount(found: object) -> bool:
    return isinstance(found, str | int) and not isinstance(found, bool)


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
