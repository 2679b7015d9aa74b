"""Modules that the tests of capture send."""

import torch

from benchmarks.remote_programs import Block


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))


def convolutions():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True),
        torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(64, 2),
    )  # fmt: skip


def encoder():
    return torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


class Held(torch.nn.Module):
    """Its parts are in lists of its own and behind a method that it keeps, too."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)])
        self.backwards = {"order": [self.layers[1], self.layers[0]]}
        self.last = self.doubled

    def doubled(self, x):
        return self.layers[0](x) * 2

    def forward(self, x):
        for layer in self.backwards["order"]:
            x = layer(x).relu()
        return self.last(x)


CASES = {
    "mlp": (mlp, (5, 6)),
    "convolutions": (convolutions, (2, 3, 8, 8)),
    "block": (Block, (2, 8, 32)),
    "encoder": (encoder, (2, 3, 8)),
    "held": (Held, (5, 6)),
    "lstm": (lambda: torch.nn.LSTM(4, 5, 2), (3, 2, 4)),
}


class Of(torch.nn.Module):
    """Whatever ``function`` does; it has a weight."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)
