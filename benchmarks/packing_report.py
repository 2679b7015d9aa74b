"""The runs of ``make bench-packing`` summed up: against FGD seed by seed, and against the anchors."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks import figures
from benchmarks.packing_anchors import BOUND, FGD_PUBLISHED, LAC, SEEDS

Plain = dict[str, Any]
YARDSTICK = "fgd"
TITLES = {
    "inflate": "Filling an empty cluster",
    "churn": "Pods come and leave",
    "generated": "Filling, generated variants",
    "subsets": "Filling, random parts of the cluster",
    "generated-churn": "Pods come and leave, generated variants",
    "subsets-churn": "Pods come and leave, random parts of the cluster",
}


def summed(runs: Sequence[Plain]) -> list[Plain]:
    """One entry for each section, trace, part and policy, in the order in which they first come."""
    groups: dict[tuple[Any, ...], list[Plain]] = {}
    for run in runs:
        groups.setdefault((run["section"], run["variant"], run["subset"], run["policy"]), []).append(run)
    return [
        _entry(group, groups.get((section, variant, subset, YARDSTICK), []))
        for (section, variant, subset, _), group in sorted(groups.items(), key=lambda item: _place(item[0]))
    ]


def _place(key: tuple[Any, ...]) -> tuple[int, str, int, str]:
    section, variant, subset, _ = key
    count = int(subset.partition(":")[0]) if subset else 0
    return list(TITLES).index(section), "" if section == "inflate" else variant, count, subset or ""


def _entry(group: Sequence[Plain], fgd: Sequence[Plain]) -> Plain:
    first = group[0]
    out: Plain = {key: first[key] for key in ("section", "variant", "subset", "policy")}
    out["seeds"] = sorted(run["seed"] for run in group)
    out["allocated_percent"] = {
        key: _mean([run["allocated_percent"].get(key) for run in group])
        for key, value in first["allocated_percent"].items()
        if value is not None
    }
    for key in ("failed_at_100", "first_failure_percent", "queue_percent", "us_per_decision"):
        values = [run[key] for run in group if run.get(key) is not None]
        if values:
            out[key] = _mean(values)
    if first["policy"] != YARDSTICK and fgd:
        out["against_fgd"] = _against(group, fgd)
    if first["section"] == "inflate" and first["variant"] in BOUND:
        out["anchors"] = _anchors(first["variant"], out["allocated_percent"]["100"], out["seeds"])
    return out


def _against(group: Sequence[Plain], fgd: Sequence[Plain]) -> Plain:
    """Seed by seed, of those that both have: points of allocated GPUs at each checkpoint, and of the queue."""
    yardstick = {run["seed"]: run for run in fgd}
    pairs = [(run, yardstick[run["seed"]]) for run in group if run["seed"] in yardstick]
    if not pairs:
        return {"seeds": 0}
    out: Plain = {"seeds": len(pairs), "points": {}, "least_points": {}}
    for key, value in pairs[0][0]["allocated_percent"].items():
        if value is None:
            continue
        gains = [a["allocated_percent"][key] - b["allocated_percent"][key] for a, b in pairs]
        out["points"][key], out["least_points"][key] = _mean(gains), round(min(gains), 2)
    if pairs[0][0].get("queue_percent") is not None:
        ours, theirs = mean(a["queue_percent"] for a, _ in pairs), mean(b["queue_percent"] for _, b in pairs)
        out["queue_ratio"] = round(ours / theirs, 3) if theirs else None
        out["seeds_with_shorter_queue"] = sum(a["queue_percent"] < b["queue_percent"] for a, b in pairs)
    else:
        out["seeds_above"] = sum(a["allocated_percent"]["100"] > b["allocated_percent"]["100"] for a, b in pairs)
    return out


def _anchors(variant: str, allocated: float, seeds: Sequence[int]) -> Plain:
    """``same_seeds``: whether the anchors are means of the same seeds; else they are only near."""
    return {
        "fgd_published": FGD_PUBLISHED[variant],
        "lac": LAC[variant],
        "bound": BOUND[variant],
        "percent_of_bound": round(100 * allocated / BOUND[variant], 2),
        "points_above_lac": round(allocated - LAC[variant], 2),
        "same_seeds": tuple(seeds) == SEEDS,
    }


def against_goals(entries: Sequence[Plain]) -> list[str]:
    """Sentences: how far each policy but FGD came."""
    out = []
    for policy in dict.fromkeys(entry["policy"] for entry in entries if entry["policy"] != YARDSTICK):
        own = [entry for entry in entries if entry["policy"] == policy]
        anchored = [entry for entry in own if "anchors" in entry]
        if anchored:
            out.append(_of_anchors(policy, anchored))
        for section in TITLES:
            held = [entry for entry in own if entry["section"] == section and entry.get("against_fgd", {}).get("seeds")]
            if held:
                out.append((_of_queues if section.endswith("churn") else _of_fills)(policy, section, held))
    return out


def _of_anchors(policy: str, entries: Sequence[Plain]) -> str:
    lowest = min(entries, key=lambda entry: entry["anchors"]["percent_of_bound"])
    under = [e["variant"] for e in entries if e["anchors"]["points_above_lac"] < -0.1]
    same = all(entry["anchors"]["same_seeds"] for entry in entries)
    return (
        f"{policy}: {mean(e['anchors']['percent_of_bound'] for e in entries):.2f} % of the bound in the mean of "
        f"{len(entries)} variants, least {lowest['anchors']['percent_of_bound']:.2f} % ({lowest['variant']}); more "
        f"than 0.1 points below lac: {', '.join(under) or 'none'}"
        + ("." if same else "; not on all of the anchors' seeds 42-51, so only near.")
    )


def _of_fills(policy: str, section: str, entries: Sequence[Plain]) -> str:
    seeds = sum(entry["against_fgd"]["seeds"] for entry in entries)
    above = sum(entry["against_fgd"]["seeds_above"] for entry in entries)
    below = [
        f"{_name(entry)} at {key}"
        for entry in entries
        for key, points in entry["against_fgd"]["points"].items()
        if points < 0
    ]
    gain = mean(entry["against_fgd"]["points"]["100"] for entry in entries)
    return (
        f"{policy}, {TITLES[section].lower()}: {gain:+.2f} points against FGD at 100 % arrived, above it in {above} of "
        f"{seeds} runs; below it in the mean of the seeds: {', '.join(below) or 'nowhere'}."
    )


def _of_queues(policy: str, section: str, entries: Sequence[Plain]) -> str:
    ratios = ", ".join(f"{_name(entry)} {entry['against_fgd']['queue_ratio']}" for entry in entries)
    return f"{policy}, {TITLES[section].lower()}: queue over FGD's: {ratios}."


def _name(entry: Plain) -> str:
    return f"{entry['variant']} {entry['subset']}" if entry["subset"] else str(entry["variant"])


def markdown(found: Plain) -> str:
    """Tables of all sections, and on what they were measured."""
    machine = found["machine"]
    parts = [
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {found['jobs']} "
        f"runs at a time, code at {', '.join(found['commits'])}.\n\n{found['traces']}\n",
        "\n".join(f"- {sentence}" for sentence in found["goals"]) + "\n",
    ]
    for section, title in TITLES.items():
        entries = [entry for entry in found["summary"] if entry["section"] == section]
        if entries:
            table = _queue_table if section.endswith("churn") else _fill_table
            parts.append(f"### {title}\n\n{_about(found, section, entries)}\n\n{table(entries)}")
    return "\n".join(parts)


def _about(found: Plain, section: str, entries: Sequence[Plain]) -> str:
    counts = sorted({len(entry["seeds"]) for entry in entries})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if section.endswith("churn"):
        return (
            f"{found['arrivals']:,} arrivals at load {found['load']}, averages over the second half, means of {seeds} "
            "seeds. Queue: GPUs that those who wait ask for, in % of all."
        )
    return f"Allocated GPUs in % of all, at 80, 95, 100 and 130 % arrived; means of {seeds} seeds."


def _fill_table(entries: Sequence[Plain]) -> str:
    anchored = any("anchors" in entry for entry in entries)
    headings = ["trace", "policy", "80", "95", "100", "130", "- FGD", "seeds above", "us"]
    rows = []
    for entry in entries:
        allocated = [f"{entry['allocated_percent'][key]:.2f}" for key in ("80", "95", "100", "130")]
        against = entry.get("against_fgd", {})
        gain = f"{against['points']['100']:+.2f}" if against.get("seeds") else ""
        above = f"{against['seeds_above']} of {against['seeds']}" if against.get("seeds") else ""
        row = [_name(entry), entry["policy"], *allocated, gain, above, f"{entry['us_per_decision']:.0f}"]
        rows.append([*row, *_anchor_cells(entry)] if anchored else row)
    more = ["FGD published", "lac", "bound", "% of bound"] if anchored else []
    return figures.table([*headings, *more], rows)


def _anchor_cells(entry: Plain) -> list[str]:
    anchors = entry.get("anchors")
    if not anchors:
        return [""] * 4
    return [f"{anchors[key]:.2f}" for key in ("fgd_published", "lac", "bound", "percent_of_bound")]


def _queue_table(entries: Sequence[Plain]) -> str:
    rows = []
    for entry in entries:
        against = entry.get("against_fgd", {})
        ratio = against.get("queue_ratio") if against.get("seeds") else ""
        allocated, queue = entry["allocated_percent"]["mean"], entry["queue_percent"]
        rows.append(
            [
                _name(entry),
                entry["policy"],
                f"{queue:.2f}",
                "" if ratio is None else ratio,
                f"{allocated:.2f}",
                f"{entry['us_per_decision']:.0f}",
            ]
        )
    return figures.table(["trace", "policy", "queue %", "over FGD's", "allocated %", "us"], rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(mean(known), 3) if known else None
