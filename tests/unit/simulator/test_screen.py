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


def drawn(report: Report, url: str = "", width: int = 120) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
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


def test_eighty_columns_are_enough_for_names_and_reasons() -> None:
    uuid = "GPU-b067c26e-52b3-5e9d-88b5-ffea60590f6c"
    pods = (
        PodLine("inference-7007cc479b-dwwrl", "Running", "gpu-5", (Share(uuid, 22284 << 20, 100, whole=True),), ""),
        PodLine("batch-1", "Succeeded", "gpu-5", (), "Completed"),
        PodLine("overrun", "Failed", "gpu-5", (), f"container greedy uses 3Gi of GPU {uuid}, limit 2Gi"),
    )
    text = drawn(Report(pods, GPUS, (), ()), width=80)
    assert "inference-7007cc479b-dwwrl" in text and "22284Mi, whole" in text and "…" not in text
    assert "overrun: container greedy uses 3Gi of GPU GPU-b067c26e, limit 2Gi" in text
    assert "Completed" not in text
