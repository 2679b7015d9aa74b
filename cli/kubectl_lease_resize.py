"""``kubectl tessera lease resize``, for short ``kubectl tessera resize``: another size for a slice on another node."""

from typing import TYPE_CHECKING, Annotated

import typer

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

if TYPE_CHECKING:
    from tessera.cli.kubectl_reading import Access
    from tessera.dashboard.states import LeaseState
    from tessera.model.resizes import Resize
    from tessera.reasons import Reason

STILL_WAITS = 3
"""Exit status beside 0 and 1: it was asked for, and is not there yet."""
Whose = Annotated[
    str, typer.Argument(help="Name of a GPULease or of a pod with one, or NAMESPACE/NAME.", show_default=False)
]


def resize(
    lease: Whose,
    gpu_mem: Annotated[str, typer.Option("--gpu-mem", help="Memory, such as 16Gi.", show_default=False)],
    gpu_core: Annotated[
        str | None, typer.Option("--gpu-core", help="Percent of the GPU's compute, 0: no cap; default as it is.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has the size.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")] = 300.0,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Gives a slice on another node another size while its program runs, with your own rights.

    The lease gets a second slice of that size, the program's sessions are carried over, and the first slice goes.
    Status 3: it still waits when the time is over; what was asked for stays asked for.
    """
    from tessera.cli import kubectl_lease_tables as tables
    from tessera.model.resizes import resize_of
    from tessera.reasons import Reason

    asked = resize_of(gpu_mem, gpu_core, prefix="--")
    if isinstance(asked, Reason):
        fail(asked.text)
    access = access_by(kubeconfig, context, server)
    found = outcome(_resize(access, *named(access, "LEASE", lease, namespace), asked, timeout if wait else 0.0))
    if isinstance(found, Reason):
        fail(found.text)
    state, done = found
    show(output, state, lambda: tables.resized(state, done=done))
    raise typer.Exit(0 if done or not wait else STILL_WAITS)


async def _resize(
    access: "Access", namespace: str, name: str, asked: "Resize", wait_s: float
) -> "tuple[LeaseState, bool] | Reason":
    """The lease, and whether it has the size: asked for, and with ``wait_s`` above 0 waited for."""
    from tessera.cli.kubectl_lease_waiting import wait_for, wait_of
    from tessera.cli.printing import tell
    from tessera.dashboard.cluster import lease_state_of
    from tessera.kube.connection import connect
    from tessera.kube.gateway import Gateway
    from tessera.kube.lease_verbs import ask_size, find_lease
    from tessera.reasons import Reason

    async with Gateway(connect(access.settings())) as gateway:
        found = await find_lease(gateway, namespace, name)
        written = found if isinstance(found, Reason) else await ask_size(gateway, found, asked)
        if isinstance(written, Reason):
            return written
        state = lease_state_of(written)
        return await wait_for(gateway, state, wait_s, tell) if wait_s else (state, not wait_of(state))
