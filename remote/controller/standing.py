"""What is to be done with a standing lease before all else: its users may stop it, and pods come and go. Pure.

An executor is its client's for good: whoever may have used it may have taken it over. So it ends with the client, and
the next client finds another one, which serves before there is a client.
"""

from collections.abc import Sequence

from tessera.model.gpu_leases import Phase
from tessera.remote.controller.records import Client, Executor, Record
from tessera.remote.controller.steps import Delete, Empty, Hold, Part, Step, Wait, Write


def first_step(record: Record, executors: Sequence[Executor], client: Client) -> Step | None:
    """``client`` is ``GONE`` too if it was never bound in time. ``None``: nothing that other leases have not."""
    lease, status = record.known, record.status
    if not record.held:
        return Hold()
    if client is Client.GONE:
        return Part()
    if status.client not in ("", record.client):
        return Write(status.given_up(Phase.RESERVED, "the pod that used it has left it"))
    if lease.stopped:
        return _stopped(record, executors)
    if not lease.placed and lease.target is None:
        return Wait() if status.phase is Phase.PENDING else Write(status.given_up(Phase.PENDING))
    return None


def _stopped(record: Record, executors: Sequence[Executor]) -> Step:
    """Its room is kept until nothing is left that holds it."""
    if record.status.phase is not Phase.STOPPED:
        return Write(record.status.given_up(Phase.STOPPED))
    for executor in executors:
        if not executor.deleting:
            return Delete(executor)
    return Empty() if not executors and (record.known.placed or record.known.target) else Wait()
