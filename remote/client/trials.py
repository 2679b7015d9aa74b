"""A module tried out: a copy that may do to itself what it likes, and whether a module did something to itself.

Modules and their lists, dicts and sets are copied; tensors and all else are the same objects in both.
"""

import contextlib
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch

_CONTAINERS = (dict, OrderedDict, defaultdict, list, set)
_PLAIN = (bool, int, float, complex, str)
_NOTHING = object()
_FOUND_AGAIN = {"_flat_weights", "_flat_weight_refs"}
"""What torch's recurrent modules keep of their own weights, and replace where these are other ones."""
_here = threading.local()


@contextlib.contextmanager
def trying() -> Iterator[None]:
    """This thread tries a module out meanwhile."""
    _here.on = True
    try:
        yield
    finally:
        _here.on = False


def is_trying() -> bool:
    return getattr(_here, "on", False)


def copied(module: torch.nn.Module) -> torch.nn.Module:
    """The copy. Another thread may run the module meanwhile."""
    made: torch.nn.Module = _copied(module, {})
    return made


def _copied(value: Any, done: dict[int, Any]) -> Any:
    """``done``: the copies, by the identity of what they are of."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, torch.nn.Module):
        done[id(value)] = made = object.__new__(type(value))
        vars(made).update({name: _copied(one, done) for name, one in list(vars(value).items())})
        return made
    if isinstance(value, MethodType):
        return MethodType(value.__func__, _copied(value.__self__, done))
    if type(value) not in _CONTAINERS:
        return value
    done[id(value)] = made = value.copy()
    if isinstance(made, dict):
        made.update({key: _copied(one, done) for key, one in list(made.items())})
    elif isinstance(made, list):
        made[:] = [_copied(one, done) for one in made]
    return made


class Attributes:
    """Those of all parts of a module, as they are now."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._kept: list[tuple[str, Any, Any]] = []
        self._seen: set[int] = set()
        for name, part in module.named_modules():
            self._keep(name, vars(part))

    def _keep(self, name: str, value: Any) -> None:
        if type(value) not in _CONTAINERS or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append((name, value, value.copy()))
        named = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in list(named):
            if key not in _FOUND_AGAIN:
                self._keep(_within(name, key), one)

    def assigned(self) -> str:
        """Where something else is by now; empty if nowhere."""
        return next((where for kept in self._kept if (where := _other(*kept))), "")


def _within(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _other(name: str, now: Any, before: Any) -> str:
    """The place in a container."""
    if isinstance(now, dict):
        keys = [key for key in {**before, **now} if key not in _FOUND_AGAIN]
        return next(
            (_within(name, key) for key in keys if not _is_one(now.get(key, _NOTHING), before.get(key, _NOTHING))), ""
        )
    same = now == before if isinstance(now, set) else len(now) == len(before) and all(map(_is_one, now, before))
    return "" if same else name


def _is_one(now: Any, before: Any) -> bool:
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    return not _other("all", now, before) if type(now) in _CONTAINERS else isinstance(now, _PLAIN) and now == before
