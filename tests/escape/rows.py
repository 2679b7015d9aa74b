"""Every way that is tried, by name: its wall, the real part that is exercised, and what is done."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.e2e.cluster import pods
from tests.e2e.cluster.kubectl import Kubectl
from tests.e2e.cluster.processes import wait_until
from tests.escape.cage import NODE, SLICE_MIB, Cage, Escaped, Outcome, takers

Try = Callable[[Cage], Outcome]
TAKE = "/programs/taker plain 64 4096"
API, SHIM, WATCHER, NODE_SIDE = "admission", "shim", "watcher", "PreStart"


@dataclass(frozen=True, slots=True)
class Row:
    """``real``: what was exercised; ``again``: whether only a driver can decide, so that it comes again as T13."""

    name: str
    wall: str
    real: str
    again: bool
    attempt: Try


ROWS: list[Row] = []


def row(name: str, wall: str, real: str, *, again: bool = False) -> Callable[[Try], Try]:
    """Adds one."""

    def add(attempt: Try) -> Try:
        ROWS.append(Row(name, wall, real, again, attempt))
        return attempt

    return add


def script(text: str) -> Try:
    """Runs it as the one container's program."""

    def attempt(cage: Cage) -> Outcome:
        return cage.run(text)

    return attempt


# Without any trick: what the rest is measured by.

row("more than the slice", SHIM, "kubelet, containerd, shim", again=True)(script(f"exec {TAKE}"))


@row("what a program is told of its GPU", SHIM, "kubelet, containerd, shim", again=True)
def _told(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("exec /programs/taker told 64 4096")))
    outcome = cage.judge(name)
    told = cage.tenant.log(name).splitlines()[0]
    if told != "told 2048 of 2048":
        raise Escaped(told)
    return Outcome("blocked", f"{told}; {outcome.evidence}")


@row("programs that never ask for CUDA", SHIM, "kubelet, containerd, loaders")
def _others(cage: Cage) -> Outcome:
    kinds = ("true-old", "true-static", "true-musl")
    each = "; ".join(f"/programs/{kind} 2>&1 && echo {kind} fine" for kind in kinds)
    name = cage.start(cage.pod(cage.container(f"{each}; sh -c 'echo sh fine' 2>&1; sleep 600")))
    wait_until("the shell", lambda: "sh fine" in cage.tenant.log(name), 60)
    log = cage.tenant.log(name)
    if log.splitlines() != [*(f"{kind} fine" for kind in kinds), "sh fine"]:
        raise Escaped(log)
    return Outcome("blocked", "exit status 0 and nothing on standard error: old glibc, static, musl, shell")


# Variables.


def _variable(name: str, value: str) -> Try:
    def attempt(cage: Cage) -> Outcome:
        body = cage.container("true", env=[{"name": name, "value": value}])
        return cage.refused(cage.pod(body), name)

    return attempt


for _name, _value in (
    ("NVIDIA_VISIBLE_DEVICES", "all"),
    ("CUDA_VISIBLE_DEVICES", "0,1"),
    ("LD_PRELOAD", "/lib/x86_64-linux-gnu/libm.so.6"),
    ("CUDA_MPS_PIPE_DIRECTORY", "/tmp/mps"),
    ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=80G"),
    ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "100"),
    ("TESSERA_SHIM", "off"),
):
    row(f"variable {_name} in the pod", API, "kube-apiserver")(_variable(_name, _value))


@row("all variables unset in the container", SHIM, "containerd, shim", again=True)
def _clean(cage: Cage) -> Outcome:
    state = cage.prelude().partition("TESSERA")[2].partition(";")[0]
    keep = f"LD_LIBRARY_PATH=/fake/cuda:/fake/nvml TESSERA{state}"
    return cage.run(f"exec env -i {keep} {TAKE}")


row("an LD_PRELOAD of its own", SHIM, "containerd, loader, shim", again=True)(
    script(f"export LD_PRELOAD=/lib/x86_64-linux-gnu/libm.so.6; exec {TAKE}")
)


@row("kubectl exec with a clean environment", SHIM, "kubelet, containerd, shim")
def _exec(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("sleep 600")))
    pods.wait_all(cage.tenant, [name])
    kubectl = Kubectl(cage.product.cluster.kubeconfig, cage.tenant.namespace)
    taker = f"{TAKE} > /tmp/took 2>&1 & until grep -q took /tmp/took; do sleep 0.1; done; kill $!; cat /tmp/took"
    said = kubectl.run("exec", name, "--", "env", "-i", "/bin/sh", "-c", cage.prelude() + taker).stdout
    taken = int(said.split()[1])
    if taken > SLICE_MIB:
        raise Escaped(said)
    return Outcome("blocked", f"refused at {taken} MiB")


# Past the preloaded library.


row("a static program", WATCHER, "containerd, agent", again=True)(script("exec /programs/taker-static plain 512 4096"))


@row("a static program within its slice", WATCHER, "containerd, agent", again=True)
def _unshimmed(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("exec /programs/taker-static plain 64 64")))
    cage.taken(name)
    wait_until("the event", lambda: [e for e in cage.tenant.events(name) if e["reason"] == "WithoutShim"], 20)
    if not takers(cage.tenant.get("Pod", name)["metadata"]["uid"]):
        raise Escaped("it was ended")
    return Outcome("detected", "event: WithoutShim; it runs on")


