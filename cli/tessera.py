"""``tessera``: one program for every process of the project, and the demo.

Each command imports what it needs only when it runs, so that help is quick. A command line that cannot be used gets one
sentence and exit status 2.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tessera import __version__
from tessera.cli.run import run
from tessera.cli.serve import serve
from tessera.cli.simulate import simulate

app = typer.Typer(
    name="tessera",
    help="Shares and pools GPUs on Kubernetes: a pod asks for gpu-mem: 4Gi and is held to it.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PASS_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""The processes read their own options, which are their settings."""


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End when all pods have come out as they must.")] = False,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FORM", help="With --once: table or json.")
    ] = "table",
    manifests: Annotated[
        list[Path] | None,
        typer.Option(
            "--manifest", "-f", metavar="PATH", help="YAML file or folder instead of the examples; repeatable."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="NUMBER", help="Port of the dashboard; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Decides ties between equal nodes.", min=0)] = 0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Seconds to wait for the hosts, and for the pods.", min=1)
    ] = 120.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the components' log.")] = False,
) -> int:
    """Run an embedded cluster of simulated GPU hosts with the examples in it."""
    if output not in ("table", "json"):
        raise typer.BadParameter(f"found {output!r}; allowed: table or json", param_hint="--output")
    if output == "json" and not once:
        raise typer.BadParameter("found json; allowed: json only together with --once", param_hint="--output")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its notes about closed connections are no news
    from tessera.command_line import Unusable
    from tessera.simulator.demo import DemoError, Options, Output, run

    folders = {"manifests": tuple(manifests)} if manifests else {}
    options = Options(
        once=once, output=Output(output), port=port, seed=seed, timeout_s=timeout, verbose=verbose, **folders
    )
    try:
        return run(options)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    except DemoError as error:
        print(f"tessera demo: {error}", file=sys.stderr)
        return 1


@app.command()
def up(
    nodes: Annotated[int, typer.Option(metavar="COUNT", help="GPU nodes.", min=1, max=20_000)] = 100,
    gpus_per_node: Annotated[int, typer.Option(metavar="COUNT", help="GPUs of each node.", min=1, max=16)] = 8,
    gpu_mem: Annotated[str, typer.Option(metavar="QUANTITY", help="Memory of each GPU.")] = "80Gi",
    model: Annotated[str, typer.Option(metavar="NAME", help="Model of the GPUs.")] = "NVIDIA H100 80GB HBM3",
    pods: Annotated[int, typer.Option(metavar="COUNT", help="Bound pods there from the start.", min=0)] = 0,
    port: Annotated[
        int, typer.Option(metavar="NUMBER", help="Port of the extender; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    dashboard_port: Annotated[
        int, typer.Option(metavar="NUMBER", help="Port of the dashboard; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Decides ties between equal nodes.", min=0)] = 0,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds to wait for the start.", min=1)] = 120.0,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORM", help="text or json.")] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the components' log.")] = False,
) -> int:
    """Keep an embedded cluster of light hosts under the real scheduler up until it is told to end."""
    if output not in ("text", "json"):
        raise typer.BadParameter(f"found {output!r}; allowed: text or json", param_hint="--output")
    from tessera.command_line import Unusable
    from tessera.simulator.up import OptionError, Options, UpError, run

    options = Options(
        nodes, gpus_per_node, gpu_mem, model, pods, port, dashboard_port, seed, output == "json", timeout, verbose
    )
    try:
        return run(options)
    except (Unusable, UpError) as error:
        print(error if isinstance(error, Unusable) else f"tessera up: {error}", file=sys.stderr)
        return 2 if isinstance(error, Unusable | OptionError) else 1


app.command()(simulate)
app.command()(run)
app.command()(serve)


@app.command(context_settings=PASS_ON, add_help_option=False)
def scheduler(context: typer.Context) -> int:
    """Run the scheduler's extender and the webhook."""
    from tessera.scheduler.main import run

    return run(context.args)


@app.command("device-plugin", context_settings=PASS_ON, add_help_option=False)
def device_plugin(context: typer.Context) -> int:
    """Run a node's device plugin, on the kubelet's side."""
    from tessera.device_plugin.main import run

    return run(context.args)


@app.command("node-agent", context_settings=PASS_ON, add_help_option=False)
def node_agent(context: typer.Context) -> int:
    """Run a node's agent, on the driver's side."""
    from tessera.node_agent.main import run

    return run(context.args)


@app.command(context_settings=PASS_ON, add_help_option=False)
def dashboard(context: typer.Context) -> int:
    """Run the dashboard."""
    from tessera.dashboard.main import run

    return run(context.args)


@app.command("pool-controller", context_settings=PASS_ON, add_help_option=False)
def pool_controller(context: typer.Context) -> int:
    """Run the controller of slices on other nodes."""
    from tessera.remote.controller.main import run

    return run(context.args)


@app.command("pool-gate", context_settings=PASS_ON, add_help_option=False)
def pool_gate(context: typer.Context) -> int:
    """Let clients in to an executor, in a pod of the pool."""
    from tessera.remote.gate.main import run

    return run(context.args)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def invoke(argv: Sequence[str]) -> int:
    """Runs one command line; answers the exit status."""
    call: Callable[..., Any] = app
    try:
        status = call(args=list(argv) or ["--help"], standalone_mode=False, prog_name="tessera")
    except typer.Abort:
        return 130
    except Exception as error:
        # The parser's own errors know their sentence; typer does not publish their class.
        sentence = getattr(error, "format_message", None)
        if sentence is None:
            raise
        print(f"tessera: {sentence()}", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))
    return status if isinstance(status, int) else 0


def _reserve_standard_streams() -> None:
    """A stream that was closed leads nowhere; its number must not go to a socket or to a child's file."""
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")


def main() -> None:
    """The console script ``tessera``."""
    _reserve_standard_streams()
    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
