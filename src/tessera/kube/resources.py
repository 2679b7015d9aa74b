"""Which collections of the API there are, where they stand and what their objects decode to."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from tessera.kube import wire

T = TypeVar("T")
Plain = dict[str, Any]


class ListOf(msgspec.Struct, Generic[T], frozen=True):
    """A page of a collection."""

    items: list[T] | None = None
    metadata: wire.ListMeta = wire.ListMeta()


@dataclass(frozen=True)
class Resource(Generic[T]):
    """One collection. ``api_version`` is ``v1`` or ``group/version``; ``type`` is a Struct or ``dict``."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    type: type[T]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL's path; without ``namespace`` the collection over all namespaces."""
        parts = ["/api" if "/" not in self.api_version else "/apis", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        elif self.namespaced and name:
            raise ValueError(f"{self.kind} {name!r} needs a namespace")
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)

    @cached_property
    def decoder(self) -> "msgspec.json.Decoder[T]":
        return msgspec.json.Decoder(self.type)

    @cached_property
    def list_decoder(self) -> "msgspec.json.Decoder[ListOf[T]]":
        return msgspec.json.Decoder(ListOf[self.type])  # type: ignore[name-defined]


PODS = Resource("v1", "Pod", "pods", True, wire.Pod)
NODES = Resource("v1", "Node", "nodes", False, wire.Node)
NAMESPACES = Resource("v1", "Namespace", "namespaces", False, wire.Namespace)
EVENTS = Resource("v1", "Event", "events", True, wire.Event)
LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases", True, wire.Lease)
GPU_NODES = Resource("tessera.io/v1alpha1", "GPUNode", "gpunodes", False, wire.GpuNode)
GPU_LEASES = Resource("tessera.io/v1alpha1", "GPULease", "gpuleases", True, wire.GpuLease)


def _plain(api_version: str, kind: str, plural: str, namespaced: bool = True) -> Resource[Plain]:
    return Resource(api_version, kind, plural, namespaced, Plain)


DEPLOYMENTS = _plain("apps/v1", "Deployment", "deployments")
REPLICA_SETS = _plain("apps/v1", "ReplicaSet", "replicasets")
STATEFUL_SETS = _plain("apps/v1", "StatefulSet", "statefulsets")
DAEMON_SETS = _plain("apps/v1", "DaemonSet", "daemonsets")
JOBS = _plain("batch/v1", "Job", "jobs")
CRON_JOBS = _plain("batch/v1", "CronJob", "cronjobs")
REPLICATION_CONTROLLERS = _plain("v1", "ReplicationController", "replicationcontrollers")
POD_TEMPLATES = _plain("v1", "PodTemplate", "podtemplates")
CONFIG_MAPS = _plain("v1", "ConfigMap", "configmaps")
SECRETS = _plain("v1", "Secret", "secrets")
SERVICES = _plain("v1", "Service", "services")
SERVICE_ACCOUNTS = _plain("v1", "ServiceAccount", "serviceaccounts")
RESOURCE_QUOTAS = _plain("v1", "ResourceQuota", "resourcequotas")
DISRUPTION_BUDGETS = _plain("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
PRIORITY_CLASSES = _plain("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", False)
POD_DISRUPTION_BUDGETS = _plain("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
CUSTOM_RESOURCE_DEFINITIONS = _plain(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False
)
RESOURCE_SLICES = _plain("resource.k8s.io/v1", "ResourceSlice", "resourceslices", False)
TOKEN_REVIEWS = _plain("authentication.k8s.io/v1", "TokenReview", "tokenreviews", False)
MUTATING_WEBHOOKS = _plain(
    "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False
)
ADMISSION_POLICIES = _plain(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", False
)
ADMISSION_BINDINGS = _plain(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False
)
PLAIN = (
    DEPLOYMENTS,
    REPLICA_SETS,
    STATEFUL_SETS,
    DAEMON_SETS,
    JOBS,
    CRON_JOBS,
    REPLICATION_CONTROLLERS,
    POD_TEMPLATES,
    CONFIG_MAPS,
    SECRETS,
    SERVICES,
    SERVICE_ACCOUNTS,
    RESOURCE_QUOTAS,
    DISRUPTION_BUDGETS,
    PRIORITY_CLASSES,
    POD_DISRUPTION_BUDGETS,
    CUSTOM_RESOURCE_DEFINITIONS,
    RESOURCE_SLICES,
    TOKEN_REVIEWS,
    MUTATING_WEBHOOKS,
    ADMISSION_POLICIES,
    ADMISSION_BINDINGS,
)


def untyped(resource: Resource[Any]) -> Resource[Plain]:
    """The same collection with plain dictionaries for objects."""
    return replace(resource, type=Plain)


ALL: tuple[Resource[Plain], ...] = (
    *(untyped(r) for r in (PODS, NODES, NAMESPACES, EVENTS, LEASES, GPU_NODES, GPU_LEASES)),
    *PLAIN,
)
_BY_KIND = {(r.api_version, r.kind): r for r in ALL}


def for_kind(api_version: str, kind: str) -> Resource[Plain]:
    """The collection that a manifest's ``apiVersion`` and ``kind`` name; raises ``ValueError``."""
    resource = _BY_KIND.get((api_version, kind))
    if resource is None:
        raise ValueError(f"kind: found {api_version} {kind}; allowed: {', '.join(sorted(k for _, k in _BY_KIND))}")
    return resource
