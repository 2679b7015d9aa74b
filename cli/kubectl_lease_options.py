"""What the commands of ``kubectl tessera lease`` share that ask something of a lease and may wait for it."""

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tessera.cli.kubectl_options import Output, fail, show

if TYPE_CHECKING:
    from tessera.cli.kubectl_lease_asking import Outcome

STILL_WAITS = 3
"""Exit status beside 0 and 1: it was asked for, and is not there yet."""
Name = Annotated[str, typer.Argument(help="Name of a GPULease, or NAMESPACE/NAME.", show_default=False)]
GpuMem = Annotated[str, typer.Option("--gpu-mem", help="Memory, such as 16Gi.", show_default=False)]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")]
WaitServed = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has its size and is served.")]
WAIT_S = 300.0


def end(output: Output, found: "Outcome", *, wait: bool) -> NoReturn:
    """Prints what has become of what was asked, and ends the command with its status."""
    from tessera.cli import kubectl_lease_tables as tables
    from tessera.reasons import Reason

    if isinstance(found, Reason):
        fail(found.text)
    state, done = found
    show(output, state, lambda: tables.reached(state, done=done))
    raise typer.Exit(0 if done or not wait else STILL_WAITS)
