"""Programs of a machine with a GPU or with a slice elsewhere: ``remote_client.py PROGRAM [DEVICE [SIZE]]``. Each makes
its model and says ``ready``; for each line that it is told, it does its steps and says how long one took.

Nothing here knows where the GPU is, but for ``captured``.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

Step = Callable[[], Any]
SMALL = "small"
"""Sizes with which a processor can try the programs."""


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def resnet(device: str, size: str, from_here: bool = False) -> tuple[Step, int]:
    """Training of ResNet-50 on 256 pictures a step, bfloat16 by autocast, channels last; ``from_here``: the pictures
    come from this machine's memory, as bytes, at every step."""
    from torchvision.models import resnet50

    batch, side = (2, 32) if size == SMALL else (256, 224)
    model = resnet50().to(device=device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    pictures = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    labels = torch.randint(0, 1000, (batch,), device=device)
    there = pictures.to(device)

    def step() -> torch.Tensor:
        given = (pictures.to(device) if from_here else there).to(torch.float32) / 255
        given = given.to(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(given), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, 10


def resnet_fed(device: str, size: str) -> tuple[Step, int]:
    """``resnet`` with its pictures from here."""
    return resnet(device, size, from_here=True)


def _bert(device: str, size: str) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64)
    return BertForSequenceClassification(config if size == SMALL else BertConfig()).to(device)


def _words(device: str, batch: int, words: int, most: int = 30000) -> torch.Tensor:
    return torch.randint(0, most, (batch, words), device=device)


def bert(device: str, size: str) -> tuple[Step, int]:
    """Fine-tuning of BERT-base on 32 texts of 128 words a step, bfloat16 by autocast."""
    model = _bert(device, size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    words = _words(device, *((2, 8) if size == SMALL else (32, 128)))
    labels = torch.randint(0, 2, (len(words),), device=device)

    def step() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            loss: torch.Tensor = model(words, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, 10


def bert_forward(device: str, size: str, captured: bool = False) -> tuple[Step, int]:
    """BERT-base in half precision on 32 texts of 128 words."""
    model = _bert(device, size).to(torch.bfloat16).eval()
    words = _words(device, *((2, 8) if size == SMALL else (32, 128)))
    called = model
    if captured:
        from tessera.remote import capture

        called = capture(model)

    def step() -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = called(words).logits
        return logits.float().abs().sum()

    return step, 20


def bert_captured(device: str, size: str) -> tuple[Step, int]:
    """``bert_forward`` as one program."""
    return bert_forward(device, size, captured=True)


def decode(device: str, size: str) -> tuple[Step, int]:
    """A Llama of 7 billion parameters in bfloat16 writes 32 words after 64, one text at a time."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, vocab_size=100) if size == SMALL else LlamaConfig()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    prompt = _words(device, 1, 64, 100)
    count = 4 if size == SMALL else 32

    def step() -> torch.Tensor:
        return model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count, min_new_tokens=count,
            do_sample=False, pad_token_id=0,
        ).sum()  # fmt: skip

    return step, 1


def main(program: str, device: str = "cuda", size: str = "") -> None:
    """The loss or the like is read at the end of each round, as a program does now and then."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.manual_seed(0)
    step, steps = PROGRAMS[program](device, size)
    for _ in range(3):
        found = step().item()
    say(ready=True, found=found)
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(steps):
            last = step()
        found = last.item()
        say(seconds=(time.perf_counter() - began) / steps, found=found)


PROGRAMS = {one.__name__: one for one in (resnet, resnet_fed, bert, bert_forward, bert_captured, decode)}

if __name__ == "__main__":
    main(*sys.argv[1:])
