"""The demo's tables, drawn to text."""

import io

from rich.console import Console

from tessera.model.assignment import Share
from tessera.simulator.report import GpuLine, PodLine, Report
from tessera.simulator.screen import page, verdict

GIB = 1 << 30
PODS = (
    PodLine("plain", "Running", "gpu-1", (Share("GPU-aaaaaaaa-1", 4 * GIB, 30),), ""),
    PodLine("too-large", "Pending", "", (), "2 GPUs: 2 too small"),
)
GPUS = (
    GpuLine("GPU-aaaaaaaa-1", "Tesla T4", "gpu-1", 8 * GIB, 4 * GIB),
    GpuLine("GPU-bbbbbbbb-2", "Tesla T4", "gpu-1", 8 * GIB, 0),
)


def drawn(report: Report, url: str = "") -> str:
    out = io.StringIO()
    console = Console(file=out, width=120)
    console.print(page(report, url=url))
    console.print(verdict(report))
    return out.getvalue()


def test_a_page_says_where_pods_are_what_they_hold_and_why_they_wait() -> None:
    text = drawn(Report(PODS, GPUS, (), ()), "http://127.0.0.1:1")
    for part in (
        "http://127.0.0.1:1",
        "GPU-aaaaaaaa",
        "4Gi, 30%",
        "2 GPUs: 2 too small",
        "2 x Tesla T4",
        "▄ ·",
        "16Gi",
    ):
        assert part in text
    assert "Every expectation held" in text


def test_violations_are_counted_and_named() -> None:
    report = Report(PODS, GPUS, ("GPU-aaaaaaaa-1",), ("plain.yaml: expected 1 to run",))
    text = drawn(report)
    assert "2 violations" in text and "GPU-aaaaaaaa-1 is over-committed" in text and "plain.yaml" in text
    assert report.plain()["violations"] == 2
