"""What the commands of ``kubectl tessera`` share: their options, how they end, and how they print."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tessera.cli.kubectl_reading import Access

T = TypeVar("T")
PIPE_WIDTH = 1000


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


Kubeconfig = Annotated[str, typer.Option("--kubeconfig", help="Path of a kubeconfig.", show_default=False)]
Context = Annotated[str, typer.Option("--context", help="Context within the kubeconfig.", show_default=False)]
Server = Annotated[str, typer.Option("--server", help="URL of an API server without sign-in.", show_default=False)]
Namespace = Annotated[
    str, typer.Option("-n", "--namespace", help="Namespace; default the context's.", show_default=False)
]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="Those of all namespaces.")]
OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json.")]


def access_by(kubeconfig: str, context: str, server: str) -> "Access":
    """Which API server the options name."""
    from tessera.cli.kubectl_reading import Access

    return Access(kubeconfig, context, server)


def namespace_by(access: "Access") -> str:
    """The namespace of who names none."""
    from tessera.kube.connection import ConfigurationError, default_namespace

    try:
        return default_namespace(access.settings())
    except ConfigurationError as error:
        fail(str(error))


def named(access: "Access", argument: str, text: str, namespace: str) -> tuple[str, str]:
    """Namespace and name of an object as a user names it."""
    before, _, name = text.rpartition("/")
    if "/" in before or not name:
        fail(f"{argument}: found {text!r}; allowed: NAME or NAMESPACE/NAME")
    if before and namespace and before != namespace:
        fail(f"{argument}: found {text!r} beside --namespace {namespace}; allowed: one of the two")
    return before or namespace or namespace_by(access), name


def outcome(work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work``; what the outside world refuses becomes one sentence."""
    from tessera.kube.connection import ConfigurationError
    from tessera.kube.errors import ApiError, KubeError

    try:
        return asyncio.run(work)
    except ApiError as error:
        fail(error.message or str(error))
    except (KubeError, ConfigurationError) as error:
        fail(str(error))


def fail(sentence: str) -> NoReturn:
    """Ends the command with status 1."""
    print(f"error: {sentence}", file=sys.stderr)
    raise typer.Exit(1)


def show(output: Output, value: Any, table: "Callable[[], RenderableType]") -> None:
    """Prints ``value`` as JSON, or ``table()``."""
    if output is Output.JSON:
        import msgspec

        plain = msgspec.to_builtins(value)
        print(json.dumps({"items": plain} if isinstance(plain, list) else plain, indent=2))
        return
    from rich.console import Console

    # A pipe gets whole lines: nothing is folded at a width that nobody sees.
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table())
