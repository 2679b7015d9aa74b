"""Operators of PyTorch's database on ``cuda`` against this machine's processor: ``operators_client.py NAME...``, a JSON
line for each. It ends early where a GPU fails in a way that outlives the operator.
"""

import json
import sys
import warnings
from dataclasses import asdict

import torch

torch.backends.cudnn.allow_tf32 = False  # before the database is there, which lets nobody set it
from tests.remote.opinfo.compare import compare, operators  # noqa: E402

LASTING = ("CUDA error", "DeviceLost", "device-side assert")


def main(names: list[str]) -> None:
    warnings.filterwarnings("ignore")
    found = operators()
    for name in names or found:
        outcome = asdict(compare(found[name], "cuda"))
        print(json.dumps(outcome), flush=True)
        errors = outcome["forward_error"] + outcome["gradient_error"]
        if any(word in errors for word in LASTING):
            sys.exit(3)


if __name__ == "__main__":
    main(sys.argv[1:])
