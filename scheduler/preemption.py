"""The preempt verb: a veto for nodes that kube-scheduler would empty in vain.

kube-scheduler proposes victims because CPU or memory is short; a node stays a candidate only if the pod's slices fit
there once the victims are gone. Nodes are left out rather than answered without victims, which would be an error for
all of them.
"""

from collections.abc import Collection, Mapping

from tessera.model.charges import Charge
from tessera.model.ledger import Ledger
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine
from tessera.scheduler.together import share_of_steps


def viable(engine: Engine, pod: Pod, candidates: Mapping[str, Collection[str]]) -> list[str]:
    """The nodes of ``candidates`` (name -> UIDs of victims) that hold ``pod`` once those victims are gone."""
    steps = share_of_steps(len(candidates))
    return [
        node for node, victims in candidates.items() if victims and _fits_without(engine, pod, node, victims, steps)
    ]


def _fits_without(engine: Engine, pod: Pod, node: str, victims: Collection[str], steps: int) -> bool:
    taken = _take_out(engine.ledger, node, {*victims, pod.uid})
    try:
        return engine.fits_on(pod, node, steps)
    finally:
        for uid, charge in taken.items():
            engine.ledger.charge(uid, charge)


def _take_out(ledger: Ledger, node: str, uids: Collection[str]) -> dict[str, Charge]:
    on_node = {uid: charge for uid, charge in ledger.charges_on(node) if uid in uids}
    for uid in on_node:
        ledger.release(uid)
    return on_node
