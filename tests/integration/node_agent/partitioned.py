"""A node whose GPUs may be partitioned, with the stand-in for nvidia-cuda-mps-control."""

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_MPS, LEVEL_PARTITION, LEVEL_WATCH
from tessera.node_agent.enforcement.keepers import Keepers
from tessera.node_agent.enforcement.ladder import Ladder
from tessera.node_agent.enforcement.mps_groups import Extent
from tessera.node_agent.enforcement.mps_limiters import MpsLimiters
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.watch import Watch
from tessera.node_agent.mps_clients import HostClients
from tessera.node_agent.slices import Slice
from tessera.simulator.fakes.mps import daemon
from tessera.simulator.fakes.mps.clients import FakeMps, install
from tessera.simulator.fakes.processes import FakeProcesses
from tests.integration.node_agent.test_mps import GIB, GPU, Clock, gpu, uid_of

DRIVER, OLD = "590.48.01", "580.159.04"
LONG_S = 60.0
"""How long a look may take: here each ends in its own round."""
ALL = (LEVEL_WATCH, LEVEL_MPS, LEVEL_PARTITION)


class PartitionedNode:
    """``driver`` is NVML's word, ``program`` the control program's version. ``start`` is the agent, anew."""

    def __init__(self, folder, driver=DRIVER, program=DRIVER, answer_s=3.0, extent=Extent.GPU):
        self.folder, self.driver, self.answer_s, self.extent = folder, driver, answer_s, extent
        self.slices, self.levels, self.clock, self.proof = [], {}, Clock(), None
        self.processes = FakeProcesses(folder / "proc")
        self.program = str(install(folder, program))
        self.static, self.percents = (FakeMps(folder / part / GPU / "pipe") for part in ("mps/static", "mps"))
        self.start()

    def start(self, asked=ALL):
        keepers = Keepers(self.folder / "keepers", [item.id for item in self.slices])
        clients = HostClients(self.processes, lambda: self.slices)

        def node(level):
            held = lambda: [item for item in self.slices if keepers.may_keep(level, item.id)]  # noqa: E731
            return Node(held, clients, lambda: 60, self.clock, self.proof, driver=lambda: self.driver)

        gpus = lambda: [gpu(GPU), gpu("GPU-b")]  # noqa: E731
        program, folder = self.program, self.folder / "mps"
        limiters = MpsLimiters(program, folder, node, gpus, self.extent, self.answer_s, look_s=LONG_S)
        rungs, level_of = (*limiters, Watch()), self.levels.__getitem__
        self.limiter = Ladder(rungs, asked, level_of, keepers, lambda: self.slices, look_s=LONG_S)

    async def detect(self, uuid=GPU):
        found = await self.limiter.detect(uuid)
        self.levels[uuid] = found.level
        return found

    def give(self, name, core=0, gpus=(GPU,), **more):
        shares = tuple(Share(uuid, 2 * GIB, core) for uuid in gpus)
        item = Slice(name, uid_of(name), "default", name, "main", shares, **more)
        self.slices.append(item)
        return item

    async def prepare(self, name, core=0, **more):
        """The partition that the container of a new slice is told."""
        edits = await self.limiter.prepare(self.give(name, core, **more))
        return edits.env["CUDA_MPS_SM_PARTITION"]

    async def again(self, name):
        """The same for one that is prepared anew."""
        (item,) = [item for item in self.slices if item.id == name]
        return (await self.limiter.prepare(item)).env["CUDA_MPS_SM_PARTITION"]

    def run(self, pid, name, partition):
        """A process of the pod of a slice becomes a client."""
        self.processes.start(pid, uid_of(name), "ab" * 32)
        self.static.connect(pid, partition=partition)

    def static_state(self):
        """The daemon's, to be changed."""
        return daemon.opened(self.static.pipe)

    async def release(self, name):
        (item,) = [item for item in self.slices if item.id == name]
        self.slices.remove(item)
        await self.limiter.release(item)

    async def reasons(self):
        return [incident.reason for incident in await self.limiter.observe()]

    @property
    def chunks(self):
        """Of the daemon's partitions, by name."""
        return self.static.state["partitions"].get(GPU, {})

    def said(self, text):
        return daemon.command(self.static.pipe, text)


def name_of(partition):
    return partition.split("/", 1)[1]
