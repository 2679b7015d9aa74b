"""Which object or collection a URL names."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tessera.kube.resources import ALL, Resource
from tessera.simulator.apiserver.answers import Refused

Plain = dict[str, Any]
_KNOWN = {(resource.api_version, resource.plural): resource for resource in ALL}
_NO_STATUS = ("events", "leases", "configmaps", "secrets", "serviceaccounts", "podtemplates", "priorityclasses")


@dataclass(frozen=True, slots=True)
class Target:
    """``name`` is empty for a collection, ``namespace`` for all namespaces."""

    resource: Resource[Plain]
    namespace: str
    name: str
    subresource: str

    @property
    def plural(self) -> str:
        return self.resource.plural

    @property
    def has_status(self) -> bool:
        """Whether status is written apart from the rest."""
        return self.plural not in _NO_STATUS


def target_of(path: str) -> Target:
    """Raises ``Refused`` (404) for what this server does not know."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        version, rest = parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        version, rest = f"{parts[1]}/{parts[2]}", parts[3:]
    else:
        raise Refused(404, "the server could not find the requested resource")
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if rest[0] == "bindings":
        return Target(_KNOWN["v1", "pods"], namespace, "", "binding")
    resource = _KNOWN.get((version, rest[0]))
    if resource is None or len(rest) > 3:
        raise Refused(404, "the server could not find the requested resource")
    name, subresource = (*rest[1:], "", "")[:2]
    return Target(resource, namespace, name, subresource)
