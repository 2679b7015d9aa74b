"""Why something was refused, as a value.

One ``Reason`` serves events, metrics, REST, the command line and the dashboard alike. An exception is a bug or
the outside world; a refusal is neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Code(StrEnum):
    """Why a pod or a slice was refused; stable names, used as metric labels."""

    INVALID_REQUEST = "InvalidRequest"
    NOT_ENOUGH_MEMORY = "NotEnoughMemory"
    NOT_ENOUGH_COMPUTE = "NotEnoughCompute"
    NOT_ENOUGH_GPUS = "NotEnoughGpus"
    NOT_ENOUGH_IN_GROUP = "NotEnoughInGroup"
    TOO_LARGE = "TooLarge"
    NOT_EMPTY = "NotEmpty"
    OTHER_TENANT = "OtherTenant"
    OTHER_DOMAIN = "OtherDomain"
    UNKNOWN_DOMAIN = "UnknownDomain"
    UNHEALTHY = "Unhealthy"
    WRONG_GPU = "WrongGpu"
    ENFORCEMENT_TOO_WEAK = "EnforcementTooWeak"
    NODE_RESOURCES = "NodeResources"
    NODE_EXCLUDED = "NodeExcluded"
    NO_GPU = "NoGpu"
    REMOTE_UNAVAILABLE = "RemoteUnavailable"
    NO_ROOM = "NoRoom"
    NOT_LEADER = "NotLeader"
    NOT_SYNCED = "NotSynced"
    BINDING_REFUSED = "BindingRefused"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    INVALID_ASSIGNMENT = "InvalidAssignment"
    NO_ASSIGNMENT = "NoAssignment"
    GPU_GONE = "GpuGone"
    OVER_COMMITTED = "OverCommitted"
    OVER_LIMIT = "OverLimit"


@dataclass(frozen=True, slots=True)
class Reason:
    """A refusal: a stable code, one sentence for a person, and how many GPUs stood against it for which cause."""

    code: Code
    text: str
    counts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


def invalid(where: str, found: object, allowed: str) -> Reason:
    """One sentence that names the field, what was found and what is allowed."""
    return Reason(Code.INVALID_REQUEST, f"{where}: found {found!r}; allowed: {allowed}")
