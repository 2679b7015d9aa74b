"""Accounts of users who are shown or refused something of a GPULease, and leases without a pod behind them."""

from __future__ import annotations

from tests.e2e.admission import Admission, refusal_of
from tests.e2e.cluster.api import Api, Json

LEASE = "tessera.io/v1alpha1"
ALL_RIGHTS: list[Json] = [{"apiGroups": ["tessera.io"], "resources": ["*"], "verbs": ["*"]}]


def patched(by: Api, name: str, body: Json, sub: str = "") -> str:
    """The server's sentence against this change of a lease of namespace default, or an empty text."""
    act = {"namespace": "default", "version": LEASE, "sub": sub}
    return refusal_of(lambda: by.patch("GPULease", name, body, **act))


def account(admission: Admission, name: str, rules: list[Json] | None = None) -> Api:
    """An account of namespace default with Kubernetes' own role ``name`` there, or with ``rules``."""
    api, rbac = admission.api, "rbac.authorization.k8s.io"
    if not api.find("ServiceAccount", name, "default"):
        kind = "Role" if rules else "ClusterRole"
        meta = {"name": name, "namespace": "default"}
        if rules:
            api.create({"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": meta, "rules": rules})
        api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
                   {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": meta,
                    "roleRef": {"apiGroup": rbac, "kind": kind, "name": name},
                    "subjects": [{"kind": "ServiceAccount", **meta}]})  # fmt: skip
    return admission.cluster.as_user(api.service_account_token(name, "default"))


def lease_of_a_pod(name: str, node: Json) -> Json:
    """A lease of a container on ``node``, which owns it: there is no such pod."""
    client = {"pod": "nobody", "podUID": "uid", "container": "main", "node": node["metadata"]["name"]}
    owner = {"apiVersion": "v1", "kind": "Node", "name": client["node"], "uid": node["metadata"]["uid"]}
    return {
        "apiVersion": LEASE, "kind": "GPULease",
        "metadata": {"name": name, "namespace": "default", "ownerReferences": [owner],
                     "finalizers": ["pool.tessera.io/executor"]},
        "spec": {"client": client, "slice": {"node": "far", "gpuUUID": "GPU-0", "memoryBytes": 1}},
    }  # fmt: skip
