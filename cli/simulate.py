"""``tessera simulate``: replay traces through the scheduler's engine, or ask where pods would go in a live cluster.

The options are read and checked here; the work is done by ``tessera.simulator``, which is imported only when it begins.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from tessera.cli.simulate_cluster import Question
    from tessera.simulator.replay.plans import Plan, Subset

_SEEDS = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_DECIMAL = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)
_SUBSET = re.compile(r"(\d{1,9}):(\d{1,9})", re.ASCII)
_MAX_SEEDS = 10_000


NodesOption = Annotated[
    Path | None, typer.Option("--nodes", metavar="FILE", help="Nodes in the openb format.", show_default=False)
]
PodsOption = Annotated[
    list[Path] | None,
    typer.Option("--pods", metavar="FILE", help="Pods in the openb format; repeatable.", show_default=False),
]
PolicyOption = Annotated[
    str,
    typer.Option(metavar="NAME[,NAME...]", help="Placement policies; default the scheduler's.", show_default=False),
]
SeedsOption = Annotated[
    str, typer.Option(metavar="LIST", help="42, 42,43 or 42-51: each sets arrivals and node order.")
]
ProtocolOption = Annotated[
    str, typer.Option(metavar="NAME", help="inflate (pods only come) or churn (pods come, wait and leave).")
]
InflateOption = Annotated[str, typer.Option(metavar="FACTOR", help="GPUs asked for over GPUs, at the end.")]
LoadOption = Annotated[str, typer.Option(metavar="FACTOR", help="churn: GPUs asked for over GPUs, in the mean.")]
ArrivalsOption = Annotated[int, typer.Option(metavar="NUMBER", help="churn: how many pods come.", min=2)]
SubsetOption = Annotated[str, typer.Option(metavar="N:SEED", help="Only N random nodes.", show_default=False)]
JobsOption = Annotated[int, typer.Option(metavar="NUMBER", help="Runs at the same time.", min=1, max=64)]
FromClusterOption = Annotated[
    bool, typer.Option("--from-cluster", help="Instead of traces: where would pods go in the live cluster?")
]
AddOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOSTS", help="With --from-cluster: hosts to add, 4xH200:8:141Gi; repeatable.", show_default=False
    ),
]
PodsFromOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--pods-from",
        metavar="PATH",
        help="With --from-cluster: YAML of workloads; repeatable.",
        show_default=False,
    ),
]
WaitingOption = Annotated[
    bool, typer.Option("--waiting/--no-waiting", help="With --from-cluster: place those that wait there, first.")
]
TrustDomainOption = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="With --from-cluster: cluster, namespace or label:KEY; default the scheduler's.",
        show_default=False,
    ),
]
LeaseOption = Annotated[
    str,
    typer.Option(
        metavar="NAMESPACE/NAME",
        help="With --from-cluster: the scheduler's Lease; default tessera-system/tessera-scheduler.",
        show_default=False,
    ),
]
KubeconfigOption = Annotated[str, typer.Option(metavar="PATH", help="Kubeconfig.", show_default=False)]
ContextOption = Annotated[str, typer.Option(metavar="NAME", help="Context within it.", show_default=False)]
ServerOption = Annotated[str, typer.Option(metavar="URL", help="An API server without sign-in.", show_default=False)]
OutputOption = Annotated[str, typer.Option("--output", "-o", metavar="FORM", help="table or json.")]


def simulate(
    nodes: NodesOption = None,
    pods: PodsOption = None,
    policy: PolicyOption = "",
    seeds: SeedsOption = "42",
    protocol: ProtocolOption = "inflate",
    inflate: InflateOption = "1.3",
    load: LoadOption = "0.94",
    arrivals: ArrivalsOption = 80_000,
    subset: SubsetOption = "",
    jobs: JobsOption = 1,
    from_cluster: FromClusterOption = False,
    add: AddOption = None,
    pods_from: PodsFromOption = None,
    waiting: WaitingOption = True,
    trust_domain: TrustDomainOption = "",
    lease: LeaseOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    server: ServerOption = "",
    output: OutputOption = "table",
) -> int:
    """Replay traces through the scheduler's engine, or ask where pods would go in a live cluster."""
    from tessera.cli.printing import OutputError
    from tessera.command_line import Unusable
    from tessera.simulator.replay.tables import TraceError

    cluster_only: dict[str, object] = {"--add": add, "--pods-from": pods_from, "--no-waiting": not waiting}
    cluster_only |= {"--trust-domain": trust_domain, "--lease": lease}
    cluster_only |= {"--kubeconfig": kubeconfig, "--context": context, "--server": server}
    try:
        if output not in ("table", "json"):
            _refuse("--output", output, "table or json")
        if from_cluster:
            changed = {"--seeds": seeds != "42", "--protocol": protocol != "inflate", "--inflate": inflate != "1.3"}
            changed |= {"--load": load != "0.94", "--arrivals": arrivals != 80_000, "--jobs": jobs != 1}
            _check_absent({"--nodes": nodes, "--pods": pods, "--subset": subset, **changed}, beside=True)
            access = (kubeconfig, context, server)
            return _plan_cluster(_question(access, add, pods_from, policy, waiting, (lease, trust_domain)), output)
        _check_absent(cluster_only, beside=False)
        if nodes is None or not pods:
            _refuse("--nodes" if nodes is None else "--pods", None, "a file in the openb format")
        plan = _plan(nodes, pods, policy, seeds, protocol, inflate, load, arrivals, subset, jobs)
        _replay(plan, output)
    except (Unusable, TraceError, OutputError) as error:
        print(f"tessera simulate: {error}", file=sys.stderr)
        return 1 if isinstance(error, OutputError) else 2
    return 0


