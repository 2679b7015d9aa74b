"""Every operator of the database: prints what differs and, as the last lines, the rates. ``python -m`` with names: only
those."""

import os
import sys
import warnings
from collections.abc import Sequence

from tests.remote.server import serving

FORWARD, GRADIENT = 0.99, 0.98


def main(names: Sequence[str]) -> int:
    """Exit status 1 below the rates that are promised, 2 for a name that is none."""
    warnings.filterwarnings("ignore")
    with serving() as served:
        os.environ["TESSERA_POOL"] = served.address
        return _run(names)


def _run(names: Sequence[str]) -> int:
    import torch

    from tessera.remote.client.start import start

    torch.set_num_threads(1)
    start(alias=True)
    from tests.remote.opinfo.compare import Outcome, compare, operators

    found = operators()
    if unknown := [name for name in names if name not in found]:
        allowed = "operators of torch.testing's database that take float32, such as add or nn.functional.linear"
        print(f"ARGS: found {', '.join(unknown)}; allowed: {allowed}", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    for name in names or found:
        outcome = compare(found[name], "cuda")
        for kind, error in (("forward", outcome.forward_error), ("gradient", outcome.gradient_error)):
            if error:
                print(f"{kind} {name}: {error}", flush=True)
        outcomes.append(outcome)
    forward = _rate("forward", [(o.name, o.forward_error) for o in outcomes if o.forward])
    gradient = _rate("gradient", [(o.name, o.gradient_error) for o in outcomes if o.gradient])
    return int(forward < FORWARD or gradient < GRADIENT)


def _rate(kind: str, results: list[tuple[str, str]]) -> float:
    failed = [name for name, error in results if error]
    rate = 1 - len(failed) / max(len(results), 1)
    print(f"{kind}: {len(results) - len(failed)} of {len(results)}, {rate:.1%}; not: {', '.join(failed) or 'none'}")
    return rate


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
