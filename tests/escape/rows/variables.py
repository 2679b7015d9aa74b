"""Variables, in the pod and set by the program itself."""

from tests.e2e.cluster import pods
from tests.e2e.cluster.kubectl import Kubectl
from tests.escape.cage import Cage, taken_in
from tests.escape.rows.table import TAKE, Try, row, script
from tests.escape.verdict import Escaped, Outcome, Seen, Wall, judge


def _variable(name: str, value: str) -> Try:
    def attempt(cage: Cage) -> Outcome:
        body = cage.container("true", env=[{"name": name, "value": value}])
        return cage.refused(cage.pod(body), f"spec.containers[main].env: found {name}; allowed: ")

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
    row(f"variable {_name} in the pod", Wall.ADMISSION, "kube-apiserver")(_variable(_name, _value))


@row("NVIDIA_VISIBLE_DEVICES=all in the image", Wall.CDI, "kubelet, containerd, device plugin")
def _in_image(cage: Cage) -> Outcome:
    body = cage.container('echo "sees $NVIDIA_VISIBLE_DEVICES"', image="in-the-way")
    said = cage.said(cage.start(cage.pod(body, restartPolicy="Never")))
    if said not in {f"sees {uuid}\n" for uuid in cage.product.machines[cage.node].uuids}:
        raise Escaped(said)
    return Outcome(Wall.CDI, said.strip())


@row("all variables unset in the container", Wall.SHIM, "containerd, shim", again=True)
def _clean(cage: Cage) -> Outcome:
    state = cage.prelude().partition("TESSERA")[2].partition(";")[0]
    keep = f"LD_LIBRARY_PATH=/fake/cuda:/fake/nvml TESSERA{state}"
    return cage.run(f"exec env -i {keep} {TAKE}")


row("an LD_PRELOAD of its own", Wall.SHIM, "containerd, loader, shim", again=True)(
    script(f"export LD_PRELOAD=/lib/x86_64-linux-gnu/libm.so.6; exec {TAKE}")
)


@row("kubectl exec with a clean environment", Wall.SHIM, "kubelet, containerd, shim")
def _exec(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("sleep 600")))
    pods.wait_all(cage.tenant, [name])
    kubectl = Kubectl(cage.product.cluster.kubeconfig, cage.tenant.namespace)
    taker = f"{TAKE} > /tmp/took 2>&1 & until grep -q took /tmp/took; do sleep 0.1; done; kill $!; cat /tmp/took"
    said = kubectl.run("exec", name, "--", "env", "-i", "/bin/sh", "-c", cage.prelude() + taker).stdout
    taken = taken_in(said)
    if taken is None:
        raise Escaped(said)
    return judge(Seen(taken))
