"""The real scheduler service in a process of its own, for embedded clusters whose size would disturb its answers.

The child says in one line of JSON where it listens, serves until its standard input is closed, so it cannot outlive
the process that started it, and is deaf to the terminal's signals. If that process was killed, the child removes the
cluster's folder.
"""

import asyncio
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import uvloop

from tessera.scheduler.main import fill
from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.simulator.children import end, last_words
from tessera.telemetry import configure_logging

STOP_S = 10.0


class SchedulerError(Exception):
    """The scheduler's process ended or did not start; the text holds the last lines that it said."""


class Listening(msgspec.Struct, frozen=True):
    """Where the service answers."""

    extender: str
    webhook: str


class SchedulerProcess:
    """Starts and ends the child; ``url`` and ``webhook_url`` are known after ``start``."""

    def __init__(self, settings: SchedulerSettings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._log = folder / "scheduler.log"
        self._child: asyncio.subprocess.Process | None = None
        self.url = self.webhook_url = ""

    @property
    def pid(self) -> int:
        assert self._child is not None, "the scheduler was not started"
        return self._child.pid

    async def start(self) -> None:
        """Returns when both servers listen; leaves no child behind if it does not. Raises ``SchedulerError``."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        with self._log.open("wb") as log:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tessera.simulator.scheduler_process",
                self._settings.model_dump_json(),
                str(self._folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._child.stdout is not None
        line = await self._child.stdout.readline()
        if not line:
            raise SchedulerError(f"the scheduler did not start\n{last_words(self._log)}")
        found = msgspec.json.decode(line, type=Listening)
        self.url, self.webhook_url = found.extender, found.webhook

    async def wait_ready(self) -> None:
        """Until it leads and has read the cluster: it says so in a second line."""
        assert self._child is not None and self._child.stdout is not None
        if not await self._child.stdout.readline():
            raise SchedulerError(f"the scheduler ended before it was ready\n{last_words(self._log)}")

    async def failed(self) -> None:
        """Returns only by raising what ended the child."""
        assert self._child is not None
        code = await self._child.wait()
        raise SchedulerError(f"the scheduler ended with status {code}\n{last_words(self._log)}")

    async def stop(self) -> None:
        """As ``children.end``."""
        if self._child is not None:
            await end(self._child, STOP_S)


async def serve(settings: SchedulerSettings) -> bool:
    """Runs the service until standard input ends; whether that came with a farewell."""
    service = Service(settings)
    await service.start()
    try:
        _say(msgspec.json.encode(Listening(service.url, service.webhook_url)))
        closed = asyncio.create_task(_farewell())
        failed = asyncio.create_task(service.failed())
        filling = asyncio.create_task(fill(service))
        ready = asyncio.create_task(_tell_ready(service))
        await asyncio.wait([closed, failed], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        filling.cancel()
        if failed.done():
            failed.result()
        failed.cancel()
        return await closed
    finally:
        await service.stop()


async def _tell_ready(service: Service) -> None:
    await service.wait_ready()
    _say(b"ready")


def _say(line: bytes) -> None:
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line + b"\n")


async def _farewell() -> bool:
    """Waits for the end of standard input. A parent that stops the child says a word first; a killed one cannot."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return bool(await reader.read())


def main() -> int:
    """Reads settings and folder from the command line, and serves."""
    settings = SchedulerSettings.model_validate_json(sys.argv[1])
    configure_logging(settings, component="scheduler")
    if not uvloop.run(serve(settings)):
        shutil.rmtree(sys.argv[2], ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
