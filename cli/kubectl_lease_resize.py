"""``kubectl tessera lease resize``, for short ``kubectl tessera resize``: another size for a slice on another node."""

from typing import Annotated

import typer

from tessera.cli.kubectl_lease_options import WAIT_S, GpuMem, Timeout, WaitServed, end
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
)

Whose = Annotated[
    str, typer.Argument(help="Name of a GPULease or of a pod with one, or NAMESPACE/NAME.", show_default=False)
]


def resize(
    lease: Whose,
    gpu_mem: GpuMem,
    gpu_core: Annotated[
        str | None, typer.Option("--gpu-core", help="Percent of the GPU's compute, 0: no cap; default as it is.")
    ] = None,
    wait: WaitServed = True,
    timeout: Timeout = WAIT_S,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Gives a slice on another node another size while its program runs, with your own rights.

    The lease gets a second slice of that size, the program's sessions are carried over, and the first slice goes. A
    stopped lease has the size once it is started. Status 3: it still waits when the time is over; what was asked for
    stays asked for.
    """
    from tessera.cli import kubectl_lease_asking as asking
    from tessera.model.resizes import resize_of
    from tessera.reasons import Reason

    asked = resize_of(gpu_mem, gpu_core, prefix="--")
    if isinstance(asked, Reason):
        fail(asked.text)
    access = access_by(kubeconfig, context, server)
    where, name = named(access, "LEASE", lease, namespace)
    end(output, outcome(asking.resize(access, where, name, asked, timeout if wait else 0.0)), wait=wait)
