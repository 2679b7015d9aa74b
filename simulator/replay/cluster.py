"""A cluster of a trace's nodes: the engine decides, and this plays kube-scheduler's NodeResourcesFit before it.

The nodes that have the CPU and host memory are offered; which of them have the GPUs is the engine's to say.

Nothing is bound through an API server: what the engine reserved stays reserved until the pod leaves. The engine's clock
stands still, so nothing expires; the memory it needs is that of the pods that run.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tessera.model.quantities import MIB
from tessera.reasons import Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tessera.simulator.replay.openb import WHOLE, Shape, TraceNode
from tessera.simulator.replay.pods import Templates, gpu_node_of, host_of


@dataclass(frozen=True, slots=True)
class Placed:
    """A pod that runs on the node of ``row``."""

    uid: str
    shape: Shape
    row: int


class Cluster:
    """See the module. ``allocated_milli``: thousandths of GPUs given away now, of ``capacity_milli``."""

    def __init__(self, nodes: Sequence[TraceNode], policy: str, seed: int) -> None:
        """An empty cluster; ``seed`` is the order in which equal nodes are taken."""
        self.engine = Engine(lambda: 0.0, Options(placement=policy, seed=seed))
        for node in nodes:
            self.engine.observe_host(host_of(node))
            self.engine.observe_node(gpu_node_of(node))
        self.capacity_milli = WHOLE * sum(node.gpus for node in nodes)
        self.allocated_milli = 0
        self.decisions = 0
        self._decision_ns = 0
        self._templates = Templates()
        ledger = self.engine.ledger
        self._nodes = {ledger.rows()[node.name]: node for node in nodes}
        self._exists = np.zeros(len(ledger.present), np.bool_)
        self._exists[list(self._nodes)] = True

    @property
    def us_per_decision(self) -> float:
        """Mean time of the engine's decisions over the whole cluster, in microseconds; 0 before the first."""
        return self._decision_ns / self.decisions / 1000 if self.decisions else 0.0

    def arrive(self, uid: str, shape: Shape) -> Placed | None:
        """Places a pod on whichever node the policy takes; ``None`` if none holds it."""
        pod = self._templates.pod(shape, uid)
        offered = self.engine.ledger.host_room(pod.host) & self._exists
        started = time.perf_counter_ns()
        node = self.engine.place(pod, offered)
        self._decision_ns += time.perf_counter_ns() - started
        self.decisions += 1
        return self._placed(uid, shape, node)

    def arrive_on(self, uid: str, shape: Shape, row: int) -> Placed | None:
        """Places a pod on the node of ``row`` or nowhere. Not a decision over the whole cluster: not timed."""
        if not self._may_hold(row, shape):
            return None
        offered = np.zeros_like(self._exists)
        offered[row] = True
        return self._placed(uid, shape, self.engine.place(self._templates.pod(shape, uid), offered))

    def drop(self, uid: str) -> None:
        """A pod that was not placed is given up."""
        self.engine.forget_pod(uid)

    def leave(self, placed: Placed) -> None:
        """A pod has ended: its room is free."""
        self.engine.forget_pod(placed.uid)
        self.allocated_milli -= placed.shape.milli

    def _may_hold(self, row: int, shape: Shape) -> bool:
        """Spares the engine the question where CPU, host memory, model or compute already say no."""
        ledger = self.engine.ledger
        if ledger.free_cpu[row] < shape.cpu_milli or ledger.free_memory[row] < shape.memory_mib * MIB:
            return False
        if shape.models and self._nodes[row].model not in shape.models:
            return False
        free = ledger.free_percent[row].tolist()
        return bool(sum(percent >= shape.gpu_milli // 10 for percent in free) >= shape.num_gpu)

    def _placed(self, uid: str, shape: Shape, node: str | Reason) -> Placed | None:
        if isinstance(node, Reason):
            return None
        self.allocated_milli += shape.milli
        return Placed(uid, shape, self.engine.ledger.rows()[node])
