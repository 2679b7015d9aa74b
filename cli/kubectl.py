"""``kubectl tessera``: the pool as the API server knows it, with the user's own kubeconfig and rights.

Reads only, but for ``defragment --execute``, ``resize`` and what ``lease`` asks of GPULeases. Needs nothing of ours to
run in the cluster but the objects it shows; the numbers are computed by the same code as the dashboard's, plans by the
scheduler's.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.cli import kubectl_leases
from tessera.cli.kubectl_lease_resize import resize
from tessera.cli.kubectl_options import (
    AllNamespaces,
    Context,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    Server,
    access_by,
    fail,
    named,
    namespace_by,
    outcome,
    show,
)

if TYPE_CHECKING:
    from tessera.scheduler.told import Source

NO_PLAN, STOPPED = 3, 4
"""Exit statuses beside 0 and 1: there is no (whole) plan; a plan was begun and not finished."""
app = typer.Typer(
    name="kubectl tessera",
    help="Shows the cluster's GPUs in slices: who holds what, what is free, and why a pod waits.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Top(StrEnum):
    NODES = "nodes"
    GPUS = "gpus"
    TENANTS = "tenants"


TrustDomain = Annotated[
    str,
    typer.Option(
        "--trust-domain",
        help="Who may share a GPU: cluster, namespace or label:KEY; default the running scheduler's.",
        show_default=False,
    ),
]
Lease = Annotated[
    str,
    typer.Option(
        "--lease",
        metavar="NAMESPACE/NAME",
        help="The scheduler's Lease; default tessera-system/tessera-scheduler.",
        show_default=False,
    ),
]
NodeOption = Annotated[str, typer.Option("--node", help="Only this node.", show_default=False)]
app.add_typer(kubectl_leases.app)
app.command()(resize)


@app.command()
def top(
    what: Annotated[Top, typer.Argument(help="nodes, gpus or tenants.")] = Top.NODES,
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """What is given and what is free, most used first."""
    from tessera.cli import kubectl_reading as reading
    from tessera.cli import kubectl_tables as tables

    snapshot = outcome(reading.pool(access_by(kubeconfig, context, server)))
    if what is Top.NODES:
        nodes = sorted(snapshot.nodes.values(), key=lambda n: -n.allocated_bytes)
        show(output, nodes, lambda: tables.nodes(nodes, snapshot.totals))
    elif what is Top.GPUS:
        found = sorted(snapshot.gpus.values(), key=lambda g: -g.allocated_bytes)
        show(output, found, lambda: tables.gpus(found))
    else:
        tenants = reading.tenants(snapshot)
        show(output, tenants, lambda: tables.tenants(tenants))


@app.command()
def gpus(
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """All GPUs in order of their nodes, with health and how slices are held."""
    from tessera.cli import kubectl_reading as reading
    from tessera.cli import kubectl_tables as tables

    snapshot = outcome(reading.pool(access_by(kubeconfig, context, server)))
    if node and node not in snapshot.nodes:
        fail(f"--node: found {node!r}; allowed: {', '.join(snapshot.nodes) or 'none, no node reports GPUs'}")
    found = [g for g in snapshot.gpus.values() if node in ("", g.node)]
    show(output, found, lambda: tables.gpus(found))


@app.command()
def pods(
    namespace: Namespace = "",
    all_namespaces: AllNamespaces = False,
    pending: Annotated[bool, typer.Option("--pending", help="Only pods that wait.")] = False,
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Pods that ask for slices: what they hold, and why they wait."""
    from tessera.cli import kubectl_reading as reading
    from tessera.cli import kubectl_tables as tables

    access = access_by(kubeconfig, context, server)
    where = "" if all_namespaces else namespace or namespace_by(access)
    snapshot = outcome(reading.pods(access, where))
    found = [p for p in snapshot.pods.values() if p.waiting or not pending]
    empty = f"No pod {'waits' if pending else 'asks for a slice'} in {where or 'any namespace'}."
    show(output, found, lambda: tables.pods(found) if found else empty)


@app.command()
def explain(
    pod: Annotated[str, typer.Argument(help="Name of a pod, or NAMESPACE/NAME.", show_default=False)],
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Where one pod landed and what it is held to, or why it waits."""
    from tessera.cli import kubectl_reading as reading
    from tessera.cli import kubectl_tables as tables

    access = access_by(kubeconfig, context, server)
    where, name = named(access, "POD", pod, namespace)
    story = outcome(reading.explain(access, where, name))
    if story is None:
        fail(f"pod {name}: asks for no slice and holds none")
    show(output, story, lambda: tables.story(story))


@app.command("drain-plan")
def drain_plan(
    place: Annotated[str, typer.Argument(help="node/NAME or gpu/UUID.", show_default=False)],
    trust_domain: TrustDomain = "",
    lease: Lease = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Where pods of a node or a GPU, and slices of pods elsewhere, would go. Changes nothing; status 3: some stay."""
    from tessera.cli import kubectl_moves as moves

    kind, _, name = place.partition("/")
    if kind not in ("node", "gpu") or not name:
        fail(f"PLACE: found {place!r}; allowed: node/NAME or gpu/UUID")
    source = _source(lease, trust_domain)
    found = outcome(moves.drain(access_by(kubeconfig, context, server), kind, name, source))
    if isinstance(found, str):
        fail(found)
    show(output, found, lambda: moves.drain_table(found))
    raise typer.Exit(0 if found.complete else NO_PLAN)


@app.command()
def defragment(
    pod: Annotated[str, typer.Argument(help="Name of a pod that waits, or NAMESPACE/NAME.", show_default=False)],
    namespace: Namespace = "",
    max_moves: Annotated[int, typer.Option("--max-moves", min=0, max=4, help="Moves of other pods, at most.")] = 1,
    execute: Annotated[bool, typer.Option("--execute", help="Carry the plan out by the Eviction API.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at each step.")] = 300.0,
    trust_domain: TrustDomain = "",
    lease: Lease = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """The fewest moves that let a waiting pod in. Status 3: there is no plan; 4: stopped on the way."""
    from tessera.cli import kubectl_moves as moves

    access = access_by(kubeconfig, context, server)
    where, name = named(access, "POD", pod, namespace)
    source = _source(lease, trust_domain)
    if not execute:
        plan = outcome(moves.plan(access, where, name, max_moves, source))
        if isinstance(plan, str):
            fail(plan)
        show(output, plan, lambda: moves.plan_table(plan))
        raise typer.Exit(0 if plan.node else NO_PLAN)
    ended = outcome(moves.execute(access, where, name, max_moves, timeout, source))
    show(output, ended, lambda: moves.outcome_table(ended))
    raise typer.Exit({"bound": 0, "no plan": NO_PLAN}.get(ended.end, STOPPED))


@app.command()
def version() -> None:
    """The version of this plugin."""
    from tessera import __version__

    print(f"kubectl-tessera {__version__}")


def main() -> None:
    """The console script ``kubectl-tessera``; kubectl finds it as ``kubectl tessera``."""
    app()


def _source(lease: str, trust_domain: str) -> "Source":
    from tessera.scheduler.told import source_of

    try:
        return source_of(lease, trust_domain)
    except ValueError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
