"""Whatever is prepared, released and crashed: never more than a GPU has, and nothing is lost."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tessera.model.assignment import Share
from tessera.model.gpus import Gpu
from tessera.node_agent.slices import Slice, SliceStore, check

GPUS = {uuid: Gpu(uuid, "T4", 10, 12) for uuid in ("G0", "G1")}
names = st.sampled_from([f"s{i}" for i in range(8)])
shares = st.builds(Share, st.sampled_from(["G0", "G1", "G2"]), st.integers(0, 12), st.integers(0, 100), st.booleans())


class Prepared(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = SliceStore(self.folder)
        self.expected = {}

    @rule(name=names, shares=st.lists(shares, min_size=1, max_size=2))
    def prepare(self, name, shares):
        item = Slice(name, f"pod-{name}", "ns", name, "main", tuple(shares))
        if name not in self.expected and check(item, GPUS, self.store) is None:
            self.store.put(item)
            self.expected[name] = item

    @rule(name=names)
    def release(self, name):
        self.store.drop(name)
        self.expected.pop(name, None)

    @rule()
    def crash(self):
        self.store = SliceStore(self.folder)

    @invariant()
    def nothing_is_lost(self):
        assert {item.id: item for item in self.store} == self.expected

    @invariant()
    def no_gpu_is_over_committed(self):
        for uuid, gpu in GPUS.items():
            on_gpu = [share for item in self.store for share in item.shares if share.uuid == uuid]
            assert sum(share.mem_bytes for share in on_gpu) <= gpu.mem_bytes
            assert sum(share.core_percent for share in on_gpu) <= 100
            assert len(on_gpu) <= 1 or not any(share.whole for share in on_gpu)

    def teardown(self):
        shutil.rmtree(self.folder)


Prepared.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestPrepared = Prepared.TestCase