for _name, _wall, _real, _text in (
    ("a musl program", WATCHER, "containerd, agent", "exec /programs/taker-musl plain 512 4096"),
    ("dlmopen", WATCHER, "loader, shim, agent", "exec /programs/taker dlmopen 512 4096"),
    ("RTLD_DEEPBIND", SHIM, "loader, shim, agent", "exec /programs/taker deepbind 512 4096"),
    (
        "functions found in the driver's own tables",
        WATCHER,
        "loader, shim, agent",
        "exec /programs/taker tables 512 4096",
    ),
    ("exec after an allocation", SHIM, "containerd, shim", "exec /programs/taker exec 64 4096"),
    (
        "a nested pid namespace, unshimmed",
        f"container or {WATCHER}",
        "containerd, agent",
        "unshare -U -r -p -f /programs/taker-static plain 512 4096 2>/dev/null"
        " || { echo took 0 at 0; exec sleep 600; }",
    ),
):
    row(_name, _wall, _real, again=True)(script(_text))


# The slice's own files.


@row("the usage file overwritten with zeros", WATCHER, "containerd, shim, agent")
def _zeros(cage: Cage) -> Outcome:
    first = "/programs/taker plain 64 1984 >/dev/null & sleep 1; head -c 50176 /dev/zero > /tmp/z; "
    zeros = "dd if=/tmp/z of=/run/tessera-usage/ledger conv=notrunc bs=50176 2>/dev/null; "
    name = cage.start(cage.pod(cage.container(f"{first}{zeros}exec {TAKE}")))
    return cage.judge(name, beside=1984)


row("the usage file truncated", SHIM, "containerd, shim, agent")(
    script(f"/programs/taker plain 64 64 >/dev/null & sleep 1; kill $!; : > /run/tessera-usage/ledger; exec {TAKE}")
)
row("limits edited from inside", SHIM, "containerd, shim")(
    script(f"(echo x > /run/tessera/limits || rm -f /run/tessera/limits) 2>/dev/null; exec {TAKE}")
)


def _covered(path: str) -> Try:
    def attempt(cage: Cage) -> Outcome:
        volume = {"name": "cover", "emptyDir": {}}
        mounts = [{"name": "cover", "mountPath": path}]
        return cage.run(f"exec {TAKE}", mounts=mounts, volumes=[volume])

    return attempt


for _path in ("/etc", "/run/tessera", "/usr/local/lib/tessera", "/run/tessera-usage"):
    row(f"a volume over {_path}", f"{SHIM} or {WATCHER}", "kubelet, containerd, shim, agent")(_covered(_path))


@row("a privileged container, which could unmount the library", API, "kube-apiserver")
def _privileged(cage: Cage) -> Outcome:
    return cage.refused(cage.pod(cage.container("true", securityContext={"privileged": True})), "privileged")


@row("the agent's folder by hostPath", WATCHER, "kubelet, agent")
def _host_path(cage: Cage) -> Outcome:
    folder = cage.product.cluster.nodes[NODE].home / "tessera" / "agent" / "slices"
    volume = {"name": "agent", "hostPath": {"path": str(folder)}}
    emptied = "for f in /agent/*/limits; do : > $f; done 2>/dev/null; for f in /agent/*; do rm -f $f/limits; done; "
    more = emptied + "exec /programs/taker-static plain 512 4096"
    return cage.run(more, mounts=[{"name": "agent", "mountPath": "/agent"}], volumes=[volume])


# Containers without a slice.


@row("a second container without a slice", WATCHER, "kubelet, agent")
def _second(cage: Cage) -> Outcome:
    own = cage.container("sleep 600")
    other = cage.container("exec /programs/taker plain 512 4096", "other", slice_=False)
    return cage.judge(cage.start(cage.pod(own, other)), "other")


@row("an ephemeral container", WATCHER, "kube-apiserver, kubelet, agent")
def _ephemeral(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("sleep 600")))
    pods.wait_all(cage.tenant, [name])
    body = cage.container("exec /programs/taker plain 512 4096", "probe", slice_=False)
    path = cage.tenant.path("Pod", name, sub="ephemeralcontainers")
    patch = {"spec": {"ephemeralContainers": [body]}}
    cage.tenant.request("PATCH", path, patch, "application/strategic-merge-patch+json")
    return cage.judge(name, "probe")


# Past the scheduler.


@row("another scheduler", API, "kube-apiserver")
def _scheduler(cage: Cage) -> Outcome:
    return cage.refused(cage.pod(cage.container(TAKE), schedulerName="mine"), "spec.schedulerName: found 'mine'")


@row("a Binding by somebody else, without an assignment", NODE_SIDE, "kubelet, device plugin")
def _binding(cage: Cage) -> Outcome:
    body = cage.pod(cage.container(TAKE))
    body["metadata"]["annotations"]["tessera.io/gpu-model"] = "none such"  # so that our scheduler leaves it waiting
    name = cage.start(body)
    target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    cage.tenant.request("POST", cage.tenant.path("Pod", name, sub="binding"), binding)
    cage.tenant.wait_gone("Pod", name, timeout_s=90)
    told = [event["message"] for event in cage.tenant.events(name) if "assignment" in event["message"]]
    if not told:
        raise Escaped("nobody was told")
    return Outcome("blocked", f"its container is not started; event: {told[-1][:80]}")


@row("nodeName set by hand", API, "kube-apiserver")
def _node_name(cage: Cage) -> Outcome:
    return cage.refused(cage.pod(cage.container("true"), nodeName=NODE), "nodeName")


@row("an assignment forged by hand", API, "kube-apiserver")
def _forged(cage: Cage) -> Outcome:
    body = cage.pod(cage.container("true"))
    uuid = cage.product.machines[NODE].uuids[0]
    forged = f'{{"version":1,"containers":{{"main":{{"gpus":[{{"uuid":"{uuid}","mem":1073741824,"core":0}}]}}}}}}'
    body["metadata"]["annotations"]["tessera.io/assignment"] = forged
    return cage.refused(body, "tessera.io/assignment")
