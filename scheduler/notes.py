"""What a leader leaves to the next one on the lease: how many pods leave for each that arrives.

The mix of pods is learnt anew from those that run; who has left is in no object that a new leader could read.
"""

from collections.abc import Mapping

import structlog

from tessera.scheduler.policy.workload import Workload

log = structlog.get_logger(__name__)

LEAVING = "state.tessera.io/leaving"


def note_of(workload: Workload) -> dict[str, str]:
    """As annotations."""
    return {LEAVING: f"{workload.leaving:.3f}"}


def recall(workload: Workload, annotations: Mapping[str, str]) -> None:
    """Tells ``workload`` what the last leader knew; nothing where none has led, or where it cannot be read."""
    written = annotations.get(LEAVING)
    if written is None:
        return
    try:
        workload.recall(float(written))
    except ValueError:
        log.warning("annotation of the lease not understood", annotation=LEAVING, found=written, allowed="0 to 1")
