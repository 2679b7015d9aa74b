"""The hook as it ships, and a host whose cgroups have device memory limits."""

import json
import subprocess
from pathlib import Path

from tessera.simulator.fakes.dmem import FakeCgroupFiles

GIB = 1 << 30
PODS = Path("kubepods/burstable")


class DmemHost:
    """``proc`` lists ``uuids`` by PCI address; the cgroups are those of a kubelet with the cgroupfs driver."""

    def __init__(self, folder: Path, uuids: list[str], **fake: str) -> None:
        self.proc, self.mount = folder / "proc", folder / "cgroup"
        self.regions = [f"nvidia/0000:{number + 1:02x}:00.0/vidmem" for number in range(len(uuids))]
        for region, uuid in zip(self.regions, uuids, strict=True):
            information = self.proc / "driver/nvidia/gpus" / region.split("/")[1] / "information"
            information.parent.mkdir(parents=True)
            information.write_text(
                f"Model: \t\t NVIDIA H100\nIRQ:   \t\t 16\nGPU UUID: \t {uuid}\nDevice Minor: \t 0\n"
            )
        self.files = FakeCgroupFiles(self.mount, dict.fromkeys(self.regions, 80 * GIB), **fake)
        self.files.make(self.mount / PODS)

    def start_pod(self, uid: str) -> Path:
        """The pod's sandbox is there, as at PreStart."""
        pod = self.mount / PODS / f"pod{uid}"
        self.files.make(pod)
        return pod

    def start_container(self, hook, pod: Path, name: str, pid: int) -> tuple[subprocess.CompletedProcess[str], Path]:
        """As a runtime does: makes the cgroup and runs the hook with the container's state."""
        cgroup = pod / name
        self.files.make(cgroup)
        (self.proc / str(pid)).mkdir(exist_ok=True)
        (self.proc / str(pid) / "cgroup").write_text(f"0::/{cgroup.relative_to(self.mount)}\n")
        return run(hook, {"ociVersion": "1.2.0", "id": name, "status": "created", "pid": pid}), cgroup

    def limit(self, cgroup: Path, gpu: int = 0) -> str | None:
        text = (cgroup / "dmem.max").read_text()
        found = [line.split(" ") for line in text.splitlines()]
        return dict(found).get(self.regions[gpu])


def run(hook, state: object) -> subprocess.CompletedProcess[str]:
    text = state if isinstance(state, str) else json.dumps(state)
    command = [hook.path, *list(hook.args)[1:]]
    return subprocess.run(command, input=text, env={}, capture_output=True, text=True, timeout=30, check=False)
