"""Where the API server is, how its certificate is checked, and which credentials go with a request.

Kubeconfig and in-cluster settings are read by the ``kubernetes`` package. Tokens expire while a process runs: they
are read again at most each minute, and at once after the server has refused one.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tessera.settings import KubeSettings

REFRESH_S = 60.0
IN_CLUSTER_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
IN_CLUSTER_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
Clock = Callable[[], float]
TlsContext = ssl.SSLContext


class TokenSource(Protocol):
    """The value of the Authorization header, kept fresh."""

    async def header(self) -> str:
        """The header's value, empty for none."""
        ...

    async def refused(self) -> bool:
        """To be called after a 401: reads the credentials again, and says whether they changed."""
        ...


class ConfigurationError(ValueError):
    """There is no usable way to the API server; the text says what was looked at."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything a gateway needs to know. ``ssl`` is ``None`` for plain http; ``server_name`` overrides SNI.

    ``bare_ssl`` checks the server as ``ssl`` does, where that shows a client certificate: it shows none.
    """

    server: str
    ssl: TlsContext | None
    tokens: TokenSource
    server_name: str = ""
    bare_ssl: TlsContext | None = None


class FixedToken:
    """A token that never changes, or none."""

    def __init__(self, token: str = "") -> None:
        self._header = f"Bearer {token}" if token else ""

    async def header(self) -> str:
        return self._header

    async def refused(self) -> bool:
        return False


class FileToken:
    """A token in a file that somebody else renews, such as a pod's projected service account token."""

    def __init__(self, path: str | Path, *, clock: Clock = time.monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._token = ""
        self._read_at = float("-inf")

    async def header(self) -> str:
        if self._clock() - self._read_at >= REFRESH_S:
            self._read()
        return f"Bearer {self._token}"

    async def refused(self) -> bool:
        before = self._token
        self._read()
        return self._token != before

    def _read(self) -> None:
        """Keeps the last token if the file is away for a moment; without any there is nothing to send."""
        try:
            self._token = self._path.read_text().strip() or self._token
        except OSError as error:
            if not self._token:
                raise ConfigurationError(f"token file {self._path}: {error.strerror}") from error
        self._read_at = self._clock()


class LoadedToken:
    """Credentials that the ``kubernetes`` package loads (static, exec plugin, OIDC), loaded again when needed."""

    def __init__(self, load: Callable[[], Any], loaded: Any, *, clock: Clock = time.monotonic) -> None:
        self._load = load
        self._configuration = loaded
        self._clock = clock
        self._checked_at = clock()

    async def header(self) -> str:
        if self._clock() - self._checked_at >= REFRESH_S:
            self._checked_at = self._clock()
            if hook := self._configuration.refresh_api_key_hook:
                await asyncio.to_thread(hook, self._configuration)
        return _header_of(self._configuration)

    async def refused(self) -> bool:
        before = _header_of(self._configuration)
        self._configuration = await asyncio.to_thread(self._load)
        self._checked_at = self._clock()
        return _header_of(self._configuration) != before


def _header_of(configuration: Any) -> str:
    value = str(configuration.api_key.get("BearerToken", ""))
    return value[:1].upper() + value[1:]


def as_bearer(connection: Connection, token: str) -> Connection:
    """The same server for whom ``token`` is, with no credentials of ours: a client certificate would win over it."""
    return Connection(
        connection.server, connection.bare_ssl or connection.ssl, FixedToken(token), connection.server_name
    )


def plain(url: str, token: str = "") -> Connection:
    """A server without TLS, such as the embedded cluster's."""
    return Connection(url.rstrip("/"), None, FixedToken(token))


def connect(settings: KubeSettings) -> Connection:
    """The first that is set of: ``server``, ``kubeconfig``, $KUBECONFIG, the pod's service account, ~/.kube/config.

    Raises ``ConfigurationError``.
    """
    if settings.server:
        return _from_server(settings)
    named = settings.kubeconfig or os.environ.get("KUBECONFIG", "")
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster()
    return _from_kubeconfig(named, settings.context)


def default_namespace(settings: KubeSettings) -> str:
    """The namespace that goes with ``connect``: the kubeconfig context's, or the pod's own; else ``default``.

    Raises ``ConfigurationError``.
    """
    if settings.server:
        return "default"
    named = settings.kubeconfig or os.environ.get("KUBECONFIG", "")
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _text_of(IN_CLUSTER_NAMESPACE) or "default"
    from kubernetes.config import list_kube_config_contexts  # slow: only when needed

    try:
        contexts, active = list_kube_config_contexts(named or None)
        chosen = next((c for c in contexts if c["name"] == settings.context), active)
        return str(chosen["context"].get("namespace") or "default")
    except Exception as error:
        raise _unreadable(named, error) from error


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _unreadable(path: str, error: Exception) -> ConfigurationError:
    """Whatever is wrong with the user's file: the client lets errors of its YAML reader and its own slips through."""
    shown = path or "~/.kube/config"
    if not any(Path(each).expanduser().exists() for each in shown.split(os.pathsep)):
        return ConfigurationError(f"kubeconfig {shown}: no such file")
    sentence = " ".join(str(error).split())
    if isinstance(error, AttributeError | TypeError | KeyError | IndexError):
        sentence = f"not a kubeconfig ({sentence})"
    return ConfigurationError(f"kubeconfig {shown}: {sentence or type(error).__name__}")


def _from_server(settings: KubeSettings) -> Connection:
    if not settings.server.startswith(("http://", "https://")):
        raise ConfigurationError(f"server: found {settings.server!r}; allowed: a URL with http:// or https://")
    tokens: TokenSource = FileToken(settings.token_file) if settings.token_file else FixedToken()
    tls = ssl.create_default_context(cafile=settings.ca_file or None) if settings.server.startswith("https") else None
    return Connection(settings.server.rstrip("/"), tls, tokens)


def _in_cluster() -> Connection:
    from kubernetes.client import Configuration  # the import alone takes a second: only when needed
    from kubernetes.config import ConfigException, load_incluster_config

    loaded = Configuration()
    try:
        load_incluster_config(client_configuration=loaded)
    except ConfigException as error:
        raise ConfigurationError(f"the pod's service account: {error}") from error
    return Connection(loaded.host, ssl.create_default_context(cafile=loaded.ssl_ca_cert), FileToken(IN_CLUSTER_TOKEN))


def _from_kubeconfig(path: str, context: str) -> Connection:
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config

    def load() -> Any:
        loaded = Configuration()
        load_kube_config(path or None, context or None, client_configuration=loaded, persist_config=False)
        return loaded

    try:
        loaded = load()
    except Exception as error:
        raise _unreadable(path, error) from error
    server = loaded.host.rstrip("/")
    tls = bare = _bare_tls_of(loaded) if server.startswith("https") else None
    if tls is not None and loaded.cert_file:
        tls = _bare_tls_of(loaded)
        tls.load_cert_chain(loaded.cert_file, loaded.key_file)
    return Connection(server, tls, LoadedToken(load, loaded), loaded.tls_server_name or "", bare)


def _bare_tls_of(loaded: Any) -> ssl.SSLContext:
    """Without a client certificate."""
    context = ssl.create_default_context(cafile=loaded.ssl_ca_cert)
    if not loaded.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
