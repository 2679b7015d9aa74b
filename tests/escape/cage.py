"""Real containers in which programs try to get out of their slice, and what became of them."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tessera.simulator.fakes.cuda.build import library_dir as cuda
from tessera.simulator.fakes.nvml.build import library_dir as nvml
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, ApiError, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.product import Product

NODE, MODEL = "node-a", "NVIDIA H100 80GB HBM3"
SLICE_MIB = 2048
DETECTED_S = 2.0
PATIENCE_S = 60.0
_HOST = {
    "/lib64": "/usr/lib64",
    "/lib/x86_64-linux-gnu": "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-musl": "/usr/lib/x86_64-linux-musl",
    "/lib/ld-musl-x86_64.so.1": "/usr/lib/x86_64-linux-musl/libc.so",
}
"""What the image has of a C library: this machine's."""


class Escaped(Exception):
    """A row did not come out as it must; the text says how."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``kind``: blocked or detected; ``evidence``: what was seen; ``seconds``: until it was ended, if it was."""

    kind: str
    evidence: str
    seconds: float = 0.0


@dataclass
class Cage:
    """``programs``: the folder of what is tried."""

    product: Product
    tenant: Api
    programs: Path
    _number: int = 0
    started: list[str] = field(default_factory=list)

    def prelude(self) -> str:
        """What a program needs to find the driver; set by the shell, since a pod may not."""
        state = self.product.machines[NODE].path.name
        return f"export LD_LIBRARY_PATH=/fake/cuda:/fake/nvml TESSERA_FAKE_NVML_STATE=/fake/state/{state}; "

    def container(self, script: str, name: str = "main", *, slice_: bool = True, **more: object) -> Json:
        """A container that runs ``script`` with the driver at hand."""
        limits = {"gpu-mem": f"{SLICE_MIB}Mi"} if slice_ else None
        body = pods.container(name, limits=limits, command=["sh", "-c", self.prelude() + script])
        body["volumeMounts"] = [{"name": key, "mountPath": path} for key, (path, _) in self._volumes().items()]
        body["volumeMounts"] += more.pop("mounts", [])
        return {**body, **more}

    def pod(self, *containers: Json, volumes: Sequence[Json] = (), **spec: object) -> Json:
        """A pod on the node with the GPU."""
        self._number += 1
        shared = [{"name": key, "hostPath": {"path": host}} for key, (_, host) in self._volumes().items()]
        return pods.pod(
            f"row-{self._number}", *containers, node=NODE, volumes=[*shared, *volumes],
            annotations={"tessera.io/gpu-model": MODEL}, **spec,
        )  # fmt: skip

    def run(self, script: str, **more: object) -> Outcome:
        """A pod with one container that runs ``script``, which ends in a ``taker``; what became of that."""
        volumes = more.pop("volumes", ())
        return self.judge(self.start(self.pod(self.container(script, **more), volumes=volumes)))

    def start(self, body: Json) -> str:
        """Creates a pod; answers its name."""
        name = self.tenant.create(body)["metadata"]["name"]
        self.started.append(name)
        return str(name)

    def refused(self, body: Json, words: str) -> Outcome:
        """What the API server does not take."""
        try:
            self.tenant.create(body)
        except ApiError as error:
            if words not in str(error):
                raise Escaped(f"refused for another reason: {error}") from None
            return Outcome("blocked", words)
        raise Escaped("the API server took it")

    def judge(self, name: str, container: str = "", beside: int = 0) -> Outcome:
        """What became of the ``taker`` of a pod. ``beside``: MiB of another one there, which may stay."""
        taken, at = self.taken(name, container)
        if taken + beside <= SLICE_MIB:
            return Outcome("blocked", f"refused at {taken} MiB")
        seconds = self._until_ended(name, int(beside > 0)) - at
        reasons = wait_until("the event", lambda: [e["message"] for e in self._events(name)], 20)
        if seconds > DETECTED_S:
            raise Escaped(f"{taken + beside} MiB for {seconds:.2f} s")
        evidence = f"ended {seconds:.2f} s after {taken + beside} MiB; event: {str(reasons[-1])[:60]}"
        return Outcome("detected", evidence, seconds)

    def taken(self, name: str, container: str = "") -> tuple[int, float]:
        """How much it got, and when."""

        def said() -> re.Match[str] | None:
            try:
                log = self.tenant.log(name, container)
            except ApiError:
                return None
            return re.search(r"took (\d+) at ([\d.]+)", log)

        found = wait_until(f"what {name} took", said, PATIENCE_S, every_s=0.05)
        return int(found[1]), float(found[2])

    def clear(self) -> None:
        """Nothing of a row is left for the next."""
        for name in self.started:
            self.tenant.delete("Pod", name)
        for name in self.started:
            self.tenant.wait_gone("Pod", name)
        self.started.clear()

    def _events(self, name: str) -> list[Json]:
        return [event for event in self.tenant.events(name) if event["reason"] == "SliceOverLimit"]

    def _until_ended(self, name: str, left: int) -> float:
        uid = self.tenant.get("Pod", name)["metadata"]["uid"]
        deadline = time.monotonic() + PATIENCE_S
        while len(takers(uid)) > left:
            if time.monotonic() > deadline:
                raise Escaped("it lives on")
            time.sleep(0.02)
        return time.time()

    def _volumes(self) -> dict[str, tuple[str, str]]:
        """Names, and where they are in the container and on the host."""
        found = {f"host-{place}": (path, host) for place, (path, host) in enumerate(_HOST.items())}
        found["cuda"], found["nvml"] = ("/fake/cuda", str(cuda())), ("/fake/nvml", str(nvml()))
        found["state"] = ("/fake/state", str(self.product.directory))
        found["programs"] = ("/programs", str(self.programs))
        return found


def takers(uid: str) -> list[int]:
    """Host process ids of the programs of a pod that take memory and have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            if name.startswith("taker") and rest.split()[0] not in "ZX" and uid in (entry / "cgroup").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
