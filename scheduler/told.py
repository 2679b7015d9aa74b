"""How the running scheduler decides, as its leader says it on its Lease: for plans that users make by themselves."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tessera.kube.convert import gpu_lease_of, namespace_of
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES, LEASES, NAMESPACES
from tessera.model.domains import CLUSTER, Namespace, rule_of
from tessera.model.gpu_leases import GpuLease
from tessera.scheduler.notes import options_in
from tessera.scheduler.options import Options
from tessera.scheduler.settings import LEASE, SYSTEM

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plan has the scheduler's settings from: the Lease; ``trust_domain``, unless it is empty, in place of
    what is said there."""

    namespace: str = SYSTEM
    name: str = LEASE
    trust_domain: str = ""


def source_of(lease: str, trust_domain: str) -> Source:
    """Reads ``--lease``, empty for the chart's own, and ``--trust-domain``; raises ``ValueError`` with one sentence."""
    namespace, _, name = (lease or f"{SYSTEM}/{LEASE}").partition("/")
    if not namespace or not name or "/" in name:
        raise ValueError(f"--lease: found {lease!r}; allowed: NAMESPACE/NAME")
    try:
        rule_of(trust_domain or CLUSTER)
    except ValueError as error:
        raise ValueError(str(error).replace("trust_domain", "--trust-domain", 1)) from error
    return Source(namespace, name, trust_domain)


async def told_options(gateway: Gateway, source: Source, tell: Tell) -> Options:
    """The running scheduler's. Where none has said any, or the user may not read the Lease, the defaults, which
    ``tell`` is told."""
    try:
        found = options_in((await gateway.get(LEASES, source.name, namespace=source.namespace)).metadata.annotations)
        why = "says no settings"
    except ApiError as error:
        if not (error.not_found or error.forbidden):
            raise
        found, why = None, "is not there" if error.not_found else "may not be read"
    if found is None:
        assumed = "" if source.trust_domain else "; all pods are taken to share GPUs (see --trust-domain)"
        lease = f"{source.namespace}/{source.name}"
        tell(f"Lease {lease} {why} (see --lease): planned with the scheduler's default settings{assumed}")
    options = found or Options()
    return replace(options, trust_domain=source.trust_domain) if source.trust_domain else options


async def told_leases(gateway: Gateway, options: Options) -> list[GpuLease]:
    """Those of the cluster where slices may be on other nodes than their pods; else none are needed."""
    if options.pool is None:
        return []
    return [gpu_lease_of(lease) for lease in await gateway.list(GPU_LEASES)]


async def told_namespaces(gateway: Gateway, options: Options) -> list[Namespace]:
    """Those of the cluster where a label of theirs decides; else none are needed, nor the right to list them."""
    if not rule_of(options.trust_domain).label:
        return []
    return [namespace_of(namespace) for namespace in await gateway.list(NAMESPACES)]
