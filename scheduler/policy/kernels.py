"""The compiled inner loops of the policies that weigh a whole node.

Everything here is a pure function over the arrays of ``Nodes`` (a row a node, a column a GPU) and ``Mix`` (an entry a
kind of pod that is expected to arrive). Compiled code is kept on disk beside this file, or where ``NUMBA_CACHE_DIR``
says; it knows this file's changes only, so all compiled functions live here.

Units: bytes, percent points, thousandths of a core; what is *idle* on a GPU counts in thousandths of a GPU, its free
memory and its free compute weighted as the expected pods ask for them.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tessera.model.ledger import Bools, Ints
from tessera.scheduler.compiled import compiled

Floats = NDArray[np.float64]
_HIGHEST_PRICE = 7.0
_STEP = 0.5
_KNOWN_FIRST = 8
NEVER = -1e300
"""The score of a node that cannot hold the pod."""
HARDLY = -1e200
"""The score of a node that holds the pod, though not by giving each container the tightest GPUs in turn."""


class Nodes(NamedTuple):
    """The ledger's arrays; see ``tessera.model.ledger``."""

    mem: Ints
    free: Ints
    percent: Ints
    tenants: Ints
    model: Ints
    present: Bools
    healthy: Bools
    exclusive: Bools
    cpu: Ints
    memory: Ints
    version: Ints
    level: Ints


class Wanted(NamedTuple):
    """What one container asks of each of ``gpus`` GPUs, as ``ContainerDemand`` has it; ``accepted`` says of each number
    of a GPU model whether it will do, ``level`` is the least enforcement, ``floor`` the least bytes of a share, not 0.
    """

    gpus: int
    mem: int
    core: int
    whole: bool
    floor: int
    level: int
    accepted: Bools


class Mix(NamedTuple):
    """The kinds of pods expected: host CPU and memory, and of each of ``gpus`` GPUs ``mem`` bytes (0: the share
    ``core`` of its memory) and ``core`` points, or all of it (``whole``); ``models`` is a bit for each model accepted.

    ``weight`` is the share of all pods; ``amount`` the thousandths of a GPU that one pod takes. ``streams`` ``[R, H]``
    are indices of kinds in the order in which they are offered. ``group`` numbers the kinds that ask for the same of
    the same GPUs, from 0 in the order of their first, which ``lead`` has. ``other_cpu`` is the host CPU that pods
    without GPUs ask for, for each pod that arrives. ``by_mem`` and ``by_core`` add up to 1000: what free memory and
    free compute of a GPU count.
    """

    cpu: Ints
    memory: Ints
    gpus: Ints
    mem: Ints
    core: Ints
    whole: Bools
    models: Ints
    weight: Floats
    amount: Floats
    group: Ints
    lead: Ints
    other_cpu: float
    streams: Ints
    by_mem: float
    by_core: float


class Asked(NamedTuple):
    """One pod: host CPU and memory, and its containers, the most demanding first."""

    cpu: int
    memory: int
    gpus: Ints
    mem: Ints
    core: Ints
    whole: Bools
    models: int


class Weights(NamedTuple):
    """What the terms of the fragmentation score count; see ``fragmentation``. ``ahead`` is that of V, ``gradient`` that
    of F.
    """

    ahead: float
    gradient: float
    gpu_price: float
    cpu_price: float
    untouched: float
    cpu_per_gpu: float
    refreshes: int


class Memory(NamedTuple):
    """What is remembered of each node, all valid only for the node's ``version`` that stands beside it.

    ``slots`` ``[row, kind]`` and ``usable`` ``[kind, row]``, the idle thousandths that the kind could use; for each
    shape of a pod ``[shape, row]`` the value ``after`` it, and ``[family, row]`` the last known ``gain`` of placing one
    there that asks for the same of its GPUs.
    """

    seen: Ints
    idle: Floats
    slots: Ints
    usable: Floats
    valued: Ints
    value: Floats
    after_of: Ints
    after: Floats
    gain_of: Ints
    gain: Floats
    gpu_price: Floats
    cpu_price: Floats
    tie: Floats


