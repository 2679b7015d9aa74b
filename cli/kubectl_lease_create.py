"""``kubectl tessera lease create``: a lease of one's own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from tessera.reasons import Reason

NewName = Annotated[str, typer.Argument(help="Name of the new GPULease, or NAMESPACE/NAME.", show_default=False)]
GpuCore = Annotated[str | None, typer.Option("--gpu-core", help="Percent of the GPU's compute; default no cap.")]
GpuModel = Annotated[
    str | None,
    typer.Option("--gpu-model", help="Models of GPU that will do, a comma list; ! before one excludes it."),
]
Annotation = Annotated[
    list[str] | None,
    typer.Option(
        "--annotation",
        metavar="KEY=VALUE",
        help="What a pod's annotation would say: tessera.io/placement, gpu-model, gpu-uuid, qos, gpu-core-limit or "
        "enforcement. May be given several times.",
        show_default=False,
    ),
]


def create(
    name: NewName,
    gpu_mem: GpuMem,
    gpu_core: GpuCore = None,
    gpu_model: GpuModel = None,
    annotation: Annotation = None,
    wait: WaitServed = True,
    timeout: Timeout = WAIT_S,
    namespace: Namespace = "",
    output: OutputOption = Output.TABLE,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    server: Server = "",
) -> None:
    """Makes a slice that stays, whichever pods use it, with your own rights.

    It is served from then on, so that a pod that is given it starts at once, and it outlives each of them. Status 3: it
    is not served yet when the time is over; it stays asked for.
    """
    from tessera.cli import kubectl_lease_asking as asking
    from tessera.model.new_leases import new_lease_of
    from tessera.reasons import Reason

    notes = _annotations(annotation or (), gpu_model)
    asked = notes if isinstance(notes, Reason) else new_lease_of(gpu_mem, gpu_core, notes, prefix="--")
    if isinstance(asked, Reason):
        fail(asked.text)
    access = access_by(kubeconfig, context, server)
    where, own = named(access, "NAME", name, namespace)
    end(output, outcome(asking.create(access, where, own, asked, timeout if wait else 0.0)), wait=wait)


def _annotations(given: Sequence[str], model: str | None) -> "dict[str, str] | Reason":
    from tessera.model import names
    from tessera.reasons import invalid

    found = {} if model is None else {names.GPU_MODEL: model}
    for text in given:
        key, sign, value = text.partition("=")
        if not key or not sign:
            return invalid("--annotation", text, "KEY=VALUE")
        if key in found:
            return invalid("--annotation", text, f"{key} once")
        found[key] = value
    return found
