"""Past the scheduler."""

from tests.escape.cage import NODE, Cage
from tests.escape.rows.table import TAKE, row
from tests.escape.verdict import Escaped, Outcome, Wall


@row("another scheduler", Wall.ADMISSION, "kube-apiserver")
def _scheduler(cage: Cage) -> Outcome:
    return cage.refused(cage.pod(cage.container(TAKE), schedulerName="mine"), "spec.schedulerName: found 'mine'")


@row("a Binding by somebody else, without an assignment", Wall.PRE_START, "kubelet, device plugin")
def _binding(cage: Cage) -> Outcome:
    body = cage.pod(cage.container(TAKE))
    body["metadata"]["annotations"]["tessera.io/gpu-model"] = "none such"  # so that our scheduler leaves it waiting
    name = cage.start(body)
    target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    cage.tenant.request("POST", cage.tenant.path("Pod", name, sub="binding"), binding)
    cage.tenant.wait_gone("Pod", name, timeout_s=90)
    words = "has no tessera.io/assignment: it was not placed by the scheduler"
    told = [event["message"] for event in cage.tenant.events(name) if words in event["message"]]
    if not told:
        raise Escaped("nobody was told")
    if any(event["reason"] == "Started" for event in cage.tenant.events(name)):
        raise Escaped("its container was started")
    return Outcome(Wall.PRE_START, f"its container is not started; event: {told[-1][:80]}")


@row("nodeName set by hand", Wall.ADMISSION, "kube-apiserver")
def _node_name(cage: Cage) -> Outcome:
    words = f"spec.nodeName: found '{NODE}'; allowed: none in a pod with a slice"
    return cage.refused(cage.pod(cage.container("true"), nodeName=NODE), words)


@row("an assignment forged by hand", Wall.ADMISSION, "kube-apiserver")
def _forged(cage: Cage) -> Outcome:
    body = cage.pod(cage.container("true"))
    uuid = cage.product.machines[NODE].uuids[0]
    forged = f'{{"version":1,"containers":{{"main":{{"gpus":[{{"uuid":"{uuid}","mem":1073741824,"core":0}}]}}}}}}'
    body["metadata"]["annotations"]["tessera.io/assignment"] = forged
    return cage.refused(body, "metadata.annotations[tessera.io/assignment]: found a value from ")
