"""Who holds a token: the API server's review of it, for one audience."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tessera.kube.gateway import Gateway
from tessera.kube.resources import TOKEN_REVIEWS

_POD, _UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
_ACCOUNT = "system:serviceaccount:"
MOST = 16 << 10
"""Characters of a token that is looked at."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """A pod, by a token that is bound to it."""

    namespace: str
    account: str
    pod: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class Refused:
    """``reason``: a word for metrics; ``text``: a sentence, without the token."""

    reason: str
    text: str


async def bearer_of(gateway: Gateway, token: str, audience: str) -> Bearer | Refused:
    """Raises as the gateway does, where nobody could say."""
    if not token:
        return Refused("no-token", f"token: found none; allowed: one for {audience}")
    if len(token) > MOST:
        return Refused("bad-token", f"token: found {len(token)} characters; allowed: up to {MOST}")
    body = {"metadata": {}, "spec": {"token": token, "audiences": [audience]}}
    answer = await gateway.create(TOKEN_REVIEWS, body)
    return judged(answer.get("status") or {}, audience)


def judged(status: Mapping[str, Any], audience: str) -> Bearer | Refused:
    """What the status of a TokenReview says."""
    if not status.get("authenticated"):
        return Refused("bad-token", f"token: found one that is not good (any more); allowed: one for {audience}")
    if audience not in (status.get("audiences") or ()):
        return Refused("audience", f"token: found it for others; allowed: one for {audience}")
    user = status.get("user") or {}
    name, extra = str(user.get("username") or ""), user.get("extra") or {}
    namespace, _, account = name.removeprefix(_ACCOUNT).partition(":")
    pod, uid = ((extra.get(key) or [""])[0] for key in (_POD, _UID))
    if not name.startswith(_ACCOUNT) or not account or not pod or not uid:
        return Refused("no-pod", f"token: found that of {name or 'nobody'}; allowed: one that is bound to a pod")
    return Bearer(namespace, account, str(pod), str(uid))
