"""``python -m tests.gpu.main alone|together|remote``: runs cases on this machine's first GPU and adds to its report.

``docs/gpu-report/<gpu>-<driver>.md`` has every figure, what it should be, and the command. Without a GPU one line says
so. Exit status 1: a case could not be carried out, or missed its target.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import figures
from tests.gpu import report
from tests.gpu.bench import ROOT, Bench
from tests.gpu.cases import alone, remote, together

Case = Callable[[Bench, report.Result], None]
SCRIPTS: dict[str, dict[str, tuple[str, Case]]] = {
    "alone": {
        "T0": ("what is there", alone.what_is_there),
        "T1": ("multiprocessors granted under MPS", alone.sm_grant),
        "T2": ("rate at each percentage under MPS", alone.scaling),
        "T4": ("usable memory under the shim", alone.usable),
        "T10": ("what limits cost", alone.costs),
        "T11": ("what NVML tells, what the agent takes", alone.told),
        "T12": ("clients of one server", alone.clients),
    },
    "together": {
        "T3": ("two clients, 30/70", together.split),
        "T5": ("four processes of one container", together.container_sum),
        "T6": ("a service beside training", together.latency),
        "T7": ("a service beside copies", together.bandwidth),
        "T8": ("a client that faults", together.fault),
        "T9": ("busy clients that are stopped", together.stopped),
        "T13": ("ways around the shim", together.escapes),
    },
    "remote": {
        "R1": ("operators through the remote device", remote.operators),
        "R5": ("programs through the remote device", remote.rates),
        "R6": ("a session that moves", remote.moves),
    },
}


TITLES = {id_: title for cases in SCRIPTS.values() for id_, (title, _) in cases.items()}


def main(argv: list[str] | None = None) -> int:
    """Answers the exit status."""
    options = _options(argv)
    python = options.python or _python_with_torch()
    with tempfile.TemporaryDirectory(prefix="tessera-gpu-", ignore_cleanup_errors=True) as made:
        try:
            bench = Bench(Path(made), python, options.scale)
        except Exception as error:  # of pynvml, whose classes are made at run time
            print(f"test-gpu: nothing was tested: no GPU here ({error})")
            return 0
        results = []
        for id_ in options.cases or SCRIPTS[options.script]:
            results.append(_run(id_, bench, options))
            page = report.write(options.out, bench.name, bench.driver, results, list(TITLES))
    counts = report.counts(results)
    print(f"test-gpu {options.script}: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}; {page}")
    return int(counts[report.MISSED] + counts[report.FAILED] > 0)


def _run(id_: str, bench: Bench, options: argparse.Namespace) -> report.Result:
    script, case = next((script, cases[id_][1]) for script, cases in SCRIPTS.items() if id_ in cases)
    command = f"python -m tests.gpu.main {script} --cases {id_} --scale {options.scale:g}"
    result, began = report.Result(id_, TITLES[id_], command, options.commit or figures.commit()), time.monotonic()
    try:
        case(bench, result)
    except Exception as error:
        result.fail(f"{type(error).__name__}: {error}"[:400])
    result.took_s = round(time.monotonic() - began, 1)
    for one in result.findings:
        target = f" ({one.target})" if one.target else ""
        print(f"{id_:>4} {one.verdict:8} {one.what}: {one.figure}{target}", flush=True)
    print(f"{id_:>4} took {result.took_s} s", file=sys.stderr, flush=True)
    return result


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="test-gpu", description=__doc__)
    parser.add_argument("script", choices=SCRIPTS)
    parser.add_argument("--cases", nargs="*", choices=TITLES)
    parser.add_argument("--scale", type=float, default=1.0, help="of the times that cases take (default: 1)")
    parser.add_argument("--python", default="", help="a Python with PyTorch (default: this one, or python3)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gpu-report", help="folder of the report")
    parser.add_argument("--commit", default="", help="what is tested, where git cannot tell")
    return parser.parse_args(argv)


def _python_with_torch() -> str:
    for python in (sys.executable, "python3"):
        command = [python, "-c", "import torch"]
        try:
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return python
        except OSError:
            continue
    return sys.executable


if __name__ == "__main__":
    sys.exit(main())
