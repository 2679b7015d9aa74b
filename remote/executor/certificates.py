"""Who is let in over TLS: clients with a certificate of one CA."""

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger()

_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files."""

    cert: Path
    key: Path
    client_ca: Path


class Certificates:
    """Reads the files again when they change. Raises ``OSError``, which ``ssl.SSLError`` is, if they cannot be used."""

    def __init__(self, files: Files) -> None:
        self._files, self._lock = files, threading.Lock()
        self._seen, self._context = _stamp(files), _context(files)

    def context(self) -> ssl.SSLContext:
        """For the next handshake: of the files as they are, or as they last were of use."""
        with self._lock:
            try:
                found = _stamp(self._files)
                if found != self._seen:
                    self._context, self._seen = _context(self._files), found
            except OSError as error:
                log.warning("certificate not read again, the former one stays", error=str(error))
            return self._context


def _stamp(files: Files) -> _Stamp:
    found = (path.stat() for path in (files.cert, files.key, files.client_ca))
    return tuple((item.st_mtime_ns, item.st_ino) for item in found)


def _context(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.client_ca)
    return context
