"""Trust domains: who may share a GPU, or the GPUs of one MPS daemon, with whom. Pure.

What the operator sets is ``cluster`` (all share with all), ``namespace``, or ``label:KEY``, the value of a namespace's
label. A domain is a text: ``label/KEY=VALUE``, or ``namespace/NAME`` for a namespace by itself, which is also what one
without the label, or with an empty value, is; the two never collide.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tessera.reasons import Code, Reason

CLUSTER = "cluster"
NAMESPACE = "namespace"
_LABEL = "label:"
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Rule:
    """What makes a domain. Not ``separate``: all are one. An empty ``label``: the namespace itself."""

    separate: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and its labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


def rule_of(setting: str) -> Rule:
    """Reads the operator's setting; raises ``ValueError``."""
    if setting in (CLUSTER, NAMESPACE):
        return Rule(setting == NAMESPACE)
    key = setting.removeprefix(_LABEL)
    if key == setting or not _KEY.fullmatch(key):
        raise ValueError(
            f"trust_domain: found {setting!r}; allowed: cluster, namespace, or label:KEY with the key of a label"
        )
    return Rule(separate=True, label=key)


def of_namespace(name: str) -> str:
    """The domain that a namespace is by itself."""
    return f"namespace/{name}"


class Domains:
    """The domain of each namespace as it is now, by one rule. Namespaces need be told only where a label decides."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._known: dict[str, str] = {}

    def of(self, namespace: str) -> str | Reason:
        """The domain of a namespace's new pods; empty where all are one. Never guessed for a namespace not known."""
        if not self.rule.separate:
            return ""
        if not self.rule.label:
            return of_namespace(namespace)
        if (found := self._known.get(namespace)) is not None:
            return found
        return Reason(
            Code.UNKNOWN_DOMAIN,
            f"namespace {namespace} is not known yet, whose label {self.rule.label} says its trust domain",
        )

    def observe(self, namespace: Namespace) -> bool:
        """Takes a namespace as it is now; answers whether its domain is another than before."""
        value = namespace.labels.get(self.rule.label, "")
        domain = f"label/{self.rule.label}={value}" if value else of_namespace(namespace.name)
        changed = self._known.get(namespace.name) != domain
        self._known[namespace.name] = domain
        return changed

    def forget(self, name: str) -> None:
        """A namespace is gone."""
        self._known.pop(name, None)

    def names(self) -> Iterable[str]:
        """The namespaces that are known."""
        return tuple(self._known)
