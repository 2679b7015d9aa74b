"""Tokens bound to pods, and the answer to a TokenReview of one."""

import secrets
from typing import Any

from tessera.simulator.apiserver.store import Store

Plain = dict[str, Any]
API_SERVER = "https://kubernetes.default.svc"
"""The audience of a token for which none was named."""


class Reviews:
    """A token is good until it is revoked and as long as its pod is there."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._issued: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {}

    def issue(self, namespace: str, pod: str, *audiences: str, account: str = "default") -> str:
        """A token of the pod as it is now."""
        found = self._store.get("pods", namespace, pod)
        assert found is not None, f"no pod {namespace}/{pod}"
        token = secrets.token_urlsafe(16)
        self._issued[token] = namespace, pod, found["metadata"]["uid"], account, audiences or (API_SERVER,)
        return token

    def revoke(self, token: str) -> None:
        """It has expired."""
        del self._issued[token]

    def answer(self, review: Plain) -> Plain:
        """The TokenReview with its status."""
        spec = review.get("spec") or {}
        return {**review, "status": self._status(spec.get("token") or "", spec.get("audiences") or [API_SERVER])}

    def _status(self, token: str, wanted: list[str]) -> Plain:
        if token not in self._issued:
            return {"authenticated": False, "error": "invalid bearer token"}
        namespace, pod, uid, account, audiences = self._issued[token]
        stored = self._store.get("pods", namespace, pod)
        if stored is None or stored["metadata"]["uid"] != uid:
            return {"authenticated": False, "error": "service account token has been invalidated"}
        if not set(wanted) & set(audiences):
            return {"authenticated": False, "error": f"token audiences {list(audiences)} is invalid for {wanted}"}
        user = {
            "username": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [uid],
            },
        }
        return {"authenticated": True, "user": user, "audiences": [each for each in audiences if each in wanted]}
