"""Allocators of memory that programs preload beside the shim, before it and after it."""

from pathlib import Path

from tests.escape.cage import Cage, takers
from tests.escape.debian import ALLOCATORS
from tests.escape.rows.table import TAKE, Try, row
from tests.escape.verdict import Escaped, Outcome, Wall

_SHIM = "/usr/local/lib/tessera/libtessera.so"


def _beside(library: str, *, shim_first: bool) -> Try:
    """What LD_PRELOAD lists comes before what the file of the loader lists, which has the shim."""

    def attempt(cage: Cage) -> Outcome:
        preload = f"{_SHIM}:{library}" if shim_first else library
        body = cage.container(f"export LD_PRELOAD={preload}; exec {TAKE}", image="allocators", host=False)
        name = cage.start(cage.pod(body))
        outcome = cage.judge(name)
        if said := [line for line in cage.tenant.log(name).splitlines() if not line.startswith("took ")]:
            raise Escaped(f"it said {said}")
        (pid,) = takers(cage.tenant.get("Pod", name)["metadata"]["uid"])
        maps = Path(f"/proc/{pid}/maps").read_text()
        if absent := [one for one in (library, _SHIM) if one.rpartition("/")[2] not in maps]:
            raise Escaped(f"not loaded: {absent}")
        return Outcome(outcome.wall, f"both loaded; {outcome.evidence}")

    return attempt


for _name, _library in ALLOCATORS.items():
    for _first in (False, True):
        row(f"{_name} preloaded {'after' if _first else 'before'} the library", Wall.SHIM, "containerd, loader, shim")(
            _beside(_library, shim_first=_first)
        )