@compiled
def _usable(n: Any, row: int, k: int) -> bool:
    return n.present[row, k] and n.healthy[row, k] and not n.exclusive[row, k]


@compiled
def _copy(n: Any, row: int, free: Any, percent: Any, tenants: Any) -> None:
    """The usable GPUs of a node into scratch arrays; others are full."""
    for k in range(n.mem.shape[1]):
        usable = _usable(n, row, k)
        free[k] = n.free[row, k] if usable else -1
        percent[k] = n.percent[row, k] if usable else -1
        tenants[k] = n.tenants[row, k] if usable else 1


@compiled
def _need(mem: int, core: int, whole: bool, size: int) -> int:
    if whole:
        return size
    if mem > 0:
        return mem
    return size * core // 100 >> 20 << 20


@compiled
def _idle_of(size: int, free: int, percent: int, by_mem: float, by_core: float) -> float:
    if size <= 0 or free < 0 or percent < 0:
        return 0.0
    return by_mem * free / size + by_core * percent / 100


@compiled
def _tightest(
    sizes: Any,
    model: Any,
    free: Any,
    percent: Any,
    tenants: Any,
    mem: int,
    core: int,
    whole: bool,
    models: int,
    taken: Any,
) -> int:
    """The GPU with the least left after such a share, or -1; ``taken`` GPUs are left out."""
    best, least = -1, 1e18
    last, need, scale = -1, 0, 0.0
    for k in range(len(sizes)):
        if taken[k] or free[k] < 0 or percent[k] < core or not (models >> min(model[k], 62)) & 1:
            continue
        size = sizes[k]
        if whole:
            if tenants[k] == 0 and free[k] == size:
                return k
            continue
        if size != last:
            last, need, scale = size, _need(mem, core, whole, size), 1000.0 / max(size, 1)
        if need <= 0 or free[k] < need:
            continue
        left = scale * (free[k] - need) + 10.0 * (percent[k] - core) + (10000.0 if tenants[k] == 0 else 0.0)
        if left < least:
            best, least = k, left
    return best


@compiled
def _take(
    sizes: Any,
    free: Any,
    percent: Any,
    tenants: Any,
    k: int,
    mem: int,
    core: int,
    whole: bool,
    by_mem: float,
    by_core: float,
) -> float:
    """Takes such a share of one GPU, which has room for it; answers how much less is idle."""
    need, points = _need(mem, core, whole, sizes[k]), 100 if whole else core
    free[k] -= need
    percent[k] -= points
    tenants[k] += 1
    return by_mem * need / sizes[k] + by_core * points / 100


@compiled
def _serve(
    sizes: Any,
    model: Any,
    free: Any,
    percent: Any,
    tenants: Any,
    gpus: int,
    mem: int,
    core: int,
    whole: bool,
    models: int,
    taken: Any,
    by_mem: float,
    by_core: float,
) -> float:
    """Takes such a share of ``gpus`` GPUs; answers how much less is idle, or -1 and no change if there are too few.

    ``sizes`` and ``model`` are those of the node: the tuples of all arrays cost more to hand on than this takes.
    """
    for k in range(len(taken)):
        taken[k] = False
    for _ in range(gpus):
        k = _tightest(sizes, model, free, percent, tenants, mem, core, whole, models, taken)
        if k < 0:
            return -1.0
        taken[k] = True
    used = 0.0
    for k in range(len(taken)):
        if taken[k]:
            used += _take(sizes, free, percent, tenants, k, mem, core, whole, by_mem, by_core)
    return used


@compiled
def _idle(sizes: Any, free: Any, percent: Any, by_mem: float, by_core: float) -> float:
    total = 0.0
    for k in range(len(sizes)):
        total += _idle_of(sizes[k], free[k], percent[k], by_mem, by_core)
    return total


@compiled
def _with_room(sizes: Any, model: Any, free: Any, percent: Any, tenants: Any) -> Any:
    """Those GPUs alone that may still hold something; on others compute can be idle, but without memory."""
    some = (free > 0) & (percent >= 0)
    return sizes[some], model[some], free[some], percent[some], tenants[some]


