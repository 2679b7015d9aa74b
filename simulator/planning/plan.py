"""Where pods would go: the scheduler's engine over a snapshot of the cluster and hypothetical hosts.

One pod after the other, those that wait in the cluster first, then those of the manifests; each takes its room before
the next is asked about, and none that runs is moved or ended. CPU and memory of the hosts are respected as
kube-scheduler does; what else kube-scheduler looks at is not, and ``NOTE`` says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tessera.model.ledger import Ledger
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tessera.scheduler.snapshot import Snapshot
from tessera.simulator.planning.additions import Addition, built
from tessera.simulator.planning.workloads import Candidate

NOTE = "Not evaluated: node selectors, affinities, taints, cordons, topology spread and quotas."
WAITING = "waiting in the cluster"
NO_SLICE = "asks for no slice: kube-scheduler places it on any host"


@dataclass(frozen=True, slots=True)
class Use:
    """How full the pool is. Percents of all GPUs' memory and compute; slices without a cap count no compute."""

    nodes: int
    gpus: int
    memory_percent: float
    compute_percent: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pod: ``node`` and ``gpus`` (UUIDs), or ``reason`` why none."""

    workload: str
    namespace: str
    name: str
    node: str = ""
    gpus: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer. ``after`` counts the added hosts."""

    policy: str
    trust_domain: str
    added: tuple[str, ...]
    pods: tuple[Outcome, ...]
    before: Use
    after: Use

    @property
    def placed(self) -> int:
        return sum(bool(pod.node) for pod in self.pods)


def answer(
    snapshot: Snapshot,
    additions: Sequence[Addition],
    candidates: Sequence[Candidate],
    options: Options,
    *,
    waiting: bool,
) -> Answer:
    """Places the ``candidates``, and before them those that wait in the cluster if ``waiting``."""
    engine = Engine(lambda: 0.0, options)
    snapshot.feed(engine)
    before = use_of(engine.ledger)
    added = built(additions, {*engine.ledger.rows(), *engine.ledger.hosts()})
    for host, node in added:
        engine.observe_host(host)
        engine.observe_node(node)
    first = [Candidate(WAITING, pod) for pod in snapshot.waiting] if waiting else []
    pods = tuple(_outcome(engine, each) for each in [*first, *candidates])
    return Answer(
        options.placement,
        options.trust_domain,
        tuple(host.name for host, _ in added),
        pods,
        before,
        use_of(engine.ledger),
    )


def use_of(ledger: Ledger) -> Use:
    """How full the GPUs of ``ledger`` are."""
    present = ledger.present
    total, gpus = int(ledger.mem_bytes[present].sum()), int(present.sum())
    given = total - int(ledger.free_bytes[present].sum())
    percent = 100 * gpus - int(ledger.free_percent[present].sum())
    return Use(
        len(ledger.rows()) - int(ledger.client.sum()),
        gpus,
        100 * given / total if total else 0.0,
        percent / gpus if gpus else 0.0,
    )


def _outcome(engine: Engine, each: Candidate) -> Outcome:
    pod = each.pod
    out = Outcome(each.workload, pod.namespace, pod.name)
    demand = engine.demand_of(pod)
    if demand is None:
        return Outcome(each.workload, pod.namespace, pod.name, reason=NO_SLICE)
    found = demand if isinstance(demand, Reason) else _placed(engine, pod)
    if isinstance(found, str):
        charge = engine.ledger.charge_of(pod.uid)
        own = charge.assignment.shares if charge and charge.assignment else ()
        shares = (*own, *(lease.share for lease in engine.leases.promised(pod.uid)))
        return Outcome(out.workload, out.namespace, out.name, found, tuple(dict.fromkeys(s.uuid for s in shares)))
    engine.forget_pod(pod.uid)
    return Outcome(out.workload, out.namespace, out.name, reason=found.text)


def _placed(engine: Engine, pod: Pod) -> str | Reason:
    """The node; or why none, with how many hosts have too little CPU or memory."""
    ledger = engine.ledger
    known = np.zeros(len(ledger.present), np.bool_)
    known[list(ledger.rows().values())] = True
    offered = known & ledger.host_room(pod.host)
    found = engine.place(pod, offered, explain=True)
    short = int(known.sum() - offered.sum())
    if isinstance(found, str) or not short:
        return found
    hosts = f"{short} of {int(known.sum())} hosts have too little CPU or memory left"
    return Reason(found.code, f"{found.text}; {hosts}" if offered.any() else hosts)
