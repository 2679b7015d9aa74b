"""The pod that the API server stores under a name, if it is still the one that was meant."""

from tessera.kube.convert import pod_of
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS
from tessera.model.pods import Pod


async def stored(gateway: Gateway, pod: Pod) -> Pod | None:
    """``pod`` as it is now; ``None`` if it is gone, also where another has its name. Raises as ``Gateway.get`` does."""
    found = await gateway.find(PODS, pod.name, namespace=pod.namespace)
    return pod_of(found) if found is not None and found.metadata.uid == pod.uid else None
