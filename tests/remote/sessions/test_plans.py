"""Numbers of forms, while several threads find them."""

import threading

import pytest
import torch

from tessera.remote.client.arguments import Call
from tessera.remote.client.plans import Plan, Plans

pytestmark = pytest.mark.torch
ALONE_S = 0.5


def call(function, cuda):
    return Call(function, ([2],), {"device": torch.zeros(1, device=cuda).device}, lambda tensor: None)


def test_a_form_that_is_found_while_another_is_being_sent_has_a_number_of_its_own(cuda):
    one, other = (call(function, cuda) for function in (torch.ops.aten.ones.default, torch.ops.aten.zeros.default))
    found: dict[str, Plan] = {}
    second = threading.Thread(target=lambda: found.update(other=plans.get(other)))

    def send(record: bytes) -> None:
        if not second.ident:
            second.start()
            second.join(ALONE_S)  # as long as it would take if nothing held it up

    plans = Plans(send)
    found["one"] = plans.get(one)
    second.join()
    assert found["one"].form != found["other"].form
