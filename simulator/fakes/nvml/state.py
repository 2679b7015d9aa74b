"""The machine that the stub NVML library shows, and its form on disk.

A change is made in memory and written whole with ``write``; the library reads the file again when it is another one, so
a reader sees the old machine or the new one, never a half.
"""

import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

ENV = "TESSERA_FAKE_NVML_STATE"
HOLDERS = ".holders"
"""Beside the state file: a folder in which processes of the fake CUDA driver say what they hold, if it is there."""
NOT_AVAILABLE = -1
"""``used_bytes`` of a process whose memory the driver does not tell."""


@dataclass(frozen=True, slots=True)
class FakeGpu:
    """A GPU as NVML describes it. ``cores`` are CUDA cores; ``sms`` multiprocessors."""

    uuid: str
    index: int
    name: str
    total_bytes: int
    reserved_bytes: int
    cores: int
    sms: int
    compute_capability: str
    numa_node: int = -1
    pci: str = "00000000:01:00.0"
    nvlink_peers: tuple[str, ...] = ()
    lost: bool = False
    mig: bool = False
    mig_capable: bool = False
    utilization: int = 0
    mem_utilization: int = 0


@dataclass(frozen=True, slots=True)
class FakeMig:
    """A MIG device: a compute instance of a GPU instance of ``parent``, listed there under ``slot``."""

    uuid: str
    parent: str
    slot: int
    gpu_instance: int
    compute_instance: int
    name: str
    total_bytes: int
    reserved_bytes: int
    sms: int


@dataclass(frozen=True, slots=True)
class FakeProcess:
    """A process on a GPU or a MIG device; ``used_bytes`` may be ``NOT_AVAILABLE``."""

    pid: int
    gpu: str
    used_bytes: int
    mps: bool = False


@dataclass(frozen=True, slots=True)
class FakeXid:
    """An Xid error; numbers grow, and each event set hands out what is newer than itself."""

    seq: int
    gpu: str
    code: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that fails with NVML's ``code``: by number since the epoch began, or by name ("*": all); on one GPU."""

    code: int
    call: int | None = None
    function: str = ""
    gpu: str = ""


@dataclass(slots=True)
class NvmlState:
    """A machine with its GPUs, their processes and what goes wrong."""

    gpus: list[FakeGpu] = field(default_factory=list)
    migs: list[FakeMig] = field(default_factory=list)
    processes: list[FakeProcess] = field(default_factory=list)
    xids: list[FakeXid] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    driver: str = "580.95.05"
    cuda: int = 13000
    epoch: int = 0

    def add_process(self, pid: int, gpu: str, used_bytes: int, *, mps: bool = False) -> None:
        """A process appears on a GPU, or uses another amount from now on."""
        self.remove_process(pid, gpu)
        self.processes.append(FakeProcess(pid, gpu, used_bytes, mps))

    def remove_process(self, pid: int, gpu: str = "") -> None:
        """A process leaves one GPU, or all."""
        self.processes = [p for p in self.processes if p.pid != pid or (gpu and p.gpu != gpu)]

    def xid(self, gpu: str, code: int) -> None:
        """The driver reports an Xid error."""
        self.xids.append(FakeXid(max((x.seq for x in self.xids), default=0) + 1, gpu, code))

    def change(self, uuid: str, **changes: object) -> None:
        """A GPU changes: ``change(uuid, lost=True)``."""
        self.gpus = [replace(gpu, **changes) if gpu.uuid == uuid else gpu for gpu in self.gpus]  # type: ignore[arg-type]

    def fail_call(self, call: int, code: int) -> None:
        """The call of this number fails; the count starts anew."""
        self.epoch += 1
        self.failures = [Failure(code, call=call)]

    def fail_function(self, function: str, code: int, gpu: str = "") -> None:
        """Each call of ``function`` (C name, such as ``nvmlDeviceGetName``) fails."""
        self.failures.append(Failure(code, function=function, gpu=gpu))

    def write(self, path: Path) -> None:
        """Puts this state in place atomically."""
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write("\n".join(self._lines()) + "\n")
        Path(temporary).replace(path)

    @staticmethod
    def let_programs_tell(path: Path) -> None:
        """From now on NVML also tells of programs on the fake CUDA driver that have this state file."""
        folder = path.with_name(path.name + HOLDERS)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)

    def _lines(self) -> list[str]:
        lines = [f"machine driver={self.driver} cuda={self.cuda} epoch={self.epoch}"]
        lines += [_gpu_line(gpu) for gpu in self.gpus]
        lines += [_mig_line(mig) for mig in self.migs]
        lines += [f"link from={gpu.uuid} to={peer}" for gpu in self.gpus for peer in gpu.nvlink_peers]
        lines += [_process_line(process) for process in self.processes]
        lines += [f"xid seq={xid.seq} gpu={xid.gpu} code={xid.code}" for xid in self.xids]
        return lines + [_failure_line(failure) for failure in self.failures]


def _gpu_line(gpu: FakeGpu) -> str:
    return (
        f"gpu index={gpu.index} uuid={gpu.uuid} total={gpu.total_bytes} reserved={gpu.reserved_bytes} cores={gpu.cores}"
        f" sms={gpu.sms} cc={gpu.compute_capability} numa={gpu.numa_node} pci={gpu.pci} lost={int(gpu.lost)}"
        f" mig={int(gpu.mig)} mig_capable={int(gpu.mig_capable)} utilization={gpu.utilization}"
        f" mem_utilization={gpu.mem_utilization} name={gpu.name}"
    )


def _mig_line(mig: FakeMig) -> str:
    return (
        f"mig parent={mig.parent} uuid={mig.uuid} slot={mig.slot} gi={mig.gpu_instance} ci={mig.compute_instance}"
        f" sms={mig.sms} total={mig.total_bytes} reserved={mig.reserved_bytes} name={mig.name}"
    )


def _process_line(process: FakeProcess) -> str:
    used = "NA" if process.used_bytes == NOT_AVAILABLE else str(process.used_bytes)
    kind = "mps" if process.mps else "compute"
    return f"process pid={process.pid} gpu={process.gpu} used={used} type={kind}"


def _failure_line(failure: Failure) -> str:
    where = f" call={failure.call}" if failure.call is not None else f" function={failure.function}"
    return f"fail{where} code={failure.code}" + (f" gpu={failure.gpu}" if failure.gpu else "")
