"""``tessera run``: one command on this machine, held to a slice of its GPUs."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run, after --.")],
    gpu_mem: Annotated[str, typer.Option(metavar="QUANTITY", help="Memory, as 4Gi, over all its GPUs.")] = "",
    gpu_core: Annotated[str, typer.Option(metavar="PERCENT", help="Compute, 100 a GPU, over all its GPUs.")] = "",
    gpu_count: Annotated[str, typer.Option(metavar="COUNT", help="GPUs that share both.")] = "",
    gpu: Annotated[str, typer.Option(metavar="COUNT", help="Whole GPUs instead.")] = "",
    gpu_core_limit: Annotated[str, typer.Option(metavar="PERCENT", help="How far a burstable one may go.")] = "",
    qos: Annotated[str, typer.Option(metavar="CLASS", help="guaranteed, burstable or best-effort.")] = "",
    gpu_model: Annotated[str, typer.Option(metavar="NAMES", help="Models that will do.")] = "",
    enforcement: Annotated[str, typer.Option(metavar="LEVEL", help="Lowest level that will do.")] = "",
    socket: Annotated[Path | None, typer.Option(metavar="PATH", help="The agent's, if not the usual one.")] = None,
    pool: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="On the device served there, not on this machine.")
    ] = "",
    tls_ca: Annotated[Path | None, typer.Option(metavar="FILE", help="With --pool: CA of the host there.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="With --pool: certificate shown.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="With --pool: its key.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say on standard error what it got.")] = False,
    simulate: Annotated[bool, typer.Option("--simulate", help="On a simulated GPU, with an agent of its own.")] = False,
) -> int:
    """Run a command held to a slice of a GPU until it ends: this machine's, or with --pool another's."""
    files = {"--tls-ca": tls_ca, "--tls-cert": tls_cert, "--tls-key": tls_key}
    if pool:
        here = {"--gpu-core": gpu_core, "--gpu-count": gpu_count, "--gpu": gpu, "--gpu-core-limit": gpu_core_limit}
        here |= {"--qos": qos, "--gpu-model": gpu_model, "--enforcement": enforcement}
        _without({**here, "--socket": socket, "--verbose": verbose, "--simulate": simulate})
        return _in_pool(command, pool, gpu_mem, files)
    if any(files.values()):
        given = ", ".join(name for name, path in files.items() if path)
        raise typer.BadParameter("found it without --pool; allowed: only with it", param_hint=given)
    from tessera.cli.leasing import default_socket
    from tessera.cli.run_command import Wish
    from tessera.cli.run_command import run as run_command

    wish = Wish(gpu_mem, gpu_core, gpu_count, gpu, gpu_core_limit, qos, gpu_model, enforcement)
    if not simulate:
        return run_command(command, wish, socket or default_socket(), verbose=verbose)
    from tessera.simulator.lone_agent import LoneAgentError, lone_agent

    try:
        with lone_agent() as agent:
            return run_command(command, wish, agent.socket, agent.environment, verbose=verbose)
    except LoneAgentError as error:
        print(f"tessera run: {error}", file=sys.stderr)
        return 1


def _without(options: Mapping[str, object]) -> None:
    given = ", ".join(name for name, value in options.items() if value)
    if given:
        raise typer.BadParameter("found it with --pool; allowed: on this machine only", param_hint=given)


def _in_pool(command: list[str], pool: str, gpu_mem: str, files: dict[str, Path | None]) -> int:
    given = [path.absolute() for path in files.values() if path]
    if given and len(given) < len(files):
        lacking = ", ".join(name for name, path in files.items() if not path)
        raise typer.BadParameter("found none; allowed: all three files of TLS, or none of them", param_hint=lacking)
    from tessera.cli.pool_run import run as run_there
    from tessera.model.quantities import QuantityError, parse_up
    from tessera.remote.client.errors import ConnectError
    from tessera.remote.client.tcp import endpoint_of

    try:
        endpoint_of(pool, "--pool")
        mem_bytes = parse_up(gpu_mem) if gpu_mem else 0
    except ConnectError as error:
        raise typer.BadParameter(str(error)) from None
    except QuantityError as error:
        raise typer.BadParameter(str(error), param_hint="--gpu-mem") from None
    return run_there(command, pool, mem_bytes, given)