@compiled
def _value(n: Any, m: Any, row: int, cpu0: int, memory0: int, free0: Any, percent0: Any, tenants0: Any) -> float:
    """What stays idle, on average over the streams, once each has been offered to the node in its order.

    What did not fit once does not fit later in the same stream, because room only shrinks, and what does not fit the
    node as it is fits in no stream: a kind for the host's sake, a group of kinds for the GPUs'.
    """
    # Arrays in names of their own, and one GPU found and taken here instead of in ``_serve``: to read an array out of a
    # tuple, or to hand it on, costs more than what is done with it. This loop is most of a decision.
    streams, group, own_cpu, own_memory = m.streams, m.group, m.cpu, m.memory
    gpus, mems, cores, wholes, accepted, by_mem, by_core = m.gpus, m.mem, m.core, m.whole, m.models, m.by_mem, m.by_core
    start = _idle(n.mem[row], free0, percent0, by_mem, by_core)
    if start < 1.0:
        return 0.0
    sizes, model, free1, percent1, tenants1 = _with_room(n.mem[row], n.model[row], free0, percent0, tenants0)
    columns, kinds, groups = len(sizes), len(own_cpu), len(m.lead)
    free, percent, tenants = np.empty(columns, np.int64), np.empty(columns, np.int64), np.empty(columns, np.int64)
    taken, never, failed = np.empty(columns, np.bool_), np.zeros(kinds, np.bool_), np.empty(kinds, np.bool_)
    never_any, failed_any = np.zeros(groups, np.bool_), np.empty(groups, np.bool_)
    total = 0.0
    for r in range(streams.shape[0]):
        for k in range(columns):
            free[k], percent[k], tenants[k] = free1[k], percent1[k], tenants1[k]
        failed[:] = never
        failed_any[:] = never_any
        cpu, memory, idle, as_it_is = cpu0, memory0, start, True
        for h in range(streams.shape[1]):
            j = streams[r, h]
            g = group[j]
            if failed[j] or failed_any[g]:
                continue
            if own_cpu[j] > cpu or own_memory[j] > memory:
                failed[j] = True
                never[j] |= as_it_is
                continue
            mem, core, whole, models = mems[j], cores[j], wholes[j], accepted[j]
            used = -1.0
            if gpus[j] != 1:
                used = _serve(
                    sizes, model, free, percent, tenants, gpus[j], mem, core, whole, models, taken, by_mem, by_core
                )
            else:
                best, least, asked = -1, 1e18, 0
                last, need, scale = -1, 0, 0.0
                for k in range(columns):
                    if percent[k] < core or not (models >> min(model[k], 62)) & 1:
                        continue
                    size = sizes[k]
                    if size != last:
                        last, need, scale = size, _need(mem, core, whole, size), 1000.0 / size
                    if need <= 0 or free[k] < need or (whole and tenants[k] != 0):
                        continue
                    left = scale * (free[k] - need) + 10.0 * (percent[k] - core) + (10000.0 if tenants[k] == 0 else 0.0)
                    if left < least:
                        best, least, asked = k, left, need
                        if whole:
                            break
                if best >= 0:
                    points = 100 if whole else core
                    free[best] -= asked
                    percent[best] -= points
                    tenants[best] += 1
                    used = by_mem * asked / sizes[best] + by_core * points / 100
            if used < 0.0:
                failed_any[g] = True
                never_any[g] |= as_it_is
                continue
            as_it_is = False
            cpu -= own_cpu[j]
            memory -= own_memory[j]
            idle -= used
            if idle < 1.0:
                break
        total += idle
    return total / streams.shape[0]


