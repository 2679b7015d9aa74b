"""Looks at the GPUs and at the processes on them, in the one thread that may use NVML."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from tessera.node_agent.nvml import GpuProcess, Nvml, NvmlError, Reading, Xid
from tessera.node_agent.processes import Process, Processes

T = TypeVar("T")

REOPEN_S = 5.0
"""Between two attempts to find a GPU again that has left; error events in between may be missed, so not too often."""
ANSWER_S = 2.0
"""How long a look at the processes may take; a driver that hangs is one that tells nothing."""
_MAX_XIDS = 64
_TIMEOUT = 10
"""NVML_ERROR_TIMEOUT."""


@dataclass(frozen=True, slots=True)
class Look:
    """What NVML said of the GPUs: a reading, or the error of NVML as a whole; and the new error events.

    ``deaf``: GPUs that answered and whose error events cannot be had.
    """

    reading: Reading | None
    error: NvmlError | None
    xids: tuple[Xid, ...] = ()
    deaf: Mapping[str, NvmlError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The GPU processes of one moment, whose they are, and the GPUs that could not be asked.

    ``began``: in ticks; a process that started since then may have the id of the one that the driver meant.
    """

    found: tuple[GpuProcess, ...]
    processes: dict[int, Process]
    failures: dict[str, NvmlError]
    began: int = 1 << 62


class Probe:
    """``close`` ends the thread."""

    def __init__(
        self,
        nvml: Nvml,
        processes: Processes,
        clock: Callable[[], float] = time.monotonic,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._nvml, self._processes, self._clock, self._answer_s = nvml, processes, clock, answer_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nvml")
        self._reopen_at: float | None = None

    async def look(self, known: Iterable[str]) -> Look:
        """All GPUs now. One of ``known`` that is missing makes NVML look for it anew, now and then."""
        return await self._in_thread(lambda: self._look(frozenset(known)))

    async def driver_version(self) -> str:
        """Such as ``580.159.04``; empty while NVML cannot be read."""
        return await self._in_thread(self._driver_version)

    async def snapshot(self, uuids: Iterable[str]) -> Snapshot:
        """The processes on these GPUs now."""
        asked, began = tuple(uuids), self._processes.ticks()
        begun = self._thread.submit(self._snapshot, asked)
        look = asyncio.wrap_future(begun)
        await asyncio.wait((look,), timeout=self._answer_s)
        if look.done():
            return look.result()
        begun.cancel()  # at once: one that has not begun behind a call that hangs is not made later
        look.cancel()
        error = NvmlError("NVML", _TIMEOUT, f"no answer for {self._answer_s:g} s")
        return Snapshot((), {}, dict.fromkeys(asked, error), began)

    async def utilizations(self, uuids: Iterable[str]) -> dict[str, int]:
        """Percent busy, of the GPUs that tell."""
        asked = tuple(uuids)
        return await self._in_thread(lambda: self._utilizations(asked))

    async def close(self) -> None:
        await self._in_thread(self._nvml.close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _look(self, known: frozenset[str]) -> Look:
        try:
            if self._reopen_at is not None and self._clock() >= self._reopen_at:
                self._nvml.close()
                self._reopen_at = None
            self._nvml.open()
            reading = self._nvml.read()
        except NvmlError as error:
            self._reopen_at = self._clock()
            return Look(None, error)
        complete = not reading.failures and known <= {device.uuid for device in reading.devices}
        if complete:
            self._reopen_at = None
        elif self._reopen_at is None:
            self._reopen_at = self._clock() + REOPEN_S
        return Look(reading, None, *self._events({device.physical for device in reading.devices}))

    def _driver_version(self) -> str:
        try:
            self._nvml.open()
            return self._nvml.driver_version()
        except NvmlError:
            return ""

    def _events(self, uuids: set[str]) -> tuple[tuple[Xid, ...], dict[str, NvmlError]]:
        """New error events, and the GPUs of ``uuids`` of which there may be more; they are asked again."""
        found: list[Xid] = []
        try:
            deaf = self._nvml.subscribe()
            while len(found) < _MAX_XIDS and (event := self._nvml.next_xid()):
                found.append(event)
        except NvmlError as error:
            deaf = dict.fromkeys(uuids, error)
        return tuple(found), deaf

    def _snapshot(self, uuids: tuple[str, ...]) -> Snapshot:
        began = self._processes.ticks()
        found: list[GpuProcess] = []
        failures: dict[str, NvmlError] = {}
        for uuid in uuids:
            try:
                found += self._nvml.processes(uuid)
            except NvmlError as error:
                failures[uuid] = error
        looked = {pid: self._processes.look(pid) for pid in {one.pid for one in found}}
        return Snapshot(tuple(found), {pid: p for pid, p in looked.items() if p}, failures, began)

    def _utilizations(self, uuids: tuple[str, ...]) -> dict[str, int]:
        known = {}
        for uuid in uuids:
            try:
                known[uuid] = self._nvml.utilization(uuid)
            except NvmlError:
                continue
        return known
