"""What a leader writes on its lease.

For the next leader how many pods leave for each that arrives: the mix of pods is learnt anew from those that run; who
has left is in no object that a new leader could read. For users, who make plans by themselves, how it decides.
"""

from collections.abc import Mapping

import msgspec
import structlog

from tessera.model.domains import rule_of
from tessera.model.gpus import LEVEL_DRIVER
from tessera.model.hosts import HostNeed
from tessera.scheduler.options import Options, PoolOptions
from tessera.scheduler.policy import POLICIES
from tessera.scheduler.policy.workload import Workload

log = structlog.get_logger(__name__)

LEAVING = "state.tessera.io/leaving"
SETTINGS = "state.tessera.io/settings"


class _Pool(msgspec.Struct, frozen=True, rename="camel"):
    namespace: str
    account: str
    cpu_milli: int = 0
    memory_bytes: int = 0


class _Settings(msgspec.Struct, frozen=True, rename="camel"):
    """The annotation ``SETTINGS``, in the words of the chart."""

    placement: str
    enforcement: int
    trust_domain: str
    context_bytes: int = 0
    pool: _Pool | None = None


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


def settings_note(options: Options) -> dict[str, str]:
    """As annotations: what a plan has to know to place pods as the scheduler does."""
    told = _Settings(options.placement, options.level, options.trust_domain, options.context_bytes, _told(options.pool))
    return {SETTINGS: msgspec.json.encode(told).decode()}


def options_in(annotations: Mapping[str, str]) -> Options | None:
    """The options that a leader wrote; ``None`` where none did, or in a form that is not understood."""
    written = annotations.get(SETTINGS)
    if written is None:
        return None
    try:
        told = msgspec.json.decode(written, type=_Settings)
        rule_of(told.trust_domain)
    except (msgspec.DecodeError, ValueError):
        return None
    if told.placement not in POLICIES or not 0 <= told.enforcement <= LEVEL_DRIVER:
        return None
    return Options(
        told.placement,
        told.enforcement,
        trust_domain=told.trust_domain,
        context_bytes=told.context_bytes,
        pool=_pool(told.pool),
    )


def _told(pool: PoolOptions | None) -> _Pool | None:
    if pool is None:
        return None
    return _Pool(pool.namespace, pool.account, pool.executor.cpu_milli, pool.executor.memory_bytes)


def _pool(told: _Pool | None) -> PoolOptions | None:
    if told is None:
        return None
    return PoolOptions(told.namespace, told.account, HostNeed(told.cpu_milli, told.memory_bytes))
