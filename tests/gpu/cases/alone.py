"""Cases with one client at a time: what is there, what a slice grants, what it costs."""

import contextlib
import os
import platform
import time
from pathlib import Path

import pynvml

from tessera.node_agent.settings import CONTEXT_BYTES
from tests.gpu.bench import Bench, BenchError, MpsBench
from tests.gpu.report import Result

GIB = 1 << 30
MOST_CLIENTS = 64
PERCENTAGES = (5, 10, 20, 25, 30, 40, 50, 60, 70, 75, 90)
CAPS_GIB = (2, 8, 32, 64)
STEP_MIB = "128"
"""What a context is charged with is a multiple of it, as each cap is: what is left can be filled to the last byte."""
WAYS = ("plain", "managed", "ordered", "pitched", "physical", "array", "of_graph")


def what_is_there(bench: Bench, result: Result) -> None:
    """T0."""
    cgroup = Path("/sys/fs/cgroup/cgroup.controllers")
    controllers = cgroup.read_text().split() if cgroup.is_file() else []
    result.record("GPU", f"{bench.name}, {pynvml.nvmlDeviceGetMemoryInfo(bench.handle).total >> 20} MiB")
    result.record("driver, CUDA", f"{bench.driver}, {pynvml.nvmlSystemGetCudaDriverVersion()}")
    result.record("kernel", platform.release().partition("-")[0])
    modes = ("Default", "ExclusiveThread", "Prohibited", "ExclusiveProcess")
    result.record("compute mode", modes[pynvml.nvmlDeviceGetComputeMode(bench.handle)])
    result.record("cgroup v2, dmem", f"{bool(controllers)}, {'dmem' in controllers}")
    result.record("who runs it", f"uid {os.geteuid()}")
    _mps_client(bench, result)


def _mps_client(bench: Bench, result: Result) -> None:
    """Whether MPS works in this compute mode, and whether NVML tells a client's own memory."""
    size = 2048
    with bench.mps() as mps:
        status = mps.wait(mps.control.status(mps.server))
        result.hold("MPS server with a client", status, "ACTIVE", status == "ACTIVE")
        with bench.program("torch_client", "hold", str(size), "6", env=mps.environment()) as client:
            client.line()
            used = bench.processes().get(client.process.pid)
            clients = mps.wait(mps.control.clients(mps.server))
            result.record("clients that the server names", f"{len(clients)}, of {client.process.pid}: {clients}")
            told = used is not None and used >= size << 20
            figure = "not at all" if used is None else f"{used >> 20} MiB"
            result.hold(f"NVML of an MPS client with {size} MiB of its own", figure, f">= {size} MiB, own pid", told)


def sm_grant(bench: Bench, result: Result) -> None:
    """T1."""
    whole = bench.run("driver_client", "info")["sms"]
    worst = 0
    granted = {}
    with bench.mps() as mps:
        for percent in PERCENTAGES:
            sms = bench.run("driver_client", "info", env=mps.environment(percent))["sms"]
            granted[percent] = sms
            worst = max(worst, abs(sms - whole * percent / 100))
    result.raw["granted"] = granted
    result.record(f"multiprocessors of {whole}", ", ".join(f"{p} %: {sms}" for p, sms in granted.items()))
    result.hold("granted - asked, worst", f"{worst:.1f}", "<= 2", worst <= 2)


def scaling(bench: Bench, result: Result) -> None:
    """T2."""
    seconds = bench.seconds(1.5)
    rows = {100: bench.run("torch_client", "alone", seconds)}
    with bench.mps() as mps:
        for percent in PERCENTAGES:
            rows[percent] = bench.run("torch_client", "alone", seconds, env=mps.environment(percent))
    result.raw["rows"] = rows
    full = rows[100]
    shares = {p: row["tflops"] / full["tflops"] - row["sms"] / full["sms"] for p, row in rows.items()}
    result.record("matrix product alone", f"{full['tflops']:.0f} TFLOP/s; copy {full['gbytes_s']:.0f} GB/s")
    gemm = ", ".join(f"{p} %: {100 * rows[p]['tflops'] / full['tflops']:.0f} %" for p in PERCENTAGES)
    copy = ", ".join(f"{p} %: {100 * rows[p]['gbytes_s'] / full['gbytes_s']:.0f} %" for p in PERCENTAGES)
    result.record("product's share of its rate alone", gemm)
    result.record("copy's share of its rate alone", copy)
    worst = max(shares.values(), key=abs)
    result.hold("product's share - multiprocessors' share, worst", f"{100 * worst:+.1f} points", "within 5 points",
                abs(worst) <= 0.05)  # fmt: skip


