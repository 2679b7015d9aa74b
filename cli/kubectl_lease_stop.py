"""``kubectl tessera lease stop`` and ``start``: a standing lease without room for a while."""

from typing import Annotated

import typer

from tessera.cli.kubectl_lease_options import WAIT_S, Name, Timeout, WaitServed, end
from tessera.cli.kubectl_options import (
    Context,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    Server,
    access_by,
    named,
    outcome,
)

WaitGivenBack = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until its room is given back.")]


def stop(
    lease: Name,
    wait: WaitGivenBack = True,
    timeout: Timeout = WAIT_S,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Gives room and executor of a standing lease back until it is started again, with your own rights.

    Refused while a pod uses it: detach that first. Status 3: the room is not given back yet when the time is over.
    """
    from tessera.cli import kubectl_lease_asking as asking

    access = access_by(kubeconfig, context, server)
    where, name = named(access, "LEASE", lease, namespace)
    end(output, outcome(asking.switch(access, where, name, timeout if wait else 0.0, stopped=True)), wait=wait)


def start(
    lease: Name,
    wait: WaitServed = True,
    timeout: Timeout = WAIT_S,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Finds room for a standing lease that was stopped, and serves it again, with your own rights.

    It may get another GPU than it had. Status 3: it is not served yet when the time is over; it stays asked for.
    """
    from tessera.cli import kubectl_lease_asking as asking

    access = access_by(kubeconfig, context, server)
    where, name = named(access, "LEASE", lease, namespace)
    end(output, outcome(asking.switch(access, where, name, timeout if wait else 0.0, stopped=False)), wait=wait)
