"""Clusters in which pods have priorities and somebody wants their place."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tessera.kube.reflector import Upserted
from tessera.model.assignment import encode
from tessera.model.gpu_leases import GpuLease
from tessera.model.gpus import GpuNode
from tessera.model.names import ASSIGNMENT
from tessera.model.pods import Pod
from tessera.scheduler.budgets import Budget
from tessera.scheduler.engine import Engine
from tessera.scheduler.holders import Holder, Holders
from tessera.scheduler.nominations import Nominations
from tessera.scheduler.options import Options
from tessera.scheduler.preemption import case_of
from tessera.scheduler.shortlist import shortlist
from tessera.scheduler.victims import Case, Plan, least_bad
from tests.unit.scheduler.clusters import Clock, bind_away, bound, engine, executor, node, pod, remote

__all__ = ["Full", "node", "pod"]


class Full:
    """An engine with holders and nominations, fed as the service feeds them."""

    def __init__(self, *nodes: GpuNode, options: Options | None = None) -> None:
        self.clock = Clock()
        self.engine: Engine = engine(*nodes, clock=self.clock, options=options)
        self.holders = Holders(self.engine.leases, self.clock)
        self.nominations = Nominations(self.engine, self.clock)
        self.pods: dict[str, Pod] = {}

    def show(self, pod: Pod) -> None:
        """The API server shows the pod so."""
        self.pods[pod.name] = pod
        change = Upserted(pod)
        self.engine.observe_pod(pod)
        self.holders.observe(change)
        self.nominations.observe(change)

    def run(self, name: str, ask: str, on: str, priority: int = 0, **others: object) -> Pod:
        """A pod is placed on the node ``on`` and runs."""
        wanted = replace(pod(name, ask, priority=priority), **others)  # type: ignore[arg-type]
        assert self.engine.filter(wanted, [on]).nodes == [on], f"{name} does not fit on {on}"
        reserved = self.engine.reserve(wanted.uid, on)
        assert isinstance(reserved, tuple), reserved
        notes = {**wanted.annotations, ASSIGNMENT: encode(reserved[1])}
        self.show(replace(wanted, node=on, phase="Running", annotations=notes))
        return self.pods[name]

    def run_away(self, name: str, *asks: str, on: str, priority: int = 0, **others: object) -> list[GpuLease]:
        """A pod runs on the client node ``on``, with its slices elsewhere; answers its leases."""
        wanted = replace(remote(name, *asks), priority=priority, **others)  # type: ignore[arg-type]
        leases = bind_away(self.engine, wanted, [on])
        [charge] = [self.engine.ledger.charge_of(wanted.uid)]
        self.show(bound(wanted, on, charge.assignment if charge else None))
        return leases

    def serve(self, lease: GpuLease, name: str) -> Pod:
        """An executor of ``lease`` runs, with its client's priority."""
        of = next(pod.priority for pod in self.pods.values() if pod.uid == lease.client.pod_uid)
        serving = replace(executor(lease, name), priority=of)
        reserved = self.engine.filter(serving, [lease.node]) and self.engine.reserve(serving.uid, lease.node)
        assert isinstance(reserved, tuple), reserved
        self.show(bound(serving, lease.node, reserved[1]))
        return serving

    def change(self, name: str, **fields: object) -> None:
        self.show(replace(self.pods[name], **fields))  # type: ignore[arg-type]

    def case(self, pod: Pod, budgets: Sequence[Budget] = (), lately: Sequence[Holder] = ()) -> Case:
        found = case_of(self.engine, self.holders, self.nominations, pod, budgets, lately)
        assert found is not None
        return found

    def plan(self, pod: Pod, budgets: Sequence[Budget] = (), nodes: Iterable[str] | None = None) -> Plan | None:
        """As the preemptor chooses, without its pauses."""
        case, ledger = self.case(pod, budgets), self.engine.ledger
        offered = np.zeros(len(ledger.present), np.bool_)
        offered[[ledger.rows()[name] for name in (ledger.rows() if nodes is None else nodes)]] = True
        for step in shortlist(case, offered):
            plans = [plan for name in step.nodes if (plan := case.plan(name))]
            if best := least_bad(plan for plan in plans if step.breaks or not plan.violations):
                return best
        return None

    def victims(self, pod: Pod, budgets: Sequence[Budget] = ()) -> list[str]:
        plan = self.plan(pod, budgets)
        return sorted(victim.name for victim in plan.victims) if plan else []
