"""Accepts connections until it is told to stop, also where the machine has no descriptor or no thread to give."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()

_PAUSE_S = 0.1


def accept(
    listener: socket.socket, stopping: threading.Event, what: str, begin: Callable[[socket.socket, Any], None]
) -> None:
    """``begin`` is given each connection, called ``what`` in the log, with its address. It may raise ``RuntimeError``
    where there is no thread for it, once it has closed it."""
    while not stopping.is_set():
        try:
            found, address = listener.accept()
        except OSError as error:
            if not stopping.wait(_PAUSE_S):
                log.warning(f"{what} not accepted", error=str(error))
            continue
        try:
            begin(found, address)
        except RuntimeError as error:
            log.warning(f"{what} not served", error=str(error))
            stopping.wait(_PAUSE_S)
