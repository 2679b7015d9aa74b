"""What the gate of an executor is told of its lease. Pure."""

from collections.abc import Mapping

from tessera.pb.remote.v1 import remote_pb2
from tessera.remote.controller.callers import comes, serves
from tessera.remote.controller.records import SILENT, Executor, Heard, Record


def state_of(
    executor: Executor, record: Record, coming: Executor | None, heard: Mapping[str, Heard], sessions: int
) -> remote_pb2.LeaseState:
    """``coming``: the executor that the sessions are to go to; ``sessions``: how many a lease may have at once."""
    status = record.status
    state = remote_pb2.LeaseState(epoch=status.epoch)
    if serves(executor, record):
        state.serving, state.limit_bytes, state.sessions = True, record.served.share.mem_bytes, sessions
        if coming is not None and not status.moved:
            _leave(state, record, coming, heard.get(coming.uid, SILENT))
    elif comes(executor, record) and record.known.target:
        state.arrive.epoch = status.epoch + 1
        state.arrive.limit_bytes, state.arrive.sessions = record.known.target.share.mem_bytes, sessions
    elif status.endpoint and not record.over:
        state.elsewhere.epoch, state.elsewhere.endpoint = status.epoch, status.endpoint
    return state


def _leave(state: remote_pb2.LeaseState, record: Record, coming: Executor, heard: Heard) -> None:
    """Once the other side takes the sessions, and they are still to go."""
    epoch, wanted = record.status.epoch + 1, record.known.target and record.attach == record.status.attached
    if wanted and coming.endpoint and heard.ticket and heard.about == epoch:
        state.leave.epoch, state.leave.ticket, state.leave.endpoint = epoch, heard.ticket, coming.endpoint
