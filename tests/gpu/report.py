"""What the cases found, as a table for people and a file for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MET, MISSED, RECORDED, FAILED = "met", "missed", "recorded", "failed"


@dataclass(slots=True)
class Finding:
    """One figure of a case. ``target`` empty: it is only recorded, and ``verdict`` says so."""

    what: str
    figure: str
    target: str = ""
    verdict: str = RECORDED


@dataclass(slots=True)
class Result:
    """A case: its id, what it asks, what was found, what it took, and its raw figures."""

    id: str
    title: str
    findings: list[Finding] = field(default_factory=list)
    took_s: float = 0.0
    raw: dict[str, Any] = field(default_factory=dict)

    def record(self, what: str, figure: object) -> None:
        """A figure without a target."""
        self.findings.append(Finding(what, str(figure)))

    def hold(self, what: str, figure: object, target: str, met: bool) -> None:
        """A figure against its target."""
        self.findings.append(Finding(what, str(figure), target, MET if met else MISSED))

    def fail(self, text: str) -> None:
        """The case could not be carried out."""
        self.findings.append(Finding("not carried out", text, "", FAILED))


def counts(results: Sequence[Result]) -> dict[str, int]:
    """How many findings of each verdict."""
    verdicts = [one.verdict for result in results for one in result.findings]
    return {verdict: verdicts.count(verdict) for verdict in (MET, MISSED, FAILED, RECORDED)}


def write(folder: Path, name: str, head: dict[str, str], results: Sequence[Result]) -> Path:
    """``<name>.json`` with everything, and ``<name>.md`` made of all that such files hold; answers the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    known = json.loads(path.read_text()) if path.is_file() else {"cases": {}}
    known["head"] = head
    known["cases"] |= {result.id: asdict(result) for result in results}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    page = path.with_suffix(".md")
    page.write_text(_page(head, [known["cases"][id_] for id_ in sorted(known["cases"], key=_number)]))
    return page


def _number(id_: str) -> int:
    return int(id_.removeprefix("T"))


def _page(head: dict[str, str], cases: Sequence[dict[str, Any]]) -> str:
    lines = [f"# {head['gpu']}, driver {head['driver']}", "", *[f"- {k}: {v}" for k, v in head.items()], ""]
    lines += ["| case | figure | found | target | |", "|---|---|---|---|---|"]
    for case in cases:
        for place, one in enumerate(case["findings"]):
            first = f"{case['id']} {case['title']}" if place == 0 else ""
            cells = (first, one["what"], one["figure"], one["target"], one["verdict"])
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
