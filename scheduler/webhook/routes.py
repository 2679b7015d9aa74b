"""The webhook over HTTP: `POST /mutate` answers AdmissionReview v1.

Every well-formed review is allowed, patched or not. A body that is no review gets 400 with one sentence; the API
server then fails the request closed, by the webhook's failurePolicy.
"""

import base64
import json
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tessera.scheduler.webhook.rewrite import Options, rewrite

log = structlog.get_logger()
PATH = "/mutate"
MAX_BODY_BYTES = 8 << 20
"""etcd stores objects below 1.5 MiB; a review holds two of them."""


class AdmissionRequest(msgspec.Struct, rename="camel"):
    """The fields of an AdmissionRequest that are read."""

    uid: str
    operation: str
    object: dict[str, Any] | None = None
    kind: dict[str, str] = {}
    namespace: str = ""
    name: str = ""
    sub_resource: str = ""


class AdmissionReview(msgspec.Struct, rename="camel"):
    """An AdmissionReview as the API server sends it."""

    api_version: str
    kind: str
    request: AdmissionRequest


class MalformedReview(ValueError):
    """The body is no AdmissionReview v1 request."""


def routes(options: Options) -> list[Route]:
    """The webhook's routes, to be served over TLS."""

    async def mutate(request: Request) -> Response:
        try:
            answer = review(await _body(request), options)
        except MalformedReview as error:
            return Response(f"{error}\n", status_code=400, media_type="text/plain")
        return Response(answer, media_type="application/json")

    return [Route(PATH, mutate, methods=["POST"])]


def review(body: bytes, options: Options) -> bytes:
    """The answer to one AdmissionReview; raises ``MalformedReview``."""
    try:
        asked = msgspec.json.decode(body, type=AdmissionReview)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedReview(f"body: {error}; allowed: an AdmissionReview of admission.k8s.io/v1") from None
    if (asked.api_version, asked.kind) != ("admission.k8s.io/v1", "AdmissionReview"):
        found = f"{asked.api_version} {asked.kind}"
        raise MalformedReview(f"apiVersion and kind: found {found!r}; allowed: admission.k8s.io/v1 AdmissionReview")
    return json.dumps(_answer(asked.request, options)).encode()


def _answer(request: AdmissionRequest, options: Options) -> dict[str, Any]:
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    if request.object is not None and not request.sub_resource:
        obj = {"kind": request.kind.get("kind"), **request.object}
        done = rewrite(obj, request.operation, options)
        if done.patch:
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(done.patch).encode()).decode()}
        if done.warnings:
            response["warnings"] = done.warnings
        log.debug("reviewed", kind=obj["kind"], namespace=request.namespace, name=request.name, edits=len(done.patch))
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise MalformedReview(f"body: found more than {MAX_BODY_BYTES} bytes; allowed: fewer")
    return bytes(body)
