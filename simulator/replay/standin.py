"""Stand-in for ``Engine.place`` until the engine has it."""

from collections.abc import Callable

import numpy as np

from tessera.model.demands import wants_slice
from tessera.model.ledger import Bools
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.engine import Engine


def place(engine: Engine, pod: Pod, offered: Bools) -> str | Reason:
    """Filter, prioritize, reserve and confirm in one; the engine's own way wins as soon as there is one."""
    own: Callable[[Pod, Bools], str | Reason] | None = getattr(engine, "place", None)
    if own is not None:
        return own(pod, offered)
    if not wants_slice(pod):
        rows = np.flatnonzero(offered)
        if not len(rows):
            return Reason(Code.NO_ROOM, "no room")
        node = engine.ledger.names[int(rows[np.argmin(engine.ledger.free_cpu[rows])])]
        engine.ledger.occupy(pod.uid, node, pod.host)
        return node
    found = engine.filter(pod, [engine.ledger.names[row] for row in np.flatnonzero(offered).tolist()])
    if not found.nodes:
        return found.reason or Reason(Code.NO_ROOM, "no room")
    scores = dict(engine.prioritize(pod, found.nodes))
    best = max(found.nodes, key=scores.__getitem__)
    reserved = engine.reserve(pod.uid, best)
    if isinstance(reserved, Reason):
        return reserved
    engine.confirm(pod.uid)
    return best