@compiled
def _apart(
    sizes: Any,
    model: Any,
    kind: tuple[int, int, int, int, int, bool, int],
    free: Any,
    percent: Any,
    most: int,
) -> int:
    """How many pods of ``kind``, each with shares of as many different GPUs, the GPUs hold; ``most`` at most."""
    _, _, gpus, mem, core, _, models = kind
    while most > 0:
        places = 0
        for k in range(len(sizes)):
            if free[k] < 0 or percent[k] < core or not (models >> min(model[k], 62)) & 1:
                continue
            need = _need(mem, core, False, sizes[k])
            if need > 0 and free[k] >= need:
                fit = free[k] // need
                places += min(most, fit if core <= 0 else min(fit, percent[k] // core))
        if places >= most * gpus:
            break
        most = places // gpus
    return most


@compiled
def _kind(m: Any, j: int) -> Any:
    return m.cpu[j], m.memory[j], m.gpus[j], m.mem[j], m.core[j], m.whole[j], m.models[j]


@compiled
def _places(
    sizes: Any,
    model: Any,
    kind: tuple[int, int, int, int, int, bool, int],
    free: Any,
    percent: Any,
    tenants: Any,
) -> int:
    """How many pods of ``kind`` (see ``_kind``) the GPUs of a node hold, if no others come."""
    _, _, gpus, mem, core, whole, models = kind
    places, last, need = 0, -1, 0
    for k in range(len(sizes)):
        if free[k] < 0 or percent[k] < core or not (models >> min(model[k], 62)) & 1:
            continue
        size = sizes[k]
        if whole:
            places += tenants[k] == 0 and free[k] == size
            continue
        if size != last:
            last, need = size, _need(mem, core, False, size)
        if need <= 0 or free[k] < need:
            continue
        fit = free[k] // need if 2 * need <= free[k] else 1
        if core > 0 and fit > 1:
            fit = min(fit, percent[k] // core)
        places += min(fit, 64)
    if gpus > 1:
        places //= gpus
        if places > 0 and not whole:
            places = _apart(sizes, model, kind, free, percent, places)
    return places


@compiled
def _slots(places: int, own_cpu: int, own_memory: int, cpu: int, memory: int) -> int:
    """How many pods the node holds, where its GPUs hold ``places`` of them."""
    if own_cpu > cpu or own_memory > memory:
        return 0
    if places > 1 and own_cpu > 0:
        places = min(places, cpu // own_cpu)
    if places > 1 and own_memory > 0:
        places = min(places, memory // own_memory)
    return places


@compiled
def _idle_for(
    sizes: Any,
    model: Any,
    kind: tuple[int, int, int, int, int, bool, int],
    free: Any,
    percent: Any,
    tenants: Any,
    idle: Any,
) -> tuple[float, int]:
    """What is idle on the GPUs of the node that a pod of ``kind`` could use, and how many they are; ``idle`` is what is
    idle on each.
    """
    _, _, _, mem, core, whole, models = kind
    usable, places, last, need = 0.0, 0, -1, 0
    for k in range(len(sizes)):
        if free[k] < 0 or percent[k] < core or not (models >> min(model[k], 62)) & 1:
            continue
        size = sizes[k]
        if size != last:
            last, need = size, _need(mem, core, whole, size)
        if need > 0 and free[k] >= need and (not whole or tenants[k] == 0):
            places += 1
            usable += idle[k]
    return usable, places


@compiled
def recount(n: Any, m: Any, memory: Any, totals: Any) -> float:
    """Brings ``slots`` and ``idle`` of changed nodes up to date, and ``totals``, the slots of each kind; answers the
    idle thousandths of all nodes.
    """
    columns = n.mem.shape[1]
    free, percent, tenants = np.empty(columns, np.int64), np.empty(columns, np.int64), np.empty(columns, np.int64)
    idle = np.empty(columns)
    places, usable = np.empty(len(m.lead), np.int64), np.empty(len(m.lead))
    group, own_cpu, own_memory, slots, usable_of = m.group, m.cpu, m.memory, memory.slots, memory.usable
    for row in range(len(n.version)):
        if memory.seen[row] == n.version[row]:
            continue
        memory.seen[row] = n.version[row]
        _copy(n, row, free, percent, tenants)
        for k in range(columns):
            idle[k] = _idle_of(n.mem[row, k], free[k], percent[k], m.by_mem, m.by_core)
        memory.idle[row] = idle.sum()
        sizes, model = n.mem[row], n.model[row]
        for g in range(len(m.lead)):
            kind = _kind(m, m.lead[g])
            places[g] = _places(sizes, model, kind, free, percent, tenants)
            usable[g] = _idle_for(sizes, model, kind, free, percent, tenants, idle)[0] if places[g] else 0.0
        cpu, host = n.cpu[row], n.memory[row]
        for j in range(len(own_cpu)):
            g = group[j]
            now = _slots(places[g], own_cpu[j], own_memory[j], cpu, host)
            totals[j] += now - slots[row, j]
            slots[row, j] = now
            usable_of[j, row] = usable[g] if now else 0.0
    return memory.idle.sum()


@compiled
def _demand(m: Any) -> float:
    """Thousandths of a GPU that a mean pod takes."""
    total = 0.0
    for j in range(len(m.weight)):
        total += m.weight[j] * m.amount[j]
    return total


@compiled
def scarcity(m: Any, totals: Any, idle: float, leaving: float, out: Any, later: Any) -> None:
    """What the loss of one slot of each kind costs, and of one that it would have ``later``, the latter for the first
    kind of each group that asks for several GPUs; see ``fragmentation``.
    """
    demand = _demand(m)
    pods = np.zeros(len(m.weight))
    for j in range(len(m.weight)):
        if demand > 0.0:
            pods[m.group[j]] += idle * m.weight[j] / demand
    for j in range(len(m.weight)):
        out[j] = later[j] = 0.0
        group = pods[m.group[j]]
        if group <= 0.0:
            continue
        x = group / (totals[j] + 0.5)
        many = 3.0 * leaving * x if m.gpus[j] > 1 else 0.0
        cost = m.amount[j] * (idle * m.weight[j] / demand / group) * (0.1 * x * x / (1.0 + x * x) + many)
        out[j] = cost if cost > 2.0 else 0.0
        if m.gpus[j] > 1 and m.lead[m.group[j]] == j:
            cost = leaving * m.amount[j] * x / (1.0 + x)
            later[j] = cost if cost > 2.0 else 0.0


@compiled
def _later(n: Any, m: Any, j: int, row: int, tenants: Any) -> float:
    """How many pods of kind ``j`` the node will hold once each of its ``tenants`` has left with a chance of 1/e: of
    as many GPUs as one pod asks for, those with the fewest tenants together.
    """
    columns, gpus = n.mem.shape[1], m.gpus[j]
    fewest = np.empty(columns, np.int64)
    found = 0
    for k in range(columns):
        if not n.present[row, k] or not n.healthy[row, k] or not (m.models[j] >> min(n.model[row, k], 62)) & 1:
            continue
        if _need(m.mem[j], m.core[j], m.whole[j], n.mem[row, k]) > n.mem[row, k]:
            continue
        at = found
        while at > 0 and fewest[at - 1] > tenants[k]:
            fewest[at] = fewest[at - 1]
            at -= 1
        fewest[at] = tenants[k]
        found += 1
    slots = 0.0
    for first in range(0, found - gpus + 1, gpus):
        slots += math.exp(-float(fewest[first : first + gpus].sum()))
    return slots


@compiled
def _fragments(n: Any, m: Any, row: int, cpu: int, free: Any, percent: Any, tenants: Any) -> float:
    """FGD's measure of a node: the idle GPU that each kind could not use there, by the kind's share of all pods."""
    columns = n.mem.shape[1]
    each = np.empty(columns)
    for k in range(columns):
        each[k] = _idle_of(n.mem[row, k], free[k], percent[k], m.by_mem, m.by_core)
    idle, out = each.sum(), 0.0
    if idle < 1.0:
        return 0.0
    usable = np.empty(len(m.lead))
    for g in range(len(m.lead)):
        kind = _kind(m, m.lead[g])
        usable[g], places = _idle_for(n.mem[row], n.model[row], kind, free, percent, tenants, each)
        if places < m.gpus[m.lead[g]]:
            usable[g] = 0.0
    for j in range(len(m.cpu)):
        out += m.weight[j] * (idle - (usable[m.group[j]] if m.cpu[j] <= cpu else 0.0))
    return out


@compiled
def _worth(n: Any, m: Any, w: Any, row: int, cpu: int, memory: int, free: Any, percent: Any, tenants: Any) -> float:
    """V and F of a node, weighted: what is lost there, in thousandths of a GPU."""
    out = w.ahead * _value(n, m, row, cpu, memory, free, percent, tenants)
    if w.gradient > 0.0:
        out += w.gradient * _fragments(n, m, row, cpu, free, percent, tenants)
    return out


@compiled
def prices(n: Any, m: Any, memory: Any, cpu_per_gpu: float, steps: int) -> None:
    """Steps of the prices: the demand that would fill all that is idle spreads over the nodes that can take it, away
    from dear ones; a node's prices rise with its load over what it has free.
    """
    rows, kinds = n.mem.shape[0], len(m.cpu)
    load, cores, use = np.empty(rows), np.empty(rows), np.empty(rows)
    demand = _demand(m)
    if demand <= 0.0:
        return
    idle = memory.idle.sum()
    for _ in range(steps):
        load[:] = 0.0
        cores[:] = 0.0
        for j in range(kinds):
            per_gpu = m.cpu[j] / max(m.amount[j], 1.0)
            total = 0.0
            for row in range(rows):
                use[row] = 0.0
                if memory.usable[j, row] > 0.0:
                    far = memory.gpu_price[row] + memory.cpu_price[row] * per_gpu / cpu_per_gpu
                    use[row] = memory.usable[j, row] * math.exp(-far)
                    total += use[row]
            if total <= 0.0:
                continue
            scale = idle * m.weight[j] * m.amount[j] / demand / total
            for row in range(rows):
                load[row] += use[row] * scale
                cores[row] += use[row] * scale * per_gpu
        total = 0.0
        for row in range(rows):
            use[row] = max(n.cpu[row], 0) * math.exp(-memory.cpu_price[row])
            total += use[row]
        for row in range(rows):
            if total > 0.0:
                cores[row] += idle * m.other_cpu / demand * use[row] / total
            if memory.idle[row] > 0.0:
                rise = _STEP * math.log(max(load[row], 1e-3) / memory.idle[row])
                memory.gpu_price[row] = min(_HIGHEST_PRICE, max(0.0, memory.gpu_price[row] + rise))
            rise = _STEP * math.log(max(cores[row], 1e-3) / max(n.cpu[row], 1))
            memory.cpu_price[row] = min(_HIGHEST_PRICE, max(0.0, memory.cpu_price[row] + rise))


@compiled
def _place(n: Any, a: Any, row: int, free: Any, percent: Any, tenants: Any, taken: Any) -> bool:
    """The node with the pod on it."""
    _copy(n, row, free, percent, tenants)
    for i in range(len(a.gpus)):
        gpus, mem, core, whole = a.gpus[i], a.mem[i], a.core[i], a.whole[i]
        if (
            _serve(n.mem[row], n.model[row], free, percent, tenants, gpus, mem, core, whole, a.models, taken, 1.0, 1.0)
            < 0.0
        ):
            return False
        if a.whole[i]:
            for k in range(len(taken)):
                if taken[k]:
                    free[k] = percent[k] = -1
    return True


@compiled
def _gain(
    n: Any, m: Any, a: Any, memory: Any, cost: Any, later: Any, w: Any, shape: int, row: int, epoch: int, scratch: Any
) -> float:
    """What placing the pod on the node wins: the fall of what is lost there, less what the lost slots cost."""
    free, percent, tenants, taken = scratch
    stamp = n.version[row] * 65536 + epoch
    if memory.valued[row] != stamp:
        _copy(n, row, free, percent, tenants)
        memory.value[row] = _worth(n, m, w, row, n.cpu[row], n.memory[row], free, percent, tenants)
        memory.valued[row] = stamp
    if not _place(n, a, row, free, percent, tenants, taken):
        return NEVER
    cpu, host = n.cpu[row] - a.cpu, n.memory[row] - a.memory
    if memory.after_of[shape, row] != stamp:
        memory.after[shape, row] = _worth(n, m, w, row, cpu, host, free, percent, tenants)
        memory.after_of[shape, row] = stamp
    lost = 0.0
    places = np.full(len(m.lead), -1)
    group, own_cpu, own_memory, slots = m.group, m.cpu, m.memory, memory.slots[row]
    for j in range(len(cost)):
        if cost[j] > 0.0 and slots[j] > 0:
            g = group[j]
            if places[g] < 0:
                places[g] = _places(n.mem[row], n.model[row], _kind(m, j), free, percent, tenants)
            lost += cost[j] * (slots[j] - _slots(places[g], own_cpu[j], own_memory[j], cpu, host))
        if later[j] > 0.0 and len(a.gpus):
            lost += later[j] * (_later(n, m, j, row, n.tenants[row]) - _later(n, m, j, row, tenants))
    return memory.value[row] - memory.after[shape, row] - lost


@compiled
def _highest(values: Any, most: int) -> Any:
    """The rows of the highest values above ``NEVER``, at most so many, the highest first."""
    rows = np.empty(most, np.int64)
    found = 0
    for row in range(len(values)):
        value = values[row]
        if value <= NEVER or (found == most and value <= values[rows[most - 1]]):
            continue
        at = min(found, most - 1)
        while at > 0 and values[rows[at - 1]] < value:
            rows[at] = rows[at - 1]
            at -= 1
        rows[at] = row
        found = min(found + 1, most)
    return rows[:found]


@compiled
def scores(
    n: Any,
    m: Any,
    a: Any,
    memory: Any,
    cost: Any,
    later: Any,
    w: Any,
    shape: int,
    family: int,
    amount: float,
    candidates: Any,
    epoch: int,
    out: Any,
) -> None:
    """The fragmentation score of each row, ``NEVER`` for those that are no candidates.

    A gain that is remembered of a node's present state stands in for the exact one until its node comes first; of a
    node that has changed since then the most is expected that there can be, the pod's own ``amount``. What comes first
    is computed, at most ``refreshes`` times, and the best node is always one whose gain is exact. The first few are
    nodes that have not changed, so that there is always something to compare with.
    """
    columns = n.mem.shape[1]
    scratch = (
        np.empty(columns, np.int64),
        np.empty(columns, np.int64),
        np.empty(columns, np.int64),
        np.empty(columns, np.bool_),
    )
    rows = len(out)
    fixed, known = np.empty(rows), np.full(rows, NEVER)
    most = (w.ahead + w.gradient) * amount
    exact = np.zeros(rows, np.bool_)
    for row in range(rows):
        out[row] = NEVER
        if not candidates[row]:
            continue
        used = False
        for k in range(columns):
            if n.tenants[row, k] > 0:
                used = True
                break
        price = w.gpu_price * memory.gpu_price[row] * amount
        price += w.cpu_price * memory.cpu_price[row] * a.cpu / w.cpu_per_gpu
        fixed[row] = -price - (0.0 if used else w.untouched) - 1e-6 * memory.tie[row]
        out[row] = fixed[row] + most
        if memory.gain_of[family, row] == n.version[row]:
            out[row] = known[row] = fixed[row] + memory.gain[family, row]
    first, then = _highest(known, _KNOWN_FIRST), _highest(out, w.refreshes)
    best, at = NEVER, 0
    for turn in range(w.refreshes):
        if turn < len(first):
            row = first[turn]
        else:
            while at < len(then) and exact[then[at]]:
                at += 1
            if at == len(then) or out[then[at]] <= best:
                break
            row = then[at]
        gain = _gain(n, m, a, memory, cost, later, w, shape, row, epoch, scratch)
        exact[row] = True
        if gain <= NEVER:
            out[row] = HARDLY * (1.0 + memory.tie[row])
            continue
        memory.gain[family, row] = gain
        memory.gain_of[family, row] = n.version[row]
        out[row] = fixed[row] + gain
        best = max(best, out[row])
    if best > NEVER:
        for row in range(rows):
            if not exact[row] and out[row] > best:
                out[row] = best - 1e-9


@compiled
def gradients(n: Any, m: Any, a: Any, memory: Any, shape: int, candidates: Any, epoch: int, out: Any) -> None:
    """How far FGD's measure falls on each candidate, ``NEVER`` for others."""
    columns = n.mem.shape[1]
    free, percent, tenants = np.empty(columns, np.int64), np.empty(columns, np.int64), np.empty(columns, np.int64)
    taken = np.empty(columns, np.bool_)
    for row in range(len(out)):
        out[row] = NEVER
        if not candidates[row]:
            continue
        stamp = n.version[row] * 65536 + epoch
        if memory.after_of[shape, row] != stamp:
            if memory.valued[row] != stamp:
                _copy(n, row, free, percent, tenants)
                memory.value[row] = _fragments(n, m, row, n.cpu[row], free, percent, tenants)
                memory.valued[row] = stamp
            if not _place(n, a, row, free, percent, tenants, taken):
                out[row] = HARDLY * (1.0 + memory.tie[row])
                continue
            memory.after[shape, row] = _fragments(n, m, row, n.cpu[row] - a.cpu, free, percent, tenants)
            memory.after_of[shape, row] = stamp
        out[row] = memory.value[row] - memory.after[shape, row] - 1e-6 * memory.tie[row]


@compiled
def _got(size: int, free: int, percent: int, tenants: int, exclusive: bool, mem: int, core: int, whole: bool) -> int:
    """What a container gets on a GPU whose state this is, or -1 if there is no room for it."""
    if exclusive or percent < core or (whole and tenants != 0):
        return -1
    need = _need(mem, core, whole, size)
    return need if 0 < need <= size and need <= free else -1


@compiled
def holding(n: Any, w: Any, candidates: Any, out: Any) -> None:
    """Per row: whether it is one of ``candidates`` and holds such a container now, as ``scheduler.fit`` says it."""
    # Arrays in names of their own: a tuple of them that is handed to a function costs more than the function.
    sizes, free, percent, tenants, model = n.mem, n.free, n.percent, n.tenants, n.model
    present, healthy, exclusive, level = n.present, n.healthy, n.exclusive, n.level
    gpus, mem, core, whole, floor, least, accepted = w.gpus, w.mem, w.core, w.whole, w.floor, w.level, w.accepted
    for row in range(len(out)):
        found = 0
        if candidates[row]:
            for k in range(sizes.shape[1]):
                if not present[row, k] or not healthy[row, k] or level[row, k] < least or not accepted[model[row, k]]:
                    continue
                f, p, t = free[row, k], percent[row, k], tenants[row, k]
                if _got(sizes[row, k], f, p, t, exclusive[row, k], mem, core, whole) >= floor:
                    found += 1
                    if found >= gpus:
                        break
        out[row] = found >= gpus


@compiled
def cheapest(n: Any, w: Any, spreading: bool, candidates: Any, too_dear: int, out: Any) -> None:
    """Per row of ``candidates``: what the ``w.gpus`` cheapest GPUs cost together by the formula of ``pack``, or of
    ``spread``; GPUs that cannot hold the container cost ``too_dear`` each.
    """
    sizes, free, percent, tenants, model = n.mem, n.free, n.percent, n.tenants, n.model
    present, healthy, exclusive, level = n.present, n.healthy, n.exclusive, n.level
    gpus, mem, core, whole, floor, weakest, accepted = w.gpus, w.mem, w.core, w.whole, w.floor, w.level, w.accepted
    least = np.empty(gpus, np.int64)
    for row in range(len(out)):
        if not candidates[row]:
            continue
        least[:] = too_dear
        on_node = 0
        for k in range(sizes.shape[1]):
            on_node += tenants[row, k]
        for k in range(sizes.shape[1]):
            if not present[row, k] or not healthy[row, k] or level[row, k] < weakest or not accepted[model[row, k]]:
                continue
            size, f, p, t = sizes[row, k], free[row, k], percent[row, k], tenants[row, k]
            need = _got(size, f, p, t, exclusive[row, k], mem, core, whole)
            if need < floor:
                continue
            cost = 1000 * (f - need) // max(size, 1)
            if spreading:
                cost = 10_000 * t + 10 * on_node - cost
            else:
                cost += 10 * (p - core) + (10_000 if t == 0 else 0) + (100_000 if on_node == 0 else 0)
            at = gpus - 1
            if cost >= least[at]:
                continue
            while at > 0 and least[at - 1] > cost:
                least[at] = least[at - 1]
                at -= 1
            least[at] = cost
        out[row] = least.sum()
