"""What the scheduler's metrics say of slices on other nodes."""

from prometheus_client import generate_latest

from tessera.model.quantities import GIB
from tessera.scheduler.metrics import Metrics
from tests.unit.scheduler.clusters import bind_away, client, executor, node, place, pooled, remote


def test_a_slice_elsewhere_counts_once_by_whomever_it_is_held() -> None:
    cluster = pooled(client("c"), node("g", 24))
    metrics = Metrics(cluster)

    def said() -> tuple[float, float, float]:
        lines = generate_latest(metrics.registry).decode().splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        memory = {state: float(values[f'tessera_gpu_memory_bytes{{state="{state}"}}']) / GIB
                  for state in ("allocatable", "allocated")}  # fmt: skip
        return memory["allocatable"], memory["allocated"], float(values["tessera_gpus"])

    [lease] = bind_away(cluster, remote("p", "gpu-mem=4Gi"), ["c", "g"])
    assert said() == (24, 4, 1), "by the lease"
    place(cluster, executor(lease), ["c", "g"])
    assert said() == (24, 4, 1), "by the executor"
    cluster.forget_pod(executor(lease).uid)
    assert said() == (24, 4, 1), "by the lease again"
    cluster.leases.forget(lease)
    assert said() == (24, 0, 1)
