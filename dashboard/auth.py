"""Who may read the dashboard. What it changes (``verbs``) is the API server's to allow.

``kubernetes``: a TokenReview checks the bearer token and a SubjectAccessReview its user, both answered by the API
server: who may ``get gpunodes`` may read all of this. Answers are kept for a short while, keyed by the token's hash.
``none``: everybody who reaches the port; allowed on loopback addresses only, and only under a loopback host name, so
that a foreign web page cannot reach it by pointing its own name here.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

ALLOWED_S = 30.0
DENIED_S = 5.0
KEPT_ANSWERS = 1024
NOT_ACCEPTED = "the API server does not accept this token; it may have expired"


class Mode(StrEnum):
    KUBERNETES = "kubernetes"
    NONE = "none"


class Access(StrEnum):
    """What is asked for: the pool's objects, or the process's metrics."""

    POOL = "pool"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Denied:
    """Why not: ``status`` 401 without a valid token, 403 without the right, 503 if the API server did not answer."""

    status: int
    text: str


class Reviews(Protocol):
    """Creates a review object and returns it as the API server answered it; raises ``ReviewError``."""

    async def review(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


class ReviewError(Exception):
    """The API server could not be asked."""


class Gate(Protocol):
    async def check(self, token: str, access: Access) -> Denied | None: ...


class OpenGate:
    """Mode ``none``."""

    async def check(self, token: str, access: Access) -> Denied | None:
        return None


class KubernetesGate:
    """Mode ``kubernetes``."""

    def __init__(self, reviews: Reviews, now_s: Callable[[], float]) -> None:
        self._reviews, self._now_s = reviews, now_s
        self._kept: dict[tuple[bytes, Access], tuple[float, Denied | None]] = {}

    async def check(self, token: str, access: Access) -> Denied | None:
        """``None`` if the token's user may have ``access``."""
        if not token:
            return Denied(401, "this dashboard asks for a bearer token: found none; allowed: a Kubernetes token")
        key = (hashlib.sha256(token.encode()).digest(), access)
        until, answer = self._kept.get(key, (0.0, None))
        if self._now_s() < until:
            return answer
        try:
            answer = await self._ask(token, access)
        except ReviewError as error:
            return Denied(503, f"the token could not be checked: {error}")
        self._keep(key, answer)
        return answer

    def _keep(self, key: tuple[bytes, Access], answer: Denied | None) -> None:
        now = self._now_s()
        if len(self._kept) >= KEPT_ANSWERS:
            self._kept = {k: v for k, v in self._kept.items() if v[0] > now}
        if len(self._kept) >= KEPT_ANSWERS:
            self._kept.clear()
        self._kept[key] = (now + (DENIED_S if answer else ALLOWED_S), answer)

    async def _ask(self, token: str, access: Access) -> Denied | None:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = await self._reviews.review("/apis/authentication.k8s.io/v1/tokenreviews", body)
        status = answer.get("status") or {}
        if status.get("authenticated") is not True:
            return Denied(401, NOT_ACCEPTED)
        user = status.get("user") or {}
        access_review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": _subject(user) | _attributes(access),
        }
        answer = await self._reviews.review("/apis/authorization.k8s.io/v1/subjectaccessreviews", access_review)
        if (answer.get("status") or {}).get("allowed") is True:
            return None
        return Denied(403, f"{user.get('username') or 'this user'} may not {_WORDS[access]}")


_WORDS = {Access.POOL: "get gpunodes.tessera.io", Access.METRICS: "get the non-resource URL /metrics"}


def bearer_of(authorization: str) -> str:
    """The token of an Authorization header; empty for another scheme, or none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _subject(user: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "user": user.get("username", ""),
        "uid": user.get("uid", ""),
        "groups": user.get("groups") or [],
        "extra": user.get("extra") or {},
    }


def _attributes(access: Access) -> dict[str, Any]:
    if access is Access.METRICS:
        return {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}
    return {"resourceAttributes": {"group": "tessera.io", "resource": "gpunodes", "verb": "get"}}
