"""A small synchronous client on raw JSON objects, for tests.

Objects are plain dicts. Kinds are found by discovery, so that custom resources need no registration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import urllib3

from tests.e2e.cluster.processes import wait_until

Json = dict[str, Any]
_PATCH = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiError(RuntimeError):
    """The server's refusal: `status` is the HTTP code, `reason` and the message are the server's words."""

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {"message": body.decode(errors="replace")}
        self.status = status
        self.reason = str(answer.get("reason", ""))
        self.message = str(answer.get("message", ""))
        super().__init__(f"{method} {path}: {status} {self.message}")


class Api:
    """One identity's view of the API server. Safe for threads."""

    def __init__(self, url: str, ca: Path, token: str, namespace: str = "default") -> None:
        self.url = url
        self.ca = ca
        self.token = token
        self.namespace = namespace
        self.warnings: list[str] = []
        self._pool = urllib3.PoolManager(ca_certs=str(ca), maxsize=32, retries=False, timeout=60)
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> bytes:
        """The answer's bytes; `ApiError` from 400 on. Admission warnings are kept in `warnings`."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        answer = self._pool.request(method, self.url + path, body=data, headers=headers)
        self.warnings += answer.headers.getlist("Warning")
        if answer.status >= 400:
            raise ApiError(method, path, answer.status, answer.data)
        return answer.data

    def path(self, kind: str, name: str = "", namespace: str | None = None, version: str = "v1", sub: str = "") -> str:
        """URL path of a kind's collection, object or subresource; `version` is an apiVersion."""
        plural, namespaced = self._resource(version, kind)
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        scope = f"/namespaces/{namespace or self.namespace}" if namespaced else ""
        return root + scope + f"/{plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")

    def get(self, kind: str, name: str, namespace: str | None = None, version: str = "v1") -> Json:
        return self._json("GET", self.path(kind, name, namespace, version))

    def find(self, kind: str, name: str, namespace: str | None = None, version: str = "v1") -> Json | None:
        """As `get`, but None where there is no such object."""
        try:
            return self.get(kind, name, namespace, version)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(
        self, kind: str, namespace: str | None = None, version: str = "v1", everywhere: bool = False, **query: str
    ) -> list[Json]:
        """Items; `query` are the API's own parameters, such as labelSelector."""
        path = self.path(kind, "", namespace, version)
        if everywhere:
            path = path.replace(f"/namespaces/{namespace or self.namespace}", "", 1)
        return cast("list[Json]", self._json("GET", f"{path}?{urlencode(query)}")["items"])

    def create(self, *objects: Json) -> Json:
        """Creates them in order and returns the last as stored."""
        stored: Json = {}
        for body in objects:
            path = self.path(body["kind"], "", body["metadata"].get("namespace"), body["apiVersion"])
            stored = self._json("POST", path, body)
        return stored

    def replace(self, body: Json) -> Json:
        return self._json("PUT", self._own_path(body), body)

    def patch(
        self, kind: str, name: str, body: object, *, namespace: str | None = None, version: str = "v1",
        sub: str = "", how: str = "merge",
    ) -> Json:  # fmt: skip
        """`how` is merge, json or strategic."""
        return self._json("PATCH", self.path(kind, name, namespace, version, sub), body, _PATCH[how])

    def apply(self, *objects: Json, manager: str = "e2e", force: bool = True) -> Json:
        """Server-side apply, in order; returns the last as stored."""
        stored: Json = {}
        for body in objects:
            query = urlencode({"fieldManager": manager, "force": str(force).lower()})
            stored = self._json("PATCH", f"{self._own_path(body)}?{query}", body, _PATCH["apply"])
        return stored

    def delete(
        self, kind: str, name: str, namespace: str | None = None, version: str = "v1", grace_s: int | None = None
    ) -> None:
        """Asks for deletion; an object that is not there is no error."""
        query = "" if grace_s is None else f"?gracePeriodSeconds={grace_s}"
        try:
            self.request("DELETE", self.path(kind, name, namespace, version) + query)
        except ApiError as error:
            if error.status != 404:
                raise

    def wait(
        self, kind: str, name: str, condition: Callable[[Json], object], *, timeout_s: float = 60,
        namespace: str | None = None, version: str = "v1",
    ) -> Json:  # fmt: skip
        """The object, once it exists and `condition` holds on it."""
        last: list[Json] = [{}]

        def holds() -> Json | None:
            last[0] = self.get(kind, name, namespace, version)
            return last[0] if condition(last[0]) else None

        try:
            return cast("Json", wait_until(f"{kind} {name}", holds, timeout_s))
        except RuntimeError as error:
            raise type(error)(f"{error}; its status: {json.dumps(last[0].get('status', {}))[:2000]}") from None

    def wait_gone(self, kind: str, name: str, *, timeout_s: float = 60, namespace: str | None = None) -> None:
        wait_until(f"{kind} {name} gone", lambda: self.find(kind, name, namespace) is None, timeout_s)

    def log(self, pod: str, container: str = "", namespace: str | None = None) -> str:
        """The container's output, by way of API server and kubelet."""
        query = f"?container={container}" if container else ""
        return self.request("GET", self.path("Pod", pod, namespace, sub="log") + query).decode(errors="replace")

    def events(self, name: str, namespace: str | None = None) -> list[Json]:
        """Events of the object of that name, oldest first as the server lists them."""
        return self.items("Event", namespace, fieldSelector=f"involvedObject.name={name}")

    def service_account_token(
        self, name: str, namespace: str | None = None, bound_to: Json | None = None, audience: str = ""
    ) -> str:
        """A token for a service account, as the kubelet would mount it; `bound_to` is a Pod or a Node object."""
        spec: Json = {"expirationSeconds": 7200} | ({"audiences": [audience]} if audience else {})
        if bound_to:
            spec["boundObjectRef"] = {
                "kind": bound_to["kind"], "apiVersion": "v1",
                "name": bound_to["metadata"]["name"], "uid": bound_to["metadata"]["uid"],
            }  # fmt: skip
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = self.path("ServiceAccount", name, namespace, sub="token")
        return cast("str", self._json("POST", path, body)["status"]["token"])

    def _json(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Json:
        return cast("Json", json.loads(self.request(method, path, body, content_type)))

    def _own_path(self, body: Json) -> str:
        metadata = body["metadata"]
        return self.path(body["kind"], metadata["name"], metadata.get("namespace"), body["apiVersion"])

    def _resource(self, version: str, kind: str) -> tuple[str, bool]:
        if (version, kind) not in self._kinds:
            root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
            self._kinds.update(_resources(version, self._json("GET", root)))
        try:
            return self._kinds[version, kind]
        except KeyError:
            raise LookupError(f"the API server knows no kind {kind} in {version}") from None


def _resources(version: str, answer: Json) -> Iterator[tuple[tuple[str, str], tuple[str, bool]]]:
    for resource in answer["resources"]:
        if "/" not in resource["name"]:
            yield (version, resource["kind"]), (resource["name"], resource["namespaced"])
