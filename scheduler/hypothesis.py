"""The ledger as it would be if some pods were gone. Pure: the ledger itself is never touched.

It answers the same questions as the ledger; only charges are taken out and put in, nothing else may be changed in it.
"""

from collections.abc import Iterator

from tessera.model.charges import Charge
from tessera.model.ledger import Ledger

_CHANGED = (
    "free_bytes",
    "free_percent",
    "tenants",
    "exclusive",
    "node_mem",
    "node_core",
    "node_gpus",
    "node_slots",
    "version",
)


class Hypothesis(Ledger):
    """Starts out as ``ledger`` is now and is good only until that changes."""

    def __init__(self, ledger: Ledger) -> None:
        vars(self).update(vars(ledger))
        for name in _CHANGED:
            setattr(self, name, getattr(ledger, name).copy())
        if ledger.separate:
            self.domain, self._domains = ledger.domain.copy(), ledger._domains.copy()
        self._gone: dict[str, Charge] = {}
        self._come: dict[str, Charge] = {}

    def take_out(self, uid: str) -> None:
        """The pod holds nothing; one that holds nothing as it is may be named too."""
        come = self._come.pop(uid, None)
        charge = come
        if charge is None and uid not in self._gone:
            charge = self._charges.get(uid)
            if charge is not None:
                self._gone[uid] = charge
        if charge is not None:
            self._apply(charge, -1)
        if come is not None and self.separate:
            self._domains.drop(come.domain)

    def put_back(self, uid: str) -> None:
        """The pod holds again what it does in truth."""
        charge = self._gone.pop(uid, None)
        if charge is not None:
            self._apply(charge, +1)

    def put_in(self, uid: str, charge: Charge) -> None:
        """The pod holds ``charge`` and nothing else."""
        self.take_out(uid)
        self._come[uid] = charge
        if self.separate:
            self._domains.take(charge.domain)
        self._apply(charge, +1)

    def charges_on(self, node: str) -> Iterator[tuple[str, Charge]]:
        yield from ((uid, charge) for uid, charge in super().charges_on(node) if uid not in self._gone)
        yield from ((uid, charge) for uid, charge in self._come.items() if charge.node == node)
