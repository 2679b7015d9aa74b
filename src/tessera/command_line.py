"""Command lines of the processes: one option for each setting, and one sentence for what cannot be used.

What is not given comes from the environment or the default. Nothing is guessed: a misspelt or shortened option is an
error, and names the one that was probably meant.
"""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar, get_origin

from pydantic import ValidationError
from pydantic_settings import BaseSettings

S = TypeVar("S", bound=BaseSettings)


class Unusable(Exception):
    """The command line or a variable cannot be used; the text is one line for each fault, with the program's name."""


class CommandLine:
    """``settings``: the types whose fields are options; ``aliases``: further names of a field's option."""

    def __init__(
        self,
        prog: str,
        description: str | None,
        settings: Sequence[type[BaseSettings]],
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._prog, self._settings = prog, settings
        self._parser = _Parser(prog=prog, description=description, allow_abbrev=False)
        fields = {name: field for kind in settings for name, field in kind.model_fields.items()}
        for name, field in fields.items():
            names = [option(name), *([(aliases or {})[name]] if name in (aliases or {}) else [])]
            default = "" if field.is_required() or field.default in ("", None) else f" (default: {field.default})"
            text = f"{field.description or ''}{default}".strip().replace("%", "%%")
            self._parser.add_argument(*names, dest=name, default=argparse.SUPPRESS, metavar="VALUE", help=text)

    def read(self, argv: Sequence[str] | None = None) -> "Read":
        """The settings by their type. Raises ``Unusable``; for ``--help``, ``SystemExit``."""
        given = vars(self._parser.parse_args(argv))
        read: dict[type[BaseSettings], BaseSettings] = {}
        faults: dict[str, None] = {}
        for kind in self._settings:
            own: dict[str, Any] = {n: _value(kind, n, text) for n, text in given.items() if n in kind.model_fields}
            try:
                read[kind] = kind(**own)
            except ValidationError as error:
                faults |= dict.fromkeys(_sentence(problem) for problem in error.errors())
        if faults:
            raise Unusable("\n".join(f"{self._prog}: {fault}" for fault in faults))
        return Read(read)


class Read:
    """What a command line and the environment say."""

    def __init__(self, by_type: Mapping[type[BaseSettings], BaseSettings]) -> None:
        self._by_type = by_type

    def of(self, kind: type[S]) -> S:
        """The settings of one type."""
        found = self._by_type[kind]
        if not isinstance(found, kind):
            raise TypeError(f"settings of {kind.__name__}: found {type(found).__name__}")
        return found


def option(field: str) -> str:
    """``--agent-socket`` for ``agent_socket``."""
    return f"--{field.replace('_', '-')}"


class _Parser(argparse.ArgumentParser):
    """Says one sentence instead of the usage."""

    def error(self, message: str) -> NoReturn:
        raise Unusable(f"{self.prog}: {message}")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0].partition("=")[0]))
        return found

    def _unknown(self, word: str) -> str:
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        like = [name for name in known if name.startswith(word)] if word.startswith("--") else []
        like = like or difflib.get_close_matches(word, known, n=1)
        allowed = " or ".join(like) if like else "the options that --help lists"
        return f"found {word!r}; allowed: {allowed}"


def _value(kind: type[BaseSettings], name: str, text: str) -> str | list[str]:
    """Fields that hold several values take a comma list."""
    several = get_origin(kind.model_fields[name].annotation) in (list, tuple)
    return [part for part in text.split(",") if part] if several else text


def _sentence(problem: Any) -> str:
    """A fault of pydantic's as the field, what was found and what is allowed."""
    field = option(".".join(str(part) for part in problem["loc"])) if problem["loc"] else "options"
    text = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{field}: found none; allowed: a value"
    if not problem["loc"]:
        return text
    allowed = text.removeprefix("Input should be ")
    return f"{field}: found {problem['input']!r}; allowed: {allowed}"
