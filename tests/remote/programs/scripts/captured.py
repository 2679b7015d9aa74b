"""transformers: captured models give what they give uncaptured, in results of their own kinds."""

import json
import warnings

import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    set_seed,
)

import tessera.remote

WORDS, LENGTH = 64, 4


def models() -> dict[str, tuple[PreTrainedModel, dict[str, object]]]:
    """With the options of a call. Of those that make a causal mask, the one without looks at values for it."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    bert, llama = BertConfig(vocab_size=WORDS, **sizes), LlamaConfig(vocab_size=WORDS, **sizes)
    special = {"bos_token_id": 1, "eos_token_id": 2}
    gpt2 = GPT2Config(vocab_size=WORDS, n_positions=64, n_embd=32, n_layer=2, n_head=2, **special)
    mask = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    return {
        "bert": (BertModel(bert), {}),
        "gpt2": (GPT2LMHeadModel(gpt2), {"use_cache": False, "attention_mask": mask}),
        "llama": (LlamaForCausalLM(llama), {"use_cache": False, "attention_mask": mask}),
        "llama, its own mask": (LlamaForCausalLM(llama), {"use_cache": False}),
        "llama, cache": (LlamaForCausalLM(llama), {"use_cache": True, "attention_mask": mask}),
    }


def called(model: PreTrainedModel, options: dict[str, object], device: torch.device) -> tuple[list[float], bool]:
    """What it gives, and whether as a program."""
    model = model.to(device).eval()
    options = {name: one.to(device) if isinstance(one, torch.Tensor) else one for name, one in options.items()}
    fast = tessera.remote.capture(model)
    with torch.no_grad(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for words in ([[5, 6, 7, 8]], [[9, 10, 11, 12]], [[5, 5, 7, 8]]):
            given = torch.tensor(words, device=device)
            expected, made = model(given, **options), fast(given, **options)
            assert type(made) is type(expected)
            assert list(made) == list(expected)
            assert torch.equal(made[0].cpu(), expected[0].cpu())
    return made[0].flatten().tolist(), not any("runs operator by operator" in str(one.message) for one in told)


def main() -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[str, object] = {"device": device.type}
    set_seed(0)
    for name, (model, options) in models().items():
        found[name], program = called(model, options, device)
        assert program is (device.type == "cuda" and "," not in name), name
    print(json.dumps(found))


if __name__ == "__main__":
    main()
