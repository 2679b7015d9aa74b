"""``kubectl tessera drain-plan`` and ``defragment``: plans of moves, and one carried out with the user's rights."""

import time

from rich.console import Group, RenderableType
from rich.text import Text

from tessera.cli.kubectl_reading import Access
from tessera.cli.kubectl_tables import grid, size
from tessera.cli.printing import tell
from tessera.kube.connection import connect
from tessera.kube.gateway import Gateway
from tessera.reasons import Reason
from tessera.scheduler.census import read
from tessera.scheduler.defragment import Proposal
from tessera.scheduler.drain import DrainPlan, Move, drain_plan
from tessera.scheduler.engine import Engine
from tessera.scheduler.making_room import Outcome, RoomMaker
from tessera.scheduler.told import Source, told_options

_SEARCH_S = 10.0
"""A user waits longer for a plan than a scheduler may."""


async def drain(access: Access, kind: str, name: str, source: Source) -> DrainPlan | str:
    """The plan for one node or GPU, or a sentence why there can be none."""
    async with Gateway(connect(access.settings())) as gateway:
        engine = Engine(time.monotonic, await told_options(gateway, source, tell))
        population = await read(gateway, engine)
    if (kind == "node") is not (engine.ledger.node(name) is not None):
        allowed = "the name of a node with GPUs" if kind == "node" else "the UUID of a GPU in the pool"
        if kind == "node" or not any(gpu.uuid == name for node in engine.ledger.nodes() for gpu in node.gpus):
            return f"{kind}: found {name!r}; allowed: {allowed}"
    found = drain_plan(engine, population, name)
    return found.text if isinstance(found, Reason) else found


async def plan(access: Access, namespace: str, name: str, at_most: int, source: Source) -> Proposal | str:
    """The plan for one waiting pod, or a sentence why none can be made."""
    async with Gateway(connect(access.settings())) as gateway:
        options = await told_options(gateway, source, tell)
        found = await RoomMaker(gateway, 0, tell, options).plan(namespace, name, at_most, _SEARCH_S)
    return found.text if isinstance(found, Reason) else found


async def execute(access: Access, namespace: str, name: str, at_most: int, timeout_s: float, source: Source) -> Outcome:
    """Carries the plan out; what happens on the way is told on stderr."""
    async with Gateway(connect(access.settings())) as gateway:
        options = await told_options(gateway, source, tell)
        return await RoomMaker(gateway, timeout_s, tell, options).run(namespace, name, at_most, _SEARCH_S)


def drain_table(found: DrainPlan) -> RenderableType:
    """One line a pod, or a slice that goes without its pod, and whether all have somewhere to go."""
    if not found.moves:
        return f"{found.place} holds no slices."
    stay, what = sum(bool(move.reason) for move in found.moves), _counted(found.moves)
    last = f"All of {what} would find room elsewhere."
    if stay:
        last = f"{stay} of {what} would stay: nothing should be drained yet."
    return Group(_moves(found.moves), Text(last, "green" if found.complete else "yellow"))


def plan_table(found: Proposal) -> RenderableType:
    """The moves, and where the pod goes then; or why there are none."""
    if not found.node:
        why = [f"  {count} {_word(count)} {reason}" for reason, count in sorted(found.fixed.items())]
        return "\n".join([f"{found.reason[:1].upper()}{found.reason[1:]}.", *why])
    last = f"Pod {found.pod} then goes to {', '.join(found.gpus)} of {found.node}."
    if not found.moves:
        return last.replace(" then goes", " fits as it is: it goes")
    return Group(
        _moves(found.moves), Text(last, "green"), Text("Nothing was changed; --execute carries it out.", "dim")
    )


def outcome_table(found: Outcome) -> RenderableType:
    """What was moved and how it ended."""
    lines = [f"moved: {m.namespace}/{m.name} from {m.source} to {node or 'nowhere yet'}" for m, node in found.moved]
    return "\n".join([*(lines or ["nothing was moved"]), f"{found.text[:1].upper()}{found.text[1:]}."])


def _moves(moves: tuple[Move, ...]) -> RenderableType:
    table = grid("NAMESPACE", "POD", "HOLDS", "FROM", "TO", "GPUS", "REASON")
    for m in moves:
        gpus = ", ".join(m.gpus) or "-"
        name = f"{m.name} (its slice alone)" if m.lease else m.name
        table.add_row(m.namespace, name, size(m.mem_bytes), m.source, m.target or "-", gpus, Text(m.reason))
    return table


def _counted(moves: tuple[Move, ...]) -> str:
    """``2 pods and 1 slice``."""
    slices = sum(bool(move.lease) for move in moves)
    counts = {"pod": len(moves) - slices, "slice": slices}
    return " and ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count)


def _word(count: int) -> str:
    return "pod" if count == 1 else "pods, each of which"
