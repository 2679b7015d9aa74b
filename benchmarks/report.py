"""The extender's figures for people: tables and bars beside the goals."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import figures

Plain = dict[str, Any]
GOALS = {"filter": 10.0, "prioritize": 15.0}


def markdown(found: Plain) -> str:
    """Tables of everything that was measured, and on what."""
    machine = found["machine"]
    parts = [
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; "
        f"{found['api_server']}; client, API server and extender on the same cores, load average before the run "
        f"{machine['load']}.\n",
        _decisions(found),
        _large(found["large"]),
    ]
    if races := found.get("races"):
        parts.append(
            f"{races['asked']} pods at once for {races['places']} places, {races['runs']} runs: placed "
            f"{races['placed_min']} to {races['placed_max']} each time, {races['over_committed']} over-committed, "
            f"{races['bindings_refused_and_tried_again']} Bindings refused and tried again.\n"
        )
    if ran := found.get("kube_scheduler"):
        parts.append(_kube_scheduler(ran))
    return "\n".join(parts)


def _decisions(found: Plain) -> str:
    headings = [
        "nodes",
        "at once",
        "decisions/s",
        "filter p50 / p99 ms",
        "prioritize",
        "bind",
        "CPU ms",
        "RSS MiB",
        "10s",
    ]
    rows = []
    for each in found["decisions"]:
        ms = [f"{each['ms'][verb]['p50']} / {each['ms'][verb]['p99']}" for verb in ("filter", "prioritize", "bind")]
        tens = "one each" if not each["not_exactly_one_ten"] else f"{each['not_exactly_one_ten']} wrong"
        head = [each["nodes"], each["at_once"], each["decisions_per_s"]]
        rows.append([*head, *ms, each["cpu_ms_per_decision"], each["rss_mib"], tens])
    return figures.table(headings, rows)


def _large(large: Plain) -> str:
    what = f"{large['nodes']} nodes, {large['bound_pods']} pods"
    rows = [
        ["cold start to the first answered filter", f"{large['cold_start_s']} s"],
        ["of that, the same lists read by a client that does nothing", f"{large['cold_start_lists_alone_s']} s"],
        ["ours", f"{large['cold_start_ours_s']} s (CPU in all {large['cold_start_cpu_s']} s)"],
        ["RSS after the start / after the decisions / peak", _rss(large)],
        ["decisions/s, one after another", large["decisions_per_s"]],
        ["filter p99, prioritize p99", f"{large['ms']['filter']['p99']}, {large['ms']['prioritize']['p99']} ms"],
        ["CPU a decision", f"{large['cpu_ms_per_decision']} ms"],
    ]
    return figures.table([what, ""], rows)


def _rss(large: Plain) -> str:
    return f"{large['rss_after_start_mib']} / {large['rss_mib']} / {large['rss_peak_mib']} MiB"


def _kube_scheduler(ran: Plain) -> str:
    ways = {
        "alone": "alone",
        "with_extender": "with the extender",
        "with_all_feasible": "with the extender, filter answering every feasible node",
    }
    rows = []
    for way, words in ways.items():
        rates = [each["pods_per_s"] for each in ran["runs"][way]]
        rows.append([words, ran["pods_per_s"][way], f"{min(rates)} - {max(rates)}"])
    cpu = median(each["extender_cpu_ms_per_pod"] for each in ran["runs"]["with_extender"])
    rows.append(["share of alone", f"{ran['percent']} %", f"every feasible node: {ran['percent_all_feasible']} %"])
    rows.append(["extender's CPU a pod", f"{cpu} ms", ""])
    what = f"kube-scheduler, {ran['nodes']} nodes, {ran['pods']} pods, {len(ran['runs']['alone'])} runs each in turn"
    return figures.table([what, "pods/s, median", "from - to"], rows)


def plot(found: Plain, path: Path) -> str:
    """Bars; answers why there are none, if so."""
    alone = [each for each in found["decisions"] if each["at_once"] == 1]
    labels = [f"{each['nodes']:,}" for each in alone]
    panels: list[tuple[str, str, list[str], list[float], float | None]] = [
        ("Decisions a second, by nodes", "decisions/s", labels, [each["decisions_per_s"] for each in alone], None)
    ]
    for verb, goal in GOALS.items():
        panels.append((f"{verb}, p99, by nodes", "ms", labels, [each["ms"][verb]["p99"] for each in alone], goal))
    if ran := found.get("kube_scheduler"):
        rates = [ran["pods_per_s"]["alone"], ran["pods_per_s"]["with_extender"]]
        panels.append((f"kube-scheduler, {ran['nodes']:,} nodes", "pods/s", ["alone", "with us"], rates, None))
    return figures.plot(path, panels)
