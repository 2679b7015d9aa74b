"""What every GPU of the cluster still has to give.

The truth is two dictionaries: the nodes as published, and one charge for each pod that holds room. The numpy arrays
``[row, column]`` (a row a node, a column a GPU) follow from them and are recomputed for one node at a time, so that
the order in which facts arrive does not matter and a rebuild from the API's objects gives the same ledger.

``layout`` is a number that changes when a node gets or loses its row; ``version`` one by row that changes with anything
in that row. Neither comes twice, in no other ledger either: what was computed from a row holds as long as its version
stands. ``island`` and ``numa`` number a node's NVLink islands and NUMA nodes; -1 is none.

Beside them: CPU and memory that are free on the host, by row (``hosts`` says more), its zone and its rack as numbers,
and whether it is ``closed`` to new pods. ``client`` marks nodes without GPUs, for pods whose slices are on others.

Where trust domains are kept ``separate``, ``domain`` numbers the one that has slices on a GPU, or on any of its MPS
group, which ``group`` numbers within the node by its first column; 0 is nobody's, ``MIXED`` more than one, which takes
nobody until they are gone. Whole GPUs are held alone as it is, and are no clients of a daemon: they do not count.
``span`` numbers in the same way the GPUs over which one slice can be held (``spans``).

``reserve`` never over-commits. ``charge`` records a fact that others made true, whatever it is: a GPU that was
promised twice shows negative room here, fits nothing, and is listed by ``over_committed``.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.model import names
from tessera.model.assignment import Share
from tessera.model.charges import Charge, Totals
from tessera.model.gpus import Gpu, GpuNode, islands, mps_groups, sliced_capacity
from tessera.model.hosts import Host, HostNeed, Occupancy
from tessera.model.numbers import Numbers
from tessera.model.spans import spans
from tessera.reasons import Code, Reason

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_versions = count(1)
_NO_COLUMNS: Mapping[str, int] = {}
_START_ROWS, _START_COLUMNS = 16, 8
_ALL = slice(None)
MIXED = -1
"""The ``domain`` of a GPU with slices of more than one."""
_GPU_ARRAYS = (
    "mem_bytes",
    "free_bytes",
    "free_percent",
    "tenants",
    "level",
    "model",
    "present",
    "healthy",
    "exclusive",
    "island",
    "numa",
    "domain",
    "group",
    "span",
)
_HOST_ARRAYS = ("free_cpu", "free_memory", "zone", "rack", "closed")
_NODE_ARRAYS = ("node_mem", "node_core", "node_gpus", "node_slots", "client", "version", *_HOST_ARRAYS)


class Ledger:
    """Free memory, free compute, tenants and health of each GPU, and who holds what.

    ``separate``: whether a GPU may hold slices of one trust domain only.
    """

    def __init__(self, *, separate: bool = False) -> None:
        self.separate = separate
        self._domains = Numbers()
        self._nodes: dict[str, GpuNode] = {}
        self._charges: dict[str, Charge] = {}
        self._by_node: dict[str, dict[str, None]] = {}
        self._rows: dict[str, int] = {}
        self._spare: list[int] = []
        self._columns: dict[str, dict[str, int]] = {}
        self._models: dict[str, int] = {}
        self._occupancy = Occupancy()
        self._zones: dict[str, int] = {"": 0}
        self._racks: dict[tuple[str, str], int] = {}
        self.names: list[str] = []
        self.layout = 0
        self._allocate(_START_ROWS, _START_COLUMNS)

    # Facts

    def upsert_node(self, node: GpuNode) -> None:
        """Records a node as published. Charges on it stay, also those on GPUs that it no longer lists."""
        if self._nodes.get(node.name) == node:
            return
        if node.name not in self._rows:
            self._take_row(node.name)
        self._nodes[node.name] = node
        self._recompute(node.name)

    def remove_node(self, name: str) -> None:
        """Forgets a node; the charges of its pods stay until the pods are gone."""
        if name not in self._nodes:
            return
        row = self._rows.pop(name)
        self._clear_row(row)
        self._spare.append(row)
        self.names[row] = ""
        self.layout = next(_versions)
        del self._nodes[name], self._columns[name]

    def charge(self, uid: str, charge: Charge) -> None:
        """Records that the pod ``uid`` holds ``charge``, in place of what it held before."""
        before = self._charges.get(uid)
        if before == charge:
            return
        if before is not None:
            self._drop(uid, before)
        self._charges[uid] = charge
        if self.separate:
            self._domains.take(charge.domain)
        self._by_node.setdefault(charge.node, {})[uid] = None
        self._apply(charge, +1)

    def release(self, uid: str) -> Charge | None:
        """Frees what the pod ``uid`` holds; answers what it was."""
        charge = self._charges.pop(uid, None)
        if charge is not None:
            self._drop(uid, charge)
        return charge

    def reserve(self, uid: str, charge: Charge, *, beside_others: bool = False) -> Reason | None:
        """Charges the pod only if all of it fits now; else changes nothing and says why.

        ``beside_others``: also on GPUs of another trust domain, which then take nobody else; for room that is kept.
        """
        before = self.release(uid)
        reason = self.refusal(charge, beside_others=beside_others)
        if reason is None:
            self.charge(uid, charge)
        elif before is not None:
            self.charge(uid, before)
        return reason

    def upsert_host(self, host: Host) -> None:
        """Records CPU, memory, zone and rack of a node, which need not have published GPUs."""
        if self._occupancy.upsert(host):
            self._show_host(host.name)

    def remove_host(self, name: str) -> None:
        """Forgets a host; what its pods occupy stays until they are gone."""
        if self._occupancy.remove(name):
            self._show_host(name)

    def occupy(self, uid: str, node: str, need: HostNeed) -> None:
        """Records that the pod ``uid`` takes ``need`` of the CPU and memory of ``node``, in place of what it took."""
        for changed in self._occupancy.occupy(uid, node, need):
            self._show_free(changed)

    def vacate(self, uid: str) -> None:
        """The pod ``uid`` takes no CPU and no memory any more."""
        for changed in self._occupancy.vacate(uid):
            self._show_free(changed)

    def copy(self) -> "Ledger":
        """The same facts; what is changed in one is not seen in the other."""
        other = object.__new__(Ledger)
        for name, value in vars(self).items():
            setattr(other, name, _copied(value))
        return other

    # Questions

    def refusal(self, charge: Charge, *, beside_others: bool = False) -> Reason | None:
        """Why ``charge`` does not fit beside all others, or ``None``."""
        row = self._rows.get(charge.node)
        if row is None:
            return Reason(Code.NO_GPU, f"node {charge.node} has published no GPUs")
        if charge.assignment is None:
            return Reason(Code.NO_ASSIGNMENT, "a reservation needs GPUs")
        needs: dict[str, Share] = {}
        for share in charge.assignment.shares:
            first = needs.get(share.uuid, Share(share.uuid, 0))
            mem, core = first.mem_bytes + share.mem_bytes, first.core_percent + share.core_percent
            needs[share.uuid] = Share(share.uuid, mem, core, first.whole or share.whole)
        for need in needs.values():
            if reason := self._share_refusal(row, need):
                return reason
            if not beside_others and self._is_others(row, need, charge):
                return Reason(Code.OTHER_DOMAIN, f"GPU {need.uuid} or its MPS group is another trust domain's")
        return self._totals_refusal(row, charge)

    def room_of(self, totals: Totals) -> Bools:
        """Per row: whether the kubelet's own sums leave room for ``totals``."""
        return (
            (self.node_mem >= totals.mem_bytes)
            & (self.node_core >= totals.core_percent)
            & (self.node_gpus >= totals.gpus)
            & (self.node_slots >= totals.slots)
        )

    def host_room(self, need: HostNeed) -> Bools:
        """Per row: whether CPU and memory of the host are enough for ``need``."""
        room: Bools = (self.free_cpu >= need.cpu_milli) & (self.free_memory >= need.memory_bytes)
        return room

    def open_to(self, domain: str, rows: slice = _ALL) -> Bools:
        """Per GPU of ``rows``: whether a slice of that trust domain would be beside no other's."""
        if not self.separate:
            return self.present[rows]
        numbers = self.domain[rows]
        out: Bools = (numbers == 0) | (numbers == self._domains.of(domain))
        return out

    def number_of(self, domain: str) -> int:
        """The number of a trust domain in the array ``domain``, for as long as it holds any room; else ``NONE``."""
        return self._domains.of(domain)

    def mixed(self, charge: Charge) -> bool:
        """Whether a slice of ``charge`` is beside another trust domain's."""
        columns, row = self._shared_columns(charge), self._rows.get(charge.node)
        return row is not None and any(self.domain[row, column] == MIXED for column in columns)

    def groups(self, charge: Charge) -> set[int]:
        """The numbers, within the node, of the MPS groups of all GPUs that ``charge`` is on."""
        columns, row = self.columns(charge.node), self._rows.get(charge.node, 0)
        shares = charge.assignment.shares if charge.assignment else ()
        return {int(self.group[row, columns[share.uuid]]) for share in shares if share.uuid in columns}

    def node(self, name: str) -> GpuNode | None:
        return self._nodes.get(name)

    def nodes(self) -> Iterator[GpuNode]:
        yield from self._nodes.values()

    def charge_of(self, uid: str) -> Charge | None:
        return self._charges.get(uid)

    def charges(self) -> Mapping[str, Charge]:
        return self._charges

    def charges_on(self, node: str) -> Iterator[tuple[str, Charge]]:
        for uid in self._by_node.get(node, ()):
            yield uid, self._charges[uid]

    def charged(self) -> Collection[str]:
        """The nodes on which anybody holds room."""
        return self._by_node.keys()

    def row(self, name: str) -> int | None:
        return self._rows.get(name)

    def rows(self) -> Mapping[str, int]:
        return self._rows

    def gpu_at(self, row: int, column: int) -> Gpu:
        return self._nodes[self.names[row]].gpus[column]

    def column(self, node: str, uuid: str) -> int | None:
        return self._columns.get(node, {}).get(uuid)

    def columns(self, node: str) -> Mapping[str, int]:
        """The column of each GPU of ``node`` by UUID; empty for a node that has published none."""
        return self._columns.get(node, _NO_COLUMNS)

    def models(self) -> Mapping[str, int]:
        """Number of each GPU model (lower case) in the array ``model``."""
        return self._models

    def hosts(self) -> Mapping[str, Host]:
        return self._occupancy.hosts()

    def occupants(self) -> Mapping[str, tuple[str, HostNeed]]:
        """Node and need of each pod that takes CPU or memory, by UID."""
        return self._occupancy.pods()

    def zones(self) -> Mapping[str, int]:
        """Number of each zone in the array ``zone``; 0 is none."""
        return self._zones

    def racks(self) -> Mapping[tuple[str, str], int]:
        """Number of each rack, by zone and name, in the array ``rack``; 0 is none."""
        return self._racks

    def over_committed(self) -> list[str]:
        """UUIDs of GPUs that were promised more than they have."""
        bad = self.present & ((self.free_bytes < 0) | (self.free_percent < 0) | (self.exclusive & (self.tenants > 1)))
        return [self.gpu_at(int(row), int(column)).uuid for row, column in np.argwhere(bad)]

    # The arrays

    def _allocate(self, rows: int, columns: int) -> None:
        self.mem_bytes = np.zeros((rows, columns), np.int64)
        self.free_bytes = np.zeros((rows, columns), np.int64)
        self.free_percent = np.zeros((rows, columns), np.int64)
        self.tenants = np.zeros((rows, columns), np.int64)
        self.level = np.full((rows, columns), -2, np.int64)
        self.model = np.full((rows, columns), -1, np.int64)
        self.present = np.zeros((rows, columns), np.bool_)
        self.healthy = np.zeros((rows, columns), np.bool_)
        self.exclusive = np.zeros((rows, columns), np.bool_)
        self.island = np.full((rows, columns), -1, np.int64)
        self.numa = np.full((rows, columns), -1, np.int64)
        self.domain = np.zeros((rows, columns), np.int32)
        self.group = np.zeros((rows, columns), np.int64)
        self.span = np.zeros((rows, columns), np.int64)
        self.node_mem = np.zeros(rows, np.int64)
        self.node_core = np.zeros(rows, np.int64)
        self.node_gpus = np.zeros(rows, np.int64)
        self.node_slots = np.zeros(rows, np.int64)
        self.version = np.zeros(rows, np.int64)
        self.free_cpu = np.zeros(rows, np.int64)
        self.free_memory = np.zeros(rows, np.int64)
        self.zone = np.zeros(rows, np.int64)
        self.rack = np.zeros(rows, np.int64)
        self.closed = np.zeros(rows, np.bool_)
        self.client = np.zeros(rows, np.bool_)

    def _grow(self, rows: int, columns: int) -> None:
        old = {name: getattr(self, name) for name in (*_GPU_ARRAYS, *_NODE_ARRAYS)}
        self._allocate(rows, columns)
        for name in _GPU_ARRAYS:
            array = old[name]
            getattr(self, name)[: array.shape[0], : array.shape[1]] = array
        for name in _NODE_ARRAYS:
            getattr(self, name)[: old[name].shape[0]] = old[name]

    def _take_row(self, name: str) -> None:
        if not self._spare:
            row = len(self.names)
            self.names.append("")
            if row >= len(self.present):
                self._grow(2 * row, self.present.shape[1])
            self._spare.append(row)
        row = self._spare.pop()
        self._rows[name] = row
        self.names[row] = name
        self.layout = next(_versions)

    def _clear_row(self, row: int) -> None:
        for name in (*_GPU_ARRAYS, *_NODE_ARRAYS):
            getattr(self, name)[row] = 0
        self.level[row] = -2
        self.model[row] = -1
        self.island[row] = self.numa[row] = -1
        self.version[row] = next(_versions)

    def _recompute(self, name: str) -> None:
        row, node = self._rows[name], self._nodes[name]
        if len(node.gpus) > self.present.shape[1]:
            self._grow(self.present.shape[0], max(len(node.gpus), 2 * self.present.shape[1]))
        self._clear_row(row)
        self._columns[name] = {gpu.uuid: column for column, gpu in enumerate(node.gpus)}
        for column, gpu in enumerate(node.gpus):
            self._install(row, column, gpu)
        self.island[row, : len(node.gpus)] = islands(node.gpus)
        self.group[row, : len(node.gpus)] = mps_groups(node.gpus)
        self.span[row, : len(node.gpus)] = spans(node.gpus)
        self.node_mem[row], self.node_core[row] = sliced_capacity(node.gpus)
        self.node_gpus[row] = len(node.gpus)
        self.client[row] = node.is_client
        self.node_slots[row] = names.SLOTS_PER_GPU * len(node.gpus) + node.client_slots
        self._show_host(name)
        for _, charge in self.charges_on(name):
            self._apply(charge, +1)

    def _show_free(self, name: str) -> None:
        row = self._rows.get(name)
        if row is not None:
            self.version[row] = next(_versions)
            self.free_cpu[row], self.free_memory[row] = self._occupancy.free(name)

    def _show_host(self, name: str) -> None:
        row = self._rows.get(name)
        if row is None:
            return
        self._show_free(name)
        host = self._occupancy.host(name)
        zone, rack = (host.zone, host.rack) if host else ("", "")
        self.closed[row] = host is not None and host.closed
        self.zone[row] = self._zones.setdefault(zone, len(self._zones))
        self.rack[row] = self._racks.setdefault((zone, rack), len(self._racks) + 1) if rack else 0

    def _install(self, row: int, column: int, gpu: Gpu) -> None:
        at = (row, column)
        self.mem_bytes[at] = self.free_bytes[at] = gpu.mem_bytes
        self.free_percent[at] = 100
        self.level[at] = gpu.level
        self.model[at] = self._models.setdefault(gpu.model.lower(), len(self._models))
        self.present[at] = True
        self.healthy[at] = gpu.health.healthy
        self.numa[at] = gpu.numa_node

    def _drop(self, uid: str, charge: Charge) -> None:
        del self._by_node[charge.node][uid]
        if not self._by_node[charge.node]:
            del self._by_node[charge.node]
        self._apply(charge, -1)
        if self.separate:
            self._domains.drop(charge.domain)

    def _apply(self, charge: Charge, sign: int) -> None:
        row = self._rows.get(charge.node)
        if row is None:
            return
        self.version[row] = next(_versions)
        self.node_mem[row] -= sign * charge.totals.mem_bytes
        self.node_core[row] -= sign * charge.totals.core_percent
        self.node_gpus[row] -= sign * charge.totals.gpus
        self.node_slots[row] -= sign * charge.totals.slots
        for share in charge.assignment.shares if charge.assignment else ():
            column = self.column(charge.node, share.uuid)
            if column is None:
                continue
            at = (row, column)
            self.free_bytes[at] -= sign * share.mem_bytes
            self.free_percent[at] -= sign * share.core_percent
            self.tenants[at] += sign
            if share.whole:
                self.exclusive[at] = sign > 0 or self._is_exclusive(charge.node, share.uuid)
        if self.separate:
            self._show_domains(row, charge, left=sign < 0)

    def _show_domains(self, row: int, charge: Charge, *, left: bool) -> None:
        """One that comes joins who is there; after one has left, those that stay are looked at."""
        if not left:
            self._join(row, charge)
            return
        self.domain[row] = 0
        for _, other in self.charges_on(charge.node):
            self._join(row, other)

    def _join(self, row: int, charge: Charge) -> None:
        number = self.number_of(charge.domain)
        for column in self._shared_columns(charge):
            group = self.present[row] & (self.group[row] == self.group[row, column])
            there = self.domain[row, column]
            self.domain[row, group] = number if there in (0, number) else MIXED

    def _shared_columns(self, charge: Charge) -> list[int]:
        """Of the GPUs that a pod shares with others."""
        shares = charge.assignment.shares if charge.assignment else ()
        columns = (self.column(charge.node, share.uuid) for share in shares if not share.whole)
        return [column for column in columns if column is not None]

    def _is_others(self, row: int, need: Share, charge: Charge) -> bool:
        column = self.column(charge.node, need.uuid)
        if not self.separate or need.whole or column is None:
            return False
        return int(self.domain[row, column]) not in (0, self._domains.of(charge.domain))

    def _is_exclusive(self, node: str, uuid: str) -> bool:
        return any(
            share.whole and share.uuid == uuid
            for _, charge in self.charges_on(node)
            if charge.assignment
            for share in charge.assignment.shares
        )

    def _share_refusal(self, row: int, need: Share) -> Reason | None:
        column = self.column(self.names[row], need.uuid)
        if column is None:
            return Reason(Code.GPU_GONE, f"node {self.names[row]} has no GPU {need.uuid}")
        at = (row, column)
        if not self.healthy[at]:
            return Reason(Code.UNHEALTHY, f"GPU {need.uuid} is unhealthy: {self.gpu_at(*at).health.reason}")
        if self.exclusive[at] or (need.whole and self.tenants[at]):
            return Reason(Code.OTHER_TENANT, f"GPU {need.uuid} has another tenant")
        if self.free_bytes[at] < need.mem_bytes:
            text = f"GPU {need.uuid} has {self.free_bytes[at]} bytes free, {need.mem_bytes} asked"
            return Reason(Code.NOT_ENOUGH_MEMORY, text)
        if self.free_percent[at] < need.core_percent:
            text = f"GPU {need.uuid} has {self.free_percent[at]} percent free, {need.core_percent} asked"
            return Reason(Code.NOT_ENOUGH_COMPUTE, text)
        return None

    def _totals_refusal(self, row: int, charge: Charge) -> Reason | None:
        totals = charge.totals
        if (
            self.node_mem[row] >= totals.mem_bytes
            and self.node_core[row] >= totals.core_percent
            and self.node_gpus[row] >= totals.gpus
            and self.node_slots[row] >= totals.slots
        ):
            return None
        return Reason(Code.NODE_RESOURCES, f"the pods bound to node {charge.node} leave too little for the whole pod")


def _copied(value: Any) -> Any:
    """A copy down to what is never changed: keys, names, numbers and frozen facts."""
    if isinstance(value, (Occupancy, Numbers)):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copied(each) if isinstance(each, dict) else each for key, each in value.items()}
    return value.copy() if isinstance(value, (list, np.ndarray)) else value
