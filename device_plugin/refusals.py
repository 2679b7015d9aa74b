"""Why a container may not start, and whether a retry can mend it."""

from dataclasses import dataclass

from tessera.reasons import Code, Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused start. ``permanent``: no retry can mend it, so the pod is ended and its controller makes another."""

    reason: Reason
    permanent: bool = False

    def __str__(self) -> str:
        return self.reason.text


class Refused(Exception):
    """Carries a ``Refusal`` up to the kubelet's answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def wait(text: str, code: Code = Code.NOT_SYNCED) -> Refused:
    """A refusal that a later try may not meet."""
    return Refused(Refusal(Reason(code, text)))


def end(code: Code, text: str) -> Refused:
    """A refusal that ends the pod."""
    return Refused(Refusal(Reason(code, text), permanent=True))
