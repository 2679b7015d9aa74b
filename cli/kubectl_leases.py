"""``kubectl tessera lease``: slices on other nodes than their pods'."""

import sys
import time

import typer

from tessera.cli.kubectl_lease_create import create
from tessera.cli.kubectl_lease_options import Name
from tessera.cli.kubectl_lease_resize import resize
from tessera.cli.kubectl_lease_stop import start, stop
from tessera.cli.kubectl_lease_use import attach, detach
from tessera.cli.kubectl_options import (
    AllNamespaces,
    Context,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    Server,
    access_by,
    named,
    namespace_by,
    outcome,
    show,
)

app = typer.Typer(
    name="lease",
    help="Slices on other nodes than their pods', each by its GPULease: those that pods were given, and standing ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for verb in (create, attach, detach, stop, start, resize):
    app.command()(verb)


@app.command("list")
def list_leases(
    namespace: Namespace = "",
    all_namespaces: AllNamespaces = False,
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Slices on other nodes: for whom, where, and whether they are served."""
    from tessera.cli import kubectl_lease_reading as reading
    from tessera.cli import kubectl_lease_tables as tables

    access = access_by(kubeconfig, context, server)
    where = "" if all_namespaces else namespace or namespace_by(access)
    found = outcome(reading.leases(access, where))
    empty = f"There is no slice on another node in {where or 'any namespace'}."
    show(output, found, lambda: tables.leases(found, time.time()) if found else empty)


@app.command()
def get(
    lease: Name,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """One lease: for whom, where, and how far it has come."""
    from tessera.cli import kubectl_lease_reading as reading
    from tessera.cli import kubectl_lease_tables as tables

    access = access_by(kubeconfig, context, server)
    found = outcome(reading.lease(access, *named(access, "LEASE", lease, namespace)))
    show(output, found, lambda: tables.lease(found))


@app.command()
def delete(
    lease: Name,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Takes a slice away, with your own rights.

    The executor ends, and the program in the pod is told within about a minute that its device is lost. The pod itself
    stays, and the lease is not made again: when a container of the pod starts anew, the pod ends. Delete the pod for
    another slice. A standing lease goes whether or not a pod uses it; to take only the pod off it use detach.
    """
    from tessera.cli import kubectl_lease_reading as reading

    access = access_by(kubeconfig, context, server)
    gone = outcome(reading.delete(access, *named(access, "LEASE", lease, namespace)))
    if gone.pod:
        print(f"pod {gone.namespace}/{gone.pod} stays, without this slice", file=sys.stderr)
    show(output, gone, lambda: f"GPULease {gone.key}: its end was asked for")
