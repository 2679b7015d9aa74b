"""One simulated host's child process: the real node agent and the real device plugin, over the host's folder.

Started by ``hosts`` with a JSON setup as its only argument. Lives until its standard input is closed, so it can never
outlive the process that started it, and is deaf to the terminal's signals. If that process was killed, the last child
removes the cluster's folder. ``LD_LIBRARY_PATH`` leads the real
``pynvml`` to the stub library, whose state file is the host's.
"""

import asyncio
import shutil
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from tessera.device_plugin.service import Service as DevicePlugin
from tessera.device_plugin.settings import DevicePluginSettings
from tessera.device_plugin.writer import NvidiaCdi
from tessera.kube.connection import connect
from tessera.kube.gateway import Gateway
from tessera.node_agent.service import Service as NodeAgent
from tessera.node_agent.settings import Enforcement, NodeAgentSettings
from tessera.settings import KubeSettings, LogSettings
from tessera.simulator.fakes.processes import FakeProcesses
from tessera.telemetry import configure_logging


class Setup(msgspec.Struct, frozen=True):
    """What the child needs to know. Paths are absolute."""

    node: str
    folder: str
    processes: str
    server: str
    token_file: str


async def serve(setup: Setup) -> bool:
    """Runs both services until standard input ends; whether that came with a farewell. Raises what ends a service."""
    settings: dict[str, Any] = {"server": setup.server, "token_file": setup.token_file}
    kube = connect(KubeSettings(**settings))
    async with Gateway(kube) as gateway:
        agent = NodeAgent(agent_settings(setup), processes=FakeProcesses(Path(setup.processes)), gateway=gateway)
        await agent.start()
        plugin = DevicePlugin(plugin_settings(setup), kube)
        await plugin.start()
        try:
            return await _until_closed([agent.wait(), plugin.wait()])
        finally:
            await plugin.stop()
            await agent.stop()


def agent_settings(setup: Setup) -> NodeAgentSettings:
    """The agent's, under the host's folder; MPS needs NVIDIA's own program and is left out."""
    folder = Path(setup.folder)
    values: dict[str, Any] = {
        "node": setup.node,
        "agent_socket": folder / "agent.sock",
        "state_dir": folder / "agent",
        "proc_root": setup.processes,
        "enforcement": Enforcement.WATCH,
        "mps_control": "",
    }
    return NodeAgentSettings(**values)


def plugin_settings(setup: Setup) -> DevicePluginSettings:
    """The device plugin's, under the host's folder."""
    folder = Path(setup.folder)
    (folder / "cdi").mkdir(exist_ok=True)
    return DevicePluginSettings(
        node=setup.node,
        kubelet_dir=folder / "kubelet",
        cdi_dir=folder / "cdi",
        nvidia_cdi_dirs=(),
        agent_socket=folder / "agent.sock",
        state_dir=folder / "plugin",
        proc_dir=Path(setup.processes),
        require_nvidia_cdi=NvidiaCdi.FALSE,
    )


async def _until_closed(waits: list[Coroutine[Any, Any, None]]) -> bool:
    closed = asyncio.create_task(_farewell())
    failed = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait([closed, *failed], return_when=asyncio.FIRST_COMPLETED)
    for task in failed:
        if task.done():
            task.result()
        task.cancel()
    return await closed


async def _farewell() -> bool:
    """Waits for the end of standard input. A parent that stops a host says a word first; one that was killed cannot."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return bool(await reader.read())


def main() -> int:
    """Reads the setup and serves."""
    setup = msgspec.json.decode(sys.argv[1], type=Setup)
    configure_logging(LogSettings(), node=setup.node)
    if not asyncio.run(serve(setup)):
        _tidy(Path(setup.folder))
    return 0


def _tidy(folder: Path) -> None:
    """Nobody is left to do it: removes the host's folder, and the whole cluster's after the last host."""
    shutil.rmtree(folder, ignore_errors=True)
    if not any(folder.parent.glob("*/agent")):
        shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
