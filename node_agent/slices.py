"""The slices that this node has prepared: the wall behind the scheduler's arithmetic.

Each is a record in the state folder, written before its limits take effect and removed after they are gone, so that a
crash at any point leaves either no slice or one that is released later. ``slices/<id>/slice.json`` is what the
container reads; its folder is mounted, since a file replaced by rename would not be seen through a mount of the file.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from tessera.durable import Disk, LocalDisk, json_bytes, read_json, remove_durably, replace_durably, write_json
from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_NONE, Gpu
from tessera.model.quantities import format_bytes
from tessera.model.spans import level_over
from tessera.node_agent.enforcement.limits_files import LIMITS, PACE, limits_text, pace_page
from tessera.node_agent.enforcement.pacing import Turn, first_turns
from tessera.reasons import Code, Reason

log = structlog.get_logger()

VERSION = 1
_ID = re.compile(r"[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Slice:
    """What one container was given. ``id`` is the CDI device's name, never used before.

    ``domain`` is the trust domain that its pod was placed in; empty where none was told.
    """

    id: str
    pod_uid: str
    namespace: str
    pod: str
    container: str
    shares: tuple[Share, ...]
    min_level: int = 0
    qos: str = "guaranteed"
    core_limit_percent: int = 0
    domain: str = ""

    @property
    def whole(self) -> bool:
        """Whether it is of whole GPUs, which nobody else has."""
        return all(share.whole for share in self.shares)

    @property
    def holder(self) -> str:
        return f"{self.namespace}/{self.pod}, container {self.container}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a slice cannot be prepared. ``permanent``: no retry can mend it."""

    reason: Reason
    permanent: bool = True


def check(item: Slice, gpus: Mapping[str, Gpu], prepared: Iterable[Slice]) -> Refusal | None:
    """Why ``item`` may not be prepared beside what is ``prepared``, or ``None``.

    A slice of the same container under another id is about to be released and does not count against it.
    """
    malformed = _malformed(item)
    if malformed:
        return Refusal(Reason(Code.INVALID_ASSIGNMENT, f"slice {item.id!r}: {malformed}"))
    same = (item.pod_uid, item.container)
    others = [other for other in prepared if other.id != item.id and (other.pod_uid, other.container) != same]
    for share in item.shares:
        refusal = _unfit(item, share, gpus.get(share.uuid), [s for o in others for s in o.shares])
        if refusal:
            return refusal
    return _apart(item, gpus) or _beside_others(item, gpus, others)


def _malformed(item: Slice) -> str:
    if not _ID.fullmatch(item.id):
        return "found that id; allowed: lower case letters, digits, - and ."
    if not item.pod_uid or not item.container:
        return "found no pod UID or container; allowed: both"
    if not item.shares:
        return "found no shares; allowed: at least one"
    if len({share.uuid for share in item.shares}) != len(item.shares):
        return "found a GPU twice; allowed: each once"
    for share in item.shares:
        if share.mem_bytes <= 0 or not 0 <= share.core_percent <= 100:
            found = f"mem_bytes {share.mem_bytes}, core_percent {share.core_percent}"
            return f"found {found} on {share.uuid}; allowed: bytes above 0, percent 0 to 100"
    return ""


def _unfit(item: Slice, share: Share, gpu: Gpu | None, others: list[Share]) -> Refusal | None:
    if gpu is None:
        return Refusal(Reason(Code.GPU_GONE, f"GPU {share.uuid} is not on this node"))
    if not gpu.health.healthy:
        return Refusal(Reason(Code.UNHEALTHY, f"GPU {gpu.uuid} is unhealthy: {gpu.health.reason}"))
    if gpu.level < item.min_level and not share.whole:
        text = f"GPU {gpu.uuid} reaches enforcement level {gpu.level}; slice {item.id} needs at least {item.min_level}"
        # Below level 0 something is broken, and may be mended.
        return Refusal(Reason(Code.ENFORCEMENT_TOO_WEAK, text), permanent=gpu.level > LEVEL_NONE)
    if share.mem_bytes > gpu.mem_bytes:
        text = f"GPU {gpu.uuid} has {format_bytes(gpu.mem_bytes)} to give; slice {item.id} asks for"
        return Refusal(Reason(Code.TOO_LARGE, f"{text} {format_bytes(share.mem_bytes)}"))
    return _over_commit(share, gpu, [other for other in others if other.uuid == gpu.uuid])


def _apart(item: Slice, gpus: Mapping[str, Gpu]) -> Refusal | None:
    """Whether GPUs that are each strong enough would not hold the slice together."""
    shared = [gpus[share.uuid] for share in item.shares if not share.whole]
    if not shared or (level := level_over(shared)) >= item.min_level:
        return None
    text = f"slice {item.id} over {len(shared)} GPUs, which are of no one MPS group, is held at level {level}"
    return Refusal(Reason(Code.ENFORCEMENT_TOO_WEAK, f"{text}; needs {item.min_level}"))


def _over_commit(share: Share, gpu: Gpu, others: list[Share]) -> Refusal | None:
    """Room that is taken may be on its way to be released, so a retry can mend it."""
    memory, percent = sum(o.mem_bytes for o in others), sum(o.core_percent for o in others)
    if others and (share.whole or any(o.whole for o in others)):
        text = f"GPU {gpu.uuid} cannot be given whole and shared at once; {len(others)} slices lie on it"
    elif memory + share.mem_bytes > gpu.mem_bytes:
        free = f"{format_bytes(gpu.mem_bytes - memory)} of {format_bytes(gpu.mem_bytes)} free"
        text = f"GPU {gpu.uuid} has {free}; asked for {format_bytes(share.mem_bytes)}"
    elif percent + share.core_percent > 100:
        text = f"GPU {gpu.uuid} has {100 - percent} percent of its compute free; asked for {share.core_percent}"
    else:
        return None
    return Refusal(Reason(Code.OVER_COMMITTED, text), permanent=False)


