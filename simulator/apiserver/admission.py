"""Admission: mutating webhooks over HTTP with a real AdmissionReview, then validators in process.

A validator stands where a ValidatingAdmissionPolicy would: it sees the final object, and a sentence from it refuses
the request.
"""

import base64
import ssl
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import msgspec

from tessera.kube.resources import Resource
from tessera.simulator.apiserver.answers import Refused
from tessera.simulator.apiserver.patching import json_patch

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What admission sees. ``operation`` is CREATE, UPDATE, DELETE or CONNECT; for a Binding the subresource is
    ``binding``, the object the Binding, and the operation CREATE.
    """

    object: Plain | None
    old: Plain | None
    operation: str
    user: str
    resource: Resource[Plain]
    subresource: str
    namespace: str
    name: str
    dry_run: bool = False

    @property
    def plural(self) -> str:
        return self.resource.plural


Validator = Callable[[Request], str | None]


def always(_request: Request) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Webhook:
    """``match`` stands for rules and matchConditions; it sees CREATE and UPDATE of main resources only."""

    url: str
    match: Callable[[Request], bool] = always
    tls: ssl.SSLContext | None = None
    fail_closed: bool = True
    timeout_s: float = 10.0
    name: str = "webhook.tessera.io"


class Admission:
    """Asks webhooks in order, then validators."""

    def __init__(self, webhooks: Sequence[Webhook] = (), validators: Sequence[Validator] = ()) -> None:
        self.webhooks = list(webhooks)
        self.validators = list(validators)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def concerns(self, request: Request) -> bool:
        """Whether any webhook will be asked."""
        return any(webhook.match(request) for webhook in self.webhooks)

    async def mutate(self, request: Request) -> tuple[Plain, list[str]]:
        """The object as the webhooks leave it, and their warnings; raises ``Refused``."""
        warnings: list[str] = []
        assert request.object is not None
        for webhook in self.webhooks:
            if request.subresource or not webhook.match(request):
                continue
            answer = await self._ask(webhook, request)
            if answer is None:
                continue
            warnings += answer.get("warnings") or []
            request = replace(request, object=_result(webhook, request, answer))
        assert request.object is not None
        return request.object, warnings

    def validate(self, request: Request) -> None:
        for validator in self.validators:
            if sentence := validator(request):
                kind = request.resource.plural
                raise Refused(422, f'{kind} "{request.name}" is forbidden: denied request: {sentence}', "Invalid")

    async def _ask(self, webhook: Webhook, request: Request) -> Plain | None:
        review = review_of(request)
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._session.post(
                webhook.url,
                data=msgspec.json.encode(review),
                headers={"Content-Type": "application/json"},
                ssl=webhook.tls or True,
                timeout=aiohttp.ClientTimeout(total=webhook.timeout_s),
            ) as response:
                body = await response.read()
                if response.status != 200:
                    raise ValueError(f"an error on the server ({body[:200]!r}), status {response.status}")
            return _response_of(body, review["request"]["uid"])
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.DecodeError) as error:
            if not webhook.fail_closed:
                return None
            text = f'failed calling webhook "{webhook.name}": failed to call webhook: {error}'
            raise Refused(500, f"Internal error occurred: {text}") from error


def review_of(request: Request) -> Plain:
    """The AdmissionReview (admission.k8s.io/v1) that says ``request``."""
    group, _, version = request.resource.api_version.rpartition("/")
    kind = {"group": group, "version": version, "kind": request.resource.kind}
    resource = {"group": group, "version": version, "resource": request.resource.plural}
    body = {
        "uid": str(uuid.uuid4()),
        "kind": kind,
        "resource": resource,
        "subResource": request.subresource,
        "requestKind": kind,
        "requestResource": resource,
        "name": request.name,
        "namespace": request.namespace,
        "operation": request.operation,
        "userInfo": {"username": request.user, "groups": ["system:authenticated"]},
        "object": request.object,
        "oldObject": request.old,
        "dryRun": request.dry_run,
        "options": None,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": body}


def _response_of(body: bytes, uid: str) -> Plain:
    answer = msgspec.json.decode(body, type=dict[str, Any])
    response = answer.get("response")
    if answer.get("kind") != "AdmissionReview" or answer.get("apiVersion") != "admission.k8s.io/v1":
        raise ValueError(f"expected webhook response of admission.k8s.io/v1, got {answer.get('apiVersion')}")
    if not isinstance(response, dict) or response.get("uid") != uid:
        raise ValueError("expected response.uid to be the request's")
    return response


def _result(webhook: Webhook, request: Request, answer: Plain) -> Plain:
    if not answer.get("allowed"):
        status = answer.get("status") or {}
        message = status.get("message") or "without explanation"
        code = status.get("code") or 403
        raise Refused(
            code, f'admission webhook "{webhook.name}" denied the request: {message}', status.get("reason", "")
        )
    assert request.object is not None
    if not answer.get("patch"):
        return request.object
    if answer.get("patchType") != "JSONPatch":
        raise Refused(500, f"Internal error occurred: webhook response.patchType {answer.get('patchType')!r}")
    return json_patch(request.object, msgspec.json.decode(base64.b64decode(answer["patch"])))
