"""``kubectl tessera lease attach`` and ``detach``: which pod uses a standing lease."""

import sys
from typing import Annotated

import typer

from tessera.cli.kubectl_lease_options import Name
from tessera.cli.kubectl_options import (
    Context,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    Server,
    access_by,
    fail,
    named,
    outcome,
    show,
)

Pod = Annotated[str, typer.Argument(help="Name of a pod of the lease's namespace.", show_default=False)]


def attach(
    lease: Name,
    pod: Pod,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Tells a pod that waits to be placed to use a standing lease, with your own rights.

    The pod gets the annotation tessera.io/gpu-lease, and its scheduling gate of that name goes. It must have been made
    with tessera.io/remote: required. It waits while the lease is stopped, has no room or is used by another pod.
    """
    from tessera.cli import kubectl_lease_asking as asking
    from tessera.cli import kubectl_lease_tables as tables
    from tessera.reasons import Reason

    access = access_by(kubeconfig, context, server)
    where, name = named(access, "LEASE", lease, namespace)
    before, _, own = pod.rpartition("/")
    if before not in ("", where) or not own:
        fail(f"POD: found {pod!r}; allowed: the name of a pod of namespace {where}, the lease's")
    found = outcome(asking.attach(access, where, name, own))
    if isinstance(found, Reason):
        fail(found.text)
    show(output, found, lambda: tables.attached(found, own))


def detach(
    lease: Name,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Takes the pod off a standing lease, with your own rights.

    The program in the pod is told within about a minute that its device is lost, and what it had there is gone. The pod
    itself stays, and does not get the lease back: when its container starts anew, the pod ends. The lease keeps its
    room and gets a fresh executor for the next pod.
    """
    from tessera.cli import kubectl_lease_asking as asking
    from tessera.cli import kubectl_lease_tables as tables
    from tessera.reasons import Reason

    access = access_by(kubeconfig, context, server)
    found = outcome(asking.detach(access, *named(access, "LEASE", lease, namespace)))
    if isinstance(found, Reason):
        fail(found.text)
    before, after = found
    if before.pod:
        print(f"pod {before.namespace}/{before.pod} stays, without this slice", file=sys.stderr)
    show(output, after, lambda: tables.detached(after))
