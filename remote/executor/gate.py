"""A machine's own gate: who comes over the network goes to the sessions behind it."""

import socket
from collections import Counter

from tessera.remote.executor.certificates import Certificates
from tessera.remote.executor.forks import ForkServer
from tessera.remote.executor.front import Front
from tessera.remote.executor.metrics import ExecutorMetrics
from tessera.remote.executor.processes import Offer
from tessera.remote.executor.reception import Reception


class Gate:
    """Serves on a listening socket between ``start`` and ``stop``; ``certificates`` ``None``: without TLS.

    ``torch``, ``epoch`` and ``forks``: as of a ``Reception``.
    """

    def __init__(
        self, listener: socket.socket, offer: Offer, torch: str, certificates: Certificates | None = None,
        *, epoch: int = 0, forks: ForkServer | None = None,
    ) -> None:  # fmt: skip
        self.reception = Reception(offer, torch, epoch, forks)
        context = certificates.context if certificates else None
        self._front = Front(listener, self.reception.receive, context, self.reception.arrivals.granted)

    @property
    def refused(self) -> Counter[str]:
        """How many, by reason."""
        return self._front.refused

    def metrics(self) -> ExecutorMetrics:
        return ExecutorMetrics(self.reception.sessions.figures, lambda: self.refused)

    def start(self) -> None:
        self._front.start()

    def stop(self) -> None:
        """Ends the sessions with it."""
        self._front.stop()
        self.reception.stop()
