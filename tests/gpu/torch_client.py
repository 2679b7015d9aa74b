"""Workloads in PyTorch: ``torch_client.py COMMAND ARGUMENTS``. Prints JSON lines; stands alone."""

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch

BF16 = torch.bfloat16


def say(**values: object) -> None:
    """One line, in one piece: others may write to the same pipe."""
    sys.stdout.write(f"{json.dumps(values)}\n")
    sys.stdout.flush()


def _rate(work: Callable[[], object], seconds: float, batch: int) -> tuple[int, float]:
    """How often ``work`` was done, and in how many seconds."""
    work()
    torch.cuda.synchronize()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(batch):
            work()
        torch.cuda.synchronize()
        done += batch
    return done, time.perf_counter() - began


def alone(seconds: str) -> None:
    """A product of matrices and a copy in memory, one after the other."""
    a = torch.randn(8192, 8192, device="cuda", dtype=BF16)
    out = torch.empty_like(a)
    done, took = _rate(lambda: torch.matmul(a, a, out=out), float(seconds), 4)
    source = torch.randint(0, 255, (1 << 30,), device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    copied, copy_took = _rate(lambda: target.copy_(source), float(seconds), 4)
    say(
        sms=torch.cuda.get_device_properties(0).multi_processor_count,
        tflops=2 * 8192**3 * done / took / 1e12,
        gbytes_s=2 * (1 << 30) * copied / copy_took / 1e9,
    )


def matmul(seconds: str, size: str = "4096") -> None:
    """Products of matrices; a line each second with how many a second."""
    a = torch.randn(int(size), int(size), device="cuda", dtype=BF16)
    out = torch.empty_like(a)
    torch.matmul(a, a, out=out)
    torch.cuda.synchronize()
    say(ready=True)
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        done, took = _rate(lambda: torch.matmul(a, a, out=out), 1.0, 8)
        say(at=time.time(), rate=done / took)


def copies(seconds: str) -> None:
    """Keeps the memory busy."""
    source = torch.randint(0, 255, (1 << 30,), device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    say(ready=True)
    done, took = _rate(lambda: target.copy_(source), float(seconds), 4)
    say(rate=done / took)


def service(seconds: str, every_ms: str = "5") -> None:
    """Answers a request of 24 layers on 16 tokens every so often; how long each took, in milliseconds."""
    layers = [torch.nn.Linear(2048, 2048, device="cuda", dtype=BF16) for _ in range(24)]
    asked = torch.randn(16, 2048, device="cuda", dtype=BF16)

    @torch.no_grad()
    def answer() -> None:
        x = asked
        for layer in layers:
            x = torch.relu(layer(x))
        torch.cuda.synchronize()

    for _ in range(20):
        answer()
    say(ready=True)
    took, end = [], time.monotonic() + float(seconds)
    while time.monotonic() < end:
        began = time.perf_counter()
        answer()
        took.append(1e3 * (time.perf_counter() - began))
        time.sleep(max(float(every_ms) / 1e3 - (time.perf_counter() - began), 0))
    cuts = statistics.quantiles(took, n=100)
    say(requests=len(took), p50=cuts[49], p99=cuts[98])


def training(seconds: str) -> None:
    """Steps of a small transformer; how many a second."""
    model = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(1024, 16, 4096, batch_first=True, device="cuda", dtype=BF16), 4
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = torch.randn(16, 512, 1024, device="cuda", dtype=BF16)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(batch).float().pow(2).mean().backward()
        optimizer.step()

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    say(ready=True)
    done, took = _rate(step, float(seconds), 2)
    say(rate=done / took)


def _median_us(work: Callable[[], object], count: int, rounds: int = 9) -> float:
    work()
    torch.cuda.synchronize()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count):
            work()
        torch.cuda.synchronize()
        found.append(1e6 * (time.perf_counter() - began) / count)
    return statistics.median(found)


def costs() -> None:
    """Microseconds of a launch, an allocation and its release, a graph, and a training step."""
    small = torch.ones(8, device="cuda")
    graph, held = torch.cuda.CUDAGraph(), torch.zeros(1024, device="cuda")
    with torch.cuda.graph(graph):
        for _ in range(20):
            held = held * 1.5 + 1
    model = torch.nn.TransformerEncoderLayer(1024, 16, 4096, batch_first=True, device="cuda", dtype=BF16)
    batch = torch.randn(8, 512, 1024, device="cuda", dtype=BF16)

    def allocation() -> None:
        torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
        torch.cuda.empty_cache()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(batch).float().pow(2).mean().backward()

    say(
        launch=_median_us(lambda: small.add_(1), 20_000),
        allocation=_median_us(allocation, 200),
        graph=_median_us(graph.replay, 2_000),
        step=_median_us(step, 40),
    )


def hold(mib: str, seconds: str) -> None:
    """So much memory; what PyTorch itself says that it has."""
    held = torch.empty(int(mib) << 20, dtype=torch.uint8, device="cuda")
    say(ready=True, reserved=torch.cuda.memory_reserved(), allocated=held.numel())
    time.sleep(float(seconds))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