def usable(bench: Bench, result: Result) -> None:
    """T4: what a program's context is charged with is part of the cap, and what it leaves is all there."""
    free = pynvml.nvmlDeviceGetMemoryInfo(bench.handle).free
    worst, over = 1.0, 0
    most: dict[int, float] = {}
    with bench.agent("usable", "--shim", str(bench.shim)) as agent:
        for cap in CAPS_GIB:
            if (cap + 2) * GIB > free:
                continue
            for way in WAYS:
                if way == "managed" and cap > CAPS_GIB[0]:
                    continue  # what managed memory may oversubscribe is host memory
                lease = ("--gpu-mem", f"{cap}Gi")
                found = bench.run(
                    "driver_client", "fill", way, STEP_MIB, str(2 * cap << 10), lease=lease, socket=agent.socket
                )
                left = cap * GIB - CONTEXT_BYTES
                result.raw[f"{cap}Gi {way}"] = found
                over = max(over, found["taken"] - left)
                most[cap] = min(most.get(cap, 1.0), found["taken"] / cap / GIB)
                if cap >= 8:
                    worst = min(worst, found["taken"] / left)
        small = [f"{way} {result.raw[f'2Gi {way}']['taken'] / (2 * GIB - CONTEXT_BYTES):.3f}" for way in WAYS]
    beside = f"beside the {CONTEXT_BYTES >> 20} MiB of a context"
    result.record("usable / cap, worst of all ways", ", ".join(f"{cap}Gi {share:.3f}" for cap, share in most.items()))
    result.record(f"2Gi: usable / what is left {beside}", ", ".join(small))
    result.hold(f"usable / what is left {beside}, from 8Gi up, worst of all ways", f"{worst:.3f}", ">= 0.97",
                worst >= 0.97)  # fmt: skip
    result.hold("overshoot, worst of all caps and ways", f"{over} bytes", "0", over == 0)


def costs(bench: Bench, result: Result) -> None:
    """T10: in turns, medians."""
    found: dict[str, list[dict[str, float]]] = {"native": [], "shim": [], "MPS": []}
    with bench.agent("costs", "--shim", str(bench.shim)) as agent, bench.mps() as mps:
        for _ in range(max(round(3 * bench.scale), 2)):
            found["native"].append(bench.run("torch_client", "costs"))
            found["shim"].append(bench.run("torch_client", "costs", lease=("--gpu-mem", "8Gi"), socket=agent.socket))
            found["MPS"].append(bench.run("torch_client", "costs", env=mps.environment()))
    result.raw["rounds"] = found
    kinds = ("launch", "allocation", "graph", "step")
    best = {how: {kind: min(row[kind] for row in rows) for kind in kinds} for how, rows in found.items()}
    for kind in kinds:
        row = ", ".join(f"{how} {best[how][kind]:.2f} us" for how in best)
        spread = max(r[kind] for r in found["native"]) / best["native"][kind] - 1
        change = best["shim"][kind] / best["native"][kind] - 1
        if kind in ("launch", "step"):
            result.hold(f"{kind} (spread of native {100 * spread:.1f} %): {row}", f"{100 * change:+.2f} %", "<= +1 %",
                        change <= 0.01)  # fmt: skip
        else:
            result.record(f"{kind} (spread of native {100 * spread:.1f} %): {row}", f"{100 * change:+.2f} %")


def told(bench: Bench, result: Result) -> None:
    """T11."""
    size = 4096
    with bench.agent("told", "--shim", str(bench.shim), "--accounting-every-s", "1", "--pace-every-s", "1") as agent:
        began, cpu = time.monotonic(), agent.cpu_s()
        with bench.program(
            "torch_client", "hold", str(size), "30", lease=("--gpu-mem", "8Gi"), socket=agent.socket
        ) as client:
            own = client.line()
            time.sleep(float(bench.seconds(8)))
            used = sum(bench.processes().values())
        spent = (agent.cpu_s() - cpu) / (time.monotonic() - began)
    bare = _context_bytes(bench)
    error = abs(used - bare - own["reserved"])
    result.hold("bytes of a context without memory of its own, against what it is charged with", f"{bare >> 20} MiB",
                f"<= {CONTEXT_BYTES >> 20} MiB", bare <= CONTEXT_BYTES)  # fmt: skip
    result.hold(
        f"NVML less the context, against {own['reserved'] >> 20} MiB of PyTorch's own figure", f"{error >> 20} MiB off",
        "<= 2 % or 64 MiB", error <= max(0.02 * own["reserved"], 64 << 20),
    )  # fmt: skip
    result.hold("agent's processor time at 1 Hz", f"{100 * spent:.2f} % of a core", "< 1 %", spent < 0.01)


def _context_bytes(bench: Bench) -> int:
    with bench.program("torch_client", "hold", "1", "30") as client:
        own = client.line()
        return sum(bench.processes().values()) - int(own["reserved"])


def clients(bench: Bench, result: Result) -> None:
    """T12: how many contexts the driver itself takes; that the agent refuses before is a test of the agent."""
    count = 0
    with bench.mps() as mps, contextlib.ExitStack() as held:
        while count < MOST_CLIENTS and not (refusal := _refusal(bench, mps, held)):
            count += 1
    result.raw["refusal"] = refusal
    result.record("MPS clients before the driver refuses", f"{count}{'' if refusal else ' and more'}")
    result.record("how it refuses", refusal or f"not up to {MOST_CLIENTS}")


def _refusal(bench: Bench, mps: MpsBench, held: contextlib.ExitStack) -> str:
    """One more client; empty: it was let in."""
    client = bench.program("driver_client", "fill", "plain", "1", "1", "60", env=mps.environment())
    try:
        line = held.enter_context(client).line()
    except BenchError as error:
        return str(error)
    return str(line) if line.get("error") or line.get("code") else ""
