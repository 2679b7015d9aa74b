"""kube-scheduler's extender protocol, with its own field names.

Source: k8s.io/kube-scheduler/extender/v1/types.go (1.36). The types there have no JSON tags, so the names are Go's;
only the pod inside is in the API's own camel case.
"""

import msgspec

from tessera.kube.wire import Pod

NULL = msgspec.Raw(b"null")


class ExtenderArgs(msgspec.Struct):
    """Both parts come more than once for a pod, and are read only where they are new."""

    Pod: msgspec.Raw
    NodeNames: msgspec.Raw = NULL


class ExtenderFilterResult(msgspec.Struct):
    """``FailedNodes`` tells kube-scheduler why it has no node, and which of them preemption might help."""

    NodeNames: msgspec.Raw
    FailedNodes: dict[str, str] = {}
    FailedAndUnresolvableNodes: dict[str, str] = {}
    Error: str = ""


class ExtenderBindingArgs(msgspec.Struct):
    PodName: str
    PodNamespace: str
    PodUID: str
    Node: str


class ExtenderBindingResult(msgspec.Struct):
    Error: str = ""


class MetaPod(msgspec.Struct):
    UID: str


class MetaVictims(msgspec.Struct):
    Pods: list[MetaPod] | None = None
    NumPDBViolations: int = 0


class FullPodMeta(msgspec.Struct):
    uid: str = ""


class FullPod(msgspec.Struct):
    metadata: FullPodMeta = msgspec.field(default_factory=FullPodMeta)


class Victims(msgspec.Struct):
    Pods: list[FullPod] | None = None
    NumPDBViolations: int = 0


class ExtenderPreemptionArgs(msgspec.Struct):
    Pod: Pod
    NodeNameToVictims: dict[str, Victims] | None = None
    NodeNameToMetaVictims: dict[str, MetaVictims] | None = None


class ExtenderPreemptionResult(msgspec.Struct):
    NodeNameToMetaVictims: dict[str, MetaVictims]


def victims_of(args: ExtenderPreemptionArgs) -> dict[str, MetaVictims]:
    """The candidates of a preemption in one form, whichever of the two kube-scheduler sent."""
    if args.NodeNameToMetaVictims:
        return args.NodeNameToMetaVictims
    return {
        node: MetaVictims([MetaPod(pod.metadata.uid) for pod in victims.Pods or ()], victims.NumPDBViolations)
        for node, victims in (args.NodeNameToVictims or {}).items()
    }
