"""Numbers of forms, while several threads find them."""

import threading

import pytest
import torch

from tessera.remote.client.arguments import Pattern, taken_apart
from tessera.remote.client.plans import Plan, Plans
from tessera.remote.client.tensor import RemoteTensor
from tessera.remote.protocol import records

pytestmark = pytest.mark.torch
ALONE_S = 0.5


def pattern(function, cuda):
    args, kwargs = ([2],), {"device": torch.zeros(1, device=cuda).device}
    return Pattern(taken_apart(function, args, kwargs), args, kwargs)


def test_a_form_that_is_found_while_another_is_being_sent_has_a_number_of_its_own(cuda):
    one, other = (pattern(function, cuda) for function in (torch.ops.aten.ones.default, torch.ops.aten.zeros.default))
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


def test_an_awaited_call_has_its_number_from_after_its_arguments_were_made(cuda, monkeypatch):
    monkeypatch.setattr(records, "MAX_KNOWN", 2)  # each new form takes the number of the one before
    view = torch.tensor([[0.0, 1.0], [2.0, 0.0]], device=cuda).t()
    assert view.nonzero().tolist() == [[0, 1], [1, 0]]


def test_an_optimizers_later_steps_find_the_forms_of_the_first(cuda):
    weights = [torch.nn.Parameter(torch.ones(2, device=cuda)) for _ in range(2)]
    optimizer = torch.optim.AdamW(weights)
    known = []
    for _ in range(4):
        optimizer.zero_grad()
        sum(weight.sum() for weight in weights).backward()
        optimizer.step()
        known.append(len(RemoteTensor.remote._plans.known))
    assert known[1] == known[-1]
