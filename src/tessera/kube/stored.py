"""The pod that the API server stores under a name, if it is still the one that was meant."""

from tessera.kube.convert import pod_of
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS
from tessera.model.pods import Pod


async def stored(gateway: Gateway, pod: Pod) -> Pod | None:
    """``pod`` as it is now; ``None`` if it is gone, also where another has its name. Raises as ``Gateway.get`` does."""
    try:
        found = pod_of(await gateway.get(PODS, pod.name, namespace=pod.namespace))
    except ApiError as error:
        if error.not_found:
            return None
        raise
    return found if found.uid == pod.uid else None
