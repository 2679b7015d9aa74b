"""What a container's ``PYTHONPATH`` would be without us. CDI's edits replace it, so ours must carry it on. Pure."""

from tessera.device_plugin.cluster import Environment
from tessera.device_plugin.refusals import Refusal
from tessera.reasons import Code, Reason

NAME = "PYTHONPATH"


def of_pod(container: str, environment: Environment) -> str | Refusal | None:
    """What the pod sets it to; ``None`` if it leaves that to the image. The last entry of a name counts, and any entry
    counts more than what comes from whole sources."""
    where = f"container {container}: env[{NAME}]"
    found = [value for name, value in environment.own if name == NAME]
    if found:
        value = found[-1]
        if value is None:
            return _end(f"{where}: found valueFrom; allowed: a value, beside a slice on another node")
        if "$(" in value or "$$" in value:
            return _end(f"{where}: found {value!r}; allowed: a value without $( and $$, beside a slice on another node")
        return value
    if any(NAME.startswith(prefix) for prefix in environment.prefixes):
        return _end(
            f"{where}: found envFrom, which may set it; allowed: an entry with a value, which may be empty, "
            "beside a slice on another node"
        )
    return None


def _end(text: str) -> Refusal:
    return Refusal(Reason(Code.INVALID_REQUEST, text), permanent=True)
