"""Capacity never falls under pods that run: the kubelet would end them when it restarts."""

from tessera.model.assignment import Share
from tests.integration.device_plugin.host import GIB, Host, eventually, gpus


async def test_a_gpu_that_is_pulled_out_takes_no_running_pod_with_it() -> None:
    async with Host(gpus(2)) as host:
        await host.place("a", {"main": Share("GPU-0", 30 * GIB)})
        await host.place("b", {"main": Share("GPU-1", 30 * GIB)})
        await host.running("a", "b")
        host.agent.set_gpus(host.gpus[:1])
        await eventually(lambda: host.allocatable()["tessera.io/gpu-mem"] == str(60 * GIB), "held at what runs")
        await host.kubelet.restart()
        await eventually(lambda: len(host.kubelet.active()) == 2, "both are admitted again")
        assert host.phase("a") == host.phase("b") == "Running"