def _beside_others(item: Slice, gpus: Mapping[str, Gpu], others: list[Slice]) -> Refusal | None:
    """Whether another trust domain has slices on these GPUs or on their MPS groups, as far as domains were told.

    It may be on its way to be released, so a retry can mend it. Whole GPUs are no clients of a daemon.
    """
    if not item.domain:
        return None
    mine = _groups(item, gpus)
    for other in others:
        if other.domain not in ("", item.domain) and mine & _groups(other, gpus):
            text = f"slice {item.id} would share a GPU or its MPS group with {other.holder}, of another trust domain"
            return Refusal(Reason(Code.OTHER_DOMAIN, text), permanent=False)
    return None


def _groups(item: Slice, gpus: Mapping[str, Gpu]) -> set[str]:
    shared = (share.uuid for share in item.shares if not share.whole)
    return {(gpus[uuid].mps_group if uuid in gpus else "") or uuid for uuid in shared}


class SliceStore:
    """The records, in memory and on disk. A broken record is kept aside and reported, never taken for a slice.

    ``context_bytes``: what the shim charges for a context.
    """

    def __init__(self, state_dir: Path, disk: Disk | None = None, context_bytes: int = 0) -> None:
        self._disk, self._context_bytes = disk or LocalDisk(), context_bytes
        self._records, self._limits = state_dir / "prepared", state_dir / "slices"
        for folder in (state_dir, self._records, self._limits):
            folder.mkdir(parents=True, exist_ok=True)
        self._slices = {item.id: item for item in self._load()}
        self._sweep()

    def __iter__(self) -> Iterator[Slice]:
        return iter(tuple(self._slices.values()))

    def get(self, slice_id: str) -> Slice | None:
        return self._slices.get(slice_id)

    def folder(self, slice_id: str) -> Path:
        """The folder that the container sees as /run/tessera."""
        return self._limits / slice_id

    def put(self, item: Slice) -> None:
        """Records a slice and writes its limits. Raises ``OSError``."""
        write_json(self._disk, self._records / f"{item.id}.json", {"version": VERSION, **_fields(item)})
        self._slices[item.id] = item
        self._write_limits(item)

    def drop(self, slice_id: str) -> None:
        """Forgets a slice; an unknown one is no error."""
        if slice_id not in self._slices:
            return
        shutil.rmtree(self._limits / slice_id, ignore_errors=True)
        remove_durably(self._disk, self._records / f"{slice_id}.json")
        del self._slices[slice_id]

    def altered(self, item: Slice) -> tuple[str, ...]:
        """Names of the files of a slice that are not as they were written. The page is not asked: it changes."""
        return tuple(name for name, content in _texts(item).items() if not _holds(self.folder(item.id) / name, content))

    def write_again(self, item: Slice) -> None:
        """Puts the limits of a recorded slice back. Raises ``OSError``."""
        self._write_limits(item)

    def _write_limits(self, item: Slice) -> None:
        folder = self._limits / item.id
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
        for name, content in _texts(item).items():
            replace_durably(self._disk, folder / name, content, mode=0o444)
        if not (folder / PACE).is_file():
            # Written in place later: the programs of a container that runs have it mapped.
            replace_durably(self._disk, folder / PACE, pace_page(_first_turns(item), self._context_bytes), mode=0o444)
        self._disk.sync_folder(self._limits)

    def _load(self) -> Iterator[Slice]:
        for path in self._records.glob(".*.tmp"):
            self._disk.unlink(path)
        for path in sorted(self._records.glob("*.json")):
            item = _decode(read_json(path))
            if item is not None and path.stem == item.id:
                yield item
                continue
            log.error("a slice's record cannot be read; it is set aside", path=str(path))
            path.rename(path.with_suffix(".broken"))

    def _sweep(self) -> None:
        """Limits without a record are left over from a crash; a record without limits gets them again."""
        for folder in self._limits.iterdir():
            if folder.name not in self._slices:
                shutil.rmtree(folder, ignore_errors=True)
        for item in self._slices.values():
            for path in (self._limits / item.id).glob(".*.tmp"):
                self._disk.unlink(path)
            self._write_limits(item)


def _texts(item: Slice) -> dict[str, bytes]:
    """What a container reads of its slice, by the files' names."""
    gpus = [{"uuid": s.uuid, "mem_bytes": s.mem_bytes, "core_percent": s.core_percent} for s in item.shares]
    return {"slice.json": json_bytes({"version": VERSION, "gpus": gpus}), LIMITS: limits_text(item.shares)}


def _holds(path: Path, content: bytes) -> bool:
    """Whether it is a file with that content. A link is none, and nothing is waited for that is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, len(content) + 1, 0) == content
    except OSError:
        return False
    finally:
        os.close(fd)


def _fields(item: Slice) -> dict[str, Any]:
    """Without a domain where there is none: an agent from before there were any reads the record too."""
    return {key: value for key, value in asdict(item).items() if key != "domain" or value}


def _first_turns(item: Slice) -> dict[int, Turn]:
    return first_turns(0 if share.whole else share.core_percent for share in item.shares)


def _decode(data: Any) -> Slice | None:
    if not isinstance(data, dict) or data.get("version") != VERSION:
        return None
    try:
        shares = tuple(Share(**share) for share in data["shares"])
        return Slice(**{**{k: v for k, v in data.items() if k != "version"}, "shares": shares})
    except (KeyError, TypeError):
        return None
