"""What the cases found, as a table for people and a file for programs."""

import json
import re
from collections.abc import Iterator, Sequence
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
    """A case: its id, what it asks, what was found by which command and code, what it took, and its raw figures."""

    id: str
    title: str
    command: str = ""
    commit: str = ""
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


def write(folder: Path, gpu: str, driver: str, results: Sequence[Result], cases: Sequence[str]) -> Path:
    """``<gpu>-<driver>.json`` with everything, and ``.md`` made of all that it holds; answers the latter.

    ``cases``: the ids of all that there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_slug(f'{gpu}-{driver}')}.json"
    known = json.loads(path.read_text()) if path.is_file() else {"cases": {}}
    known |= {"gpu": gpu, "driver": driver}
    known["cases"] |= {result.id: asdict(result) for result in results}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    page = path.with_name(f"{path.name.removesuffix('.json')}.md")
    page.write_text(_page(known, sorted(cases, key=_place)))
    return page


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _place(id_: str) -> tuple[bool, int]:
    """The slices of this machine first."""
    return not id_.startswith("T"), int(id_[1:])


def _page(known: dict[str, Any], ids: Sequence[str]) -> str:
    lines = [f"# {known['gpu']}, driver {known['driver']}", ""]
    lines += ["| case | figure | found | target | |", "|---|---|---|---|---|"]
    ran = [known["cases"][id_] for id_ in ids if id_ in known["cases"]]
    for case in ran:
        lines += _rows(case)
    if missing := [id_ for id_ in ids if id_ not in known["cases"]]:
        lines += ["", f"Not run on this GPU: {', '.join(missing)}."]
    lines += ["", "| case | code | took | command |", "|---|---|---|---|"]
    lines += [f"| {c['id']} | {c['commit']} | {c['took_s']} s | `{c['command']}` |" for c in ran]
    return "\n".join(lines) + "\n"


def _rows(case: dict[str, Any]) -> Iterator[str]:
    for place, one in enumerate(case["findings"]):
        first = f"{case['id']} {case['title']}" if place == 0 else ""
        cells = (first, one["what"], one["figure"], one["target"], one["verdict"])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