def _question(
    access: tuple[str, str, str],
    add: Sequence[str] | None,
    manifests: Sequence[Path] | None,
    policy: str,
    waiting: bool,
    scheduler: tuple[str, str],
) -> "Question":
    """Raises ``Unusable``."""
    from tessera.cli.kubectl_reading import Access
    from tessera.cli.simulate_cluster import Question
    from tessera.command_line import Unusable
    from tessera.scheduler.told import source_of

    policies = _policies(policy) if policy else ("",)
    if len(policies) > 1:
        _refuse("--policy", policy, "one policy with --from-cluster")
    try:
        source = source_of(*scheduler)
    except ValueError as error:
        raise Unusable(str(error)) from error
    return Question(Access(*access), add or (), manifests or (), policies[0], waiting, source)


def _plan_cluster(question: "Question", output: str) -> int:
    from tessera.cli.simulate_cluster import run
    from tessera.kube.connection import ConfigurationError
    from tessera.kube.errors import ApiError, KubeError
    from tessera.simulator.manifests import ManifestError
    from tessera.simulator.planning.additions import PlanningError

    try:
        run(question, as_json=output == "json")
    except (PlanningError, ManifestError, ConfigurationError) as error:
        print(f"tessera simulate: {error}", file=sys.stderr)
        return 2
    except KubeError as error:
        sentence = error.message if isinstance(error, ApiError) and error.message else error
        print(f"tessera simulate: {sentence}", file=sys.stderr)
        return 1
    return 0


def _check_absent(given: Mapping[str, object], *, beside: bool) -> None:
    """Refuses the first option that is given although it does not go with, or without, ``--from-cluster``."""
    from tessera.command_line import Unusable

    for option, value in given.items():
        if value:
            found, allowed = ("beside", "only without it") if beside else ("without", "only together with it")
            raise Unusable(f"{option}: found {found} --from-cluster; allowed: {allowed}")


def _replay(plan: "Plan", output: str) -> None:
    from tessera.cli.printing import show
    from tessera.simulator.replay import plans, progress, results

    with progress.shown() as screen:
        runs = plans.run(plan, screen)
    show(results.plain(runs), lambda: results.table(runs), as_json=output == "json")


def _plan(
    nodes: Path,
    pods: list[Path],
    policy: str,
    seeds: str,
    protocol: str,
    inflate: str,
    load: str,
    arrivals: int,
    subset: str,
    jobs: int,
) -> "Plan":
    from tessera.simulator.replay.plans import Plan, Protocol

    if protocol not in list(Protocol):
        _refuse("--protocol", protocol, " or ".join(Protocol))
    stems = [path.stem for path in pods]
    if len(set(stems)) != len(stems):
        _refuse("--pods", ", ".join(map(str, pods)), "files of different names, which the result tells apart")
    return Plan(
        nodes,
        tuple(pods),
        _policies(policy),
        _seeds(seeds),
        Protocol(protocol),
        _factor("--inflate", inflate, 10),
        _factor("--load", load, 10),
        arrivals,
        _subset(subset),
        jobs,
    )


def _policies(text: str) -> tuple[str, ...]:
    from tessera.scheduler.options import Options
    from tessera.scheduler.policy import POLICIES

    if not text:
        return (Options().placement,)
    found = [part.strip() for part in text.split(",")]
    for name in found:
        if name not in POLICIES:
            _refuse("--policy", name, ", ".join(POLICIES))
    if len(set(found)) != len(found):
        _refuse("--policy", text, "each policy once")
    return tuple(found)


def _seeds(text: str) -> tuple[int, ...]:
    allowed = "a number, a list such as 42,43 or a range such as 42-51"
    out: list[int] = []
    for part in text.split(","):
        match = _SEEDS.fullmatch(part.strip())
        if match is None:
            _refuse("--seeds", text, allowed)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= _MAX_SEEDS:
            _refuse("--seeds", text, f"{allowed}, upwards and of at most {_MAX_SEEDS}")
        out += range(first, last + 1)
    if len(set(out)) != len(out):
        _refuse("--seeds", text, "each seed once")
    return tuple(out)


def _factor(option: str, text: str, most: int) -> Fraction:
    if not _DECIMAL.fullmatch(text) or not 0 < Fraction(text) <= most:
        _refuse(option, text, f"a number above 0, up to {most}, such as 1.3")
    return Fraction(text)


def _subset(text: str) -> "Subset | None":
    from tessera.simulator.replay.plans import Subset

    if not text:
        return None
    match = _SUBSET.fullmatch(text)
    if match is None or not int(match[1]):
        _refuse("--subset", text, "N:SEED, such as 60:1")
    return Subset(int(match[1]), int(match[2]))


def _refuse(option: str, found: object, allowed: str) -> NoReturn:
    from tessera.command_line import Unusable

    raise Unusable(f"{option}: found {'none' if found is None else repr(found)}; allowed: {allowed}")
