"""The authority's Secret, made where there is none, and the ConfigMap from which others learn whom to trust."""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime

from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import CONFIG_MAPS, SECRETS, Plain
from tessera.remote.controller.authority import Authority, Pair, new_authority

CERT, KEY, PUBLISHED = "tls.crt", "tls.key", "ca.crt"


class AuthorityError(Exception):
    """The Secret is there and cannot be used, in a sentence."""


async def authority_in(gateway: Gateway, namespace: str, name: str, now: Callable[[], datetime]) -> Authority:
    """That of the Secret, which is made where there is none. Raises ``AuthorityError`` and as the gateway does."""
    found = await gateway.find(SECRETS, name, namespace=namespace)
    if found is None:
        pair = new_authority(now())
        try:
            await gateway.create(SECRETS, _secret(namespace, name, pair))
        except ApiError as error:
            if not error.already_exists:
                raise
        found = await gateway.find(SECRETS, name, namespace=namespace)
    if found is None:
        raise AuthorityError(f"Secret {namespace}/{name}: found it gone as soon as it was made")
    return _authority(f"Secret {namespace}/{name}", found)


async def publish(gateway: Gateway, namespace: str, name: str, authority: Authority) -> None:
    """The authority's certificate for gates and client nodes. Raises as the gateway does."""
    data = {PUBLISHED: authority.cert.decode()}
    stored = await gateway.find(CONFIG_MAPS, name, namespace=namespace)
    if stored is None:
        await gateway.create(CONFIG_MAPS, {"metadata": {"name": name, "namespace": namespace}, "data": data})
    elif (stored.get("data") or {}).get(PUBLISHED) != data[PUBLISHED]:
        await gateway.merge_patch(CONFIG_MAPS, name, {"data": data}, namespace=namespace)


def _secret(namespace: str, name: str, pair: Pair) -> Plain:
    data = {CERT: pair.cert, KEY: pair.key}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def _authority(where: str, secret: Plain) -> Authority:
    data = secret.get("data") or {}
    try:
        return Authority(Pair(*(base64.b64decode(data[key], validate=True) for key in (CERT, KEY))))
    except KeyError as error:
        raise AuthorityError(f"{where}: found no {error.args[0]}; allowed: {CERT} and {KEY}") from None
    except (ValueError, TypeError, binascii.Error) as error:
        raise AuthorityError(f"{where}: {error}") from None
