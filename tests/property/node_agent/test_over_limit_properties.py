"""Whatever containers do: sums are right, and no innocent process is ever ended."""

from hypothesis import given
from hypothesis import strategies as st

from tessera.model.assignment import Share
from tessera.node_agent.accounting import account
from tessera.node_agent.cgroups import Container
from tessera.node_agent.nvml import GpuProcess
from tessera.node_agent.over_limit import Graces, OverLimit, Step
from tessera.node_agent.processes import Process
from tessera.node_agent.slices import Slice

CONTAINERS = [Container(pod, name) for pod in ("p0", "p1", "stranger") for name in ("c0", "c1")]
GPUS = ["G0", "G1"]
SLICES = [
    Slice(f"{p}-{c}", p, "ns", p, c, (Share("G0", 10 + i),)) for i, p in enumerate(("p0", "p1")) for c in ("c0", "c1")
]
LIMITS = {(s.pod_uid, s.container): s.shares[0].mem_bytes for s in SLICES}

process = st.tuples(st.integers(1, 12), st.sampled_from(GPUS), st.one_of(st.none(), st.integers(0, 20)), st.booleans())
reading = st.lists(process, max_size=10, unique_by=lambda p: (p[0], p[1]))
owners = st.dictionaries(st.integers(1, 12), st.one_of(st.none(), st.sampled_from(CONTAINERS)))


def accounts_of(found, owner):
    processes = {pid: Process(pid, pid, container) for pid, container in owner.items()}
    raw = [GpuProcess(*one) for one in found]
    return raw, account(raw, processes, SLICES, lambda c: c.container_id)


@given(reading, owners)
def test_every_process_is_counted_exactly_once(found, owner):
    raw, accounts = accounts_of(found, owner)
    counted = sum(len(usage.clients) for usage in accounts.usages) + len(accounts.foreign)
    assert counted == len(raw)
    known = sum(u.used_bytes for u in accounts.usages) + sum(p.used_bytes or 0 for p in accounts.foreign)
    assert known == sum(p.used_bytes or 0 for p in raw)


@given(reading, owners)
def test_limits_are_those_of_the_slices(found, owner):
    _, accounts = accounts_of(found, owner)
    for usage in accounts.usages:
        key = (usage.container.pod_uid, usage.container.container_id)
        assert usage.limit_bytes == (LIMITS[key] if usage.gpu_uuid == "G0" else 0)


@given(owners, st.lists(st.tuples(st.floats(0, 3), reading), max_size=25))
def test_only_processes_of_containers_over_their_limit_are_named(owner, history):
    machine, now = OverLimit(Graces(0.5, 0.5, 5.0)), 0.0
    for pause, found in history:
        now += pause
        raw, accounts = accounts_of(found, owner)
        for action in machine.observe(now, accounts.usages):
            container, gpu = action.process.container, action.usage.gpu_uuid
            assert container is not None and container.pod_uid != "stranger"
            used = sum(p.used_bytes or 0 for p in raw if p.gpu_uuid == gpu and owner.get(p.pid) == container)
            limit = LIMITS[container.pod_uid, container.container_id] if gpu == "G0" else 0
            assert used > limit
            assert any(p.pid == action.process.pid and p.gpu_uuid == gpu and p.used_bytes for p in raw)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20)), min_size=1, max_size=60), st.sampled_from([0.0, 0.25, 1.0])
)
def test_rungs_come_in_order_and_never_before_their_grace(history, look_s):
    """``look_s``: what a reading over the limit counts for after one that was not."""
    graces, now, over_s, last_over = Graces(1.0, 1.0, 3.0, look_s), 0.0, 0.0, False
    machine, order = OverLimit(graces), [Step.TELL, Step.END_CLIENT, Step.END_CONTAINER]
    reached = -1
    for pause, used in history:
        now += pause
        found, owner = [(1, "G0", used, False)], {1: CONTAINERS[0]}
        _, accounts = accounts_of(found, owner)
        over = used > LIMITS["p0", "c0"]
        over_s += (pause if last_over else look_s) if over else 0.0
        last_over = over
        for action in machine.observe(now, accounts.usages):
            rung = order.index(action.step)
            assert rung in (0, reached + 1, 2)
            reached = rung
            assert over_s >= (0.0, 1.0, 2.0)[rung] - 1e-9 or rung == 0
            if rung == 0:
                over_s = 0.0
