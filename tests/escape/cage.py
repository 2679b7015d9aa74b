"""Real containers in which programs try to get out of their slice, and what was seen of them."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from tessera.simulator.fakes.cuda.build import library_dir as cuda
from tessera.simulator.fakes.nvml.build import library_dir as nvml
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, ApiError, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.product import Product
from tests.escape.images import name_of
from tests.escape.verdict import (
    CONTEXT_MIB,
    OVER,
    SLICE_MIB,
    Escaped,
    Outcome,
    Seen,
    Taken,
    Told,
    Wall,
    judge,
    judge_bursts,
)

NODE, MPS_NODE = "node-a", "node-b"
GPUS = {NODE: ["H100", "L4"], MPS_NODE: ["A100"]}
MODELS = {NODE: "NVIDIA H100 80GB HBM3", MPS_NODE: "NVIDIA A100-SXM4-40GB"}
PATIENCE_S = 60.0
ENDS_S = 10.0
_HOST = {
    "/lib64": "/usr/lib64",
    "/lib/x86_64-linux-gnu": "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-musl": "/usr/lib/x86_64-linux-musl",
    "/lib/ld-musl-x86_64.so.1": "/usr/lib/x86_64-linux-musl/libc.so",
}
"""What the image has of a C library: this machine's."""
_TOOK = re.compile(r"^took (\d+) answer (\d+) at ([\d.]+)$", re.MULTILINE)


