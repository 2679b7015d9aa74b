"""The plugin as a process of its own: ``kill -9``, SIGTERM, and settings that are wrong."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tessera.model.assignment import Share
from tests.integration.device_plugin.host import GIB, NODE, Host, eventually

CODE = "import sys; from tessera.device_plugin.main import run; sys.exit(run(sys.argv[1:]))"
SHARE = Share("GPU-0", 4 * GIB)


@asynccontextmanager
async def spawn(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The plugin's process, killed at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CODE,
        *arguments,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("TESSERA_")}, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def options(host: Host) -> list[str]:
    given: dict[str, Any] = {
        "node": NODE,
        "server": host.api.url,
        "kubelet-dir": host.dir / "kubelet",
        "cdi-dir": host.cdi,
        "nvidia-cdi-dirs": f"{host.nvidia},{host.cdi}",
        "agent-socket": host.dir / "agent.sock",
        "state-dir": host.dir / "state",
        "reclaim-every-s": 0.5,
    }
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


async def test_kill_9_between_allocate_and_prestart_and_an_orderly_end() -> None:
    async with Host() as host:
        await host.stop_plugin()
        host.agent.refuse = (grpc.StatusCode.UNAVAILABLE, "not yet")
        async with spawn(*options(host)) as first:
            await eventually(lambda: host.kubelet.table.healthy.get("tessera.io/slice"), "registered")
            await host.place("web", {"main": SHARE})
            await eventually(lambda: "not yet" in host.waiting("web"), "PreStart was asked")
            os.kill(first.pid, signal.SIGKILL)
            await first.wait()
        given = next((host.dir / "state" / "slices").glob("*.json")).stem
        host.agent.refuse = None
        async with spawn(*options(host)) as second:
            await host.running("web")
            assert host.container("web").env["TESSERA_SLICE"] == given
            second.terminate()
            _, errors = await asyncio.wait_for(second.communicate(), 20)
            assert second.returncode == 0, errors.decode()
        await host.plugin.start()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], b"--node: found none"),
        (["--node", "a", "--cdi-dirr", "/x"], b"found '--cdi-dirr'; allowed: --cdi-dir"),
        (["--node", "a", "--cdi", "/x"], b"found '--cdi'; allowed: --cdi-dir"),
        (["--node", "a", "--kubeconfig", "/missing"], b"kubeconfig /missing"),
        (["--node", "a", "--log-level", "loud"], b"--log-level: found 'loud'; allowed: 'debug'"),
        (["--node", "a", "--prestart-deadline-s", "99"], b"--prestart-deadline-s"),
        (["--node", "a", "--require-nvidia-cdi", "perhaps"], b"--require-nvidia-cdi"),
    ],
)
async def test_a_wrong_setting_is_one_sentence_and_status_2(arguments: list[str], says: bytes) -> None:
    async with spawn(*arguments) as process:
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert says in errors and errors.count(b"\n") == 1