@dataclass
class Cage:
    """``programs``: the folder of what is tried; ``node``: where pods go."""

    product: Product
    tenant: Api
    programs: Path
    node: str = NODE
    started: list[str] = field(default_factory=list)

    def on(self, node: str) -> "Cage":
        """The same, with pods on another node."""
        return replace(self, node=node)

    @property
    def agent(self) -> Path:
        """The state folder of the node's agent."""
        return self.product.cluster.nodes[self.node].home / "tessera" / "agent"

    def prelude(self) -> str:
        """What a program needs to find the driver; set by the shell, since a pod may not."""
        state = self.product.machines[self.node].path.name
        driver = f"TESSERA_FAKE_NVML_STATE=/fake/state/{state} TESSERA_FAKE_CUDA=context={CONTEXT_MIB << 20}"
        return f"export LD_LIBRARY_PATH=/fake/cuda:/fake/nvml {driver}; "

    def container(
        self, script: str, name: str = "main", *, slice_: bool = True, image: str = "", host: bool = True,
        mounts: Sequence[Json] = (), **more: object,
    ) -> Json:  # fmt: skip
        """A container that runs ``script`` with the driver at hand. ``host``: with this machine's C libraries."""
        limits = {"gpu-mem": f"{SLICE_MIB}Mi"} if slice_ else None
        body = pods.container(name, limits=limits, command=["sh", "-c", self.prelude() + script])
        shared = {key: path for key, (path, _) in self._volumes().items() if host or not key.startswith("host-")}
        body["volumeMounts"] = [*({"name": key, "mountPath": path} for key, path in shared.items()), *mounts]
        return {**body, **({"image": name_of(image)} if image else {}), **more}

    def pod(self, *containers: Json, volumes: Sequence[Json] = (), **spec: object) -> Json:
        """A pod on the node with the GPU."""
        shared = [{"name": key, "hostPath": {"path": host}} for key, (_, host) in self._volumes().items()]
        return pods.pod(
            f"row-{time.monotonic_ns()}", *containers, node=self.node, volumes=[*shared, *volumes],
            annotations={"tessera.io/gpu-model": MODELS[self.node]}, **spec,
        )  # fmt: skip

    def run(self, script: str, volumes: Sequence[Json] = (), **more: object) -> Outcome:
        """A pod with one container that runs ``script``, which ends in a ``taker``; what became of that."""
        return self.judge(self.start(self.pod(self.container(script, **more), volumes=volumes)))

    def start(self, body: Json) -> str:
        """Creates a pod; answers its name."""
        name = self.tenant.create(body)["metadata"]["name"]
        self.started.append(name)
        return str(name)

    def refused(self, body: Json, words: str) -> Outcome:
        """What the API server does not take; ``words`` are its own, with the field's path."""
        try:
            self.started.append(self.tenant.create(body)["metadata"]["name"])
        except ApiError as error:
            if words not in str(error):
                raise Escaped(f"refused for another reason: {error}") from None
            return Outcome(Wall.ADMISSION, words)
        raise Escaped("the API server took it")

    def judge(self, name: str, container: str = "", beside: int = 0) -> Outcome:
        """What became of the ``taker`` of a pod. ``beside``: MiB of another one there, which may stay."""
        seen = Seen(self.taken(name, container), beside)
        if seen.mib > SLICE_MIB:
            ended_at = self.until_ended(name, int(beside > 0))
            seen = replace(seen, ended_at=ended_at, told=self.told(name, OVER, "was ended"))
        return judge(seen)

    def taken(self, name: str, container: str = "", programs: int = 1) -> Taken:
        """What the last of so many ``programs`` of a container got."""

        def said() -> Taken | None:
            log = self.tenant.log(name, container)
            return taken_in(log) if len(_TOOK.findall(log)) >= programs else None

        found = wait_until(f"what {name} took", said, PATIENCE_S, every_s=0.05)
        assert isinstance(found, Taken)
        return found

    def said(self, name: str) -> str:
        """All that a pod's container said, once it has ended with exit status 0."""

        def ended(body: Json) -> bool:
            return body.get("status", {}).get("phase") in ("Succeeded", "Failed")

        body = self.tenant.wait("Pod", name, ended)
        status = body["status"]["containerStatuses"][0]["state"]["terminated"]
        said = self.tenant.log(name)
        if status["exitCode"]:
            raise Escaped(f"exit status {status['exitCode']}: {said}")
        return said

    def judge_bursts(self, name: str, burst_s: float) -> Outcome:
        """What became of a pod's program that says when each of its bursts begins."""
        self.taken(name, programs=2)
        ended_at = self.until_ended(name)
        begun = tuple(float(at) for _, _, at in _TOOK.findall(self.tenant.log(name)))
        return judge_bursts(begun, burst_s, ended_at, self.told(name, OVER, "was ended"))

    def told(self, name: str, reason: str, words: str = "") -> tuple[Told, ...]:
        """The pod's events, as soon as there is one of that reason, or when none has come."""
        deadline = time.monotonic() + ENDS_S
        while True:
            events = tuple(_told(event) for event in self.tenant.events(name))
            here = any(event.reason == reason and words in event.message for event in events)
            if here or time.monotonic() > deadline:
                return events
            time.sleep(0.05)

    def until_ended(self, name: str, left: int = 0) -> float | None:
        """When no more takers than ``left`` lived on; ``None``: they live on."""
        uid = self.tenant.get("Pod", name)["metadata"]["uid"]
        deadline = time.monotonic() + ENDS_S
        while len(takers(uid)) > left:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)
        return time.time()

    def clear(self) -> None:
        """Nothing of a row is left for the next."""
        for name in self.started:
            self.tenant.delete("Pod", name)
        for name in self.started:
            self.tenant.wait_gone("Pod", name)
        self.started.clear()

    def _volumes(self) -> dict[str, tuple[str, str]]:
        """Names, and where they are in the container and on the host."""
        found = {f"host-{place}": (path, host) for place, (path, host) in enumerate(_HOST.items())}
        found["cuda"], found["nvml"] = ("/fake/cuda", str(cuda())), ("/fake/nvml", str(nvml()))
        found["state"] = ("/fake/state", str(self.product.directory))
        found["programs"] = ("/programs", str(self.programs))
        return found


def taken_in(log: str) -> Taken | None:
    """What the last ``taker`` in a log said."""
    found = _TOOK.findall(log)
    return Taken(int(found[-1][0]), int(found[-1][1]), float(found[-1][2])) if found else None


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


def _told(event: Json) -> Told:
    stamp = event.get("firstTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return Told(event["reason"], event["message"], datetime.fromisoformat(stamp).timestamp())
