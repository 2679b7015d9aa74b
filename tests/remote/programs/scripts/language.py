"""transformers: the Trainer and generate, with models of random weights."""

import json
import tempfile

import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    set_seed,
)

WORDS = 64


class Sentences(Dataset):
    """Of random words; classified, the class is whether the first word is even."""

    def __init__(self, classes: bool) -> None:
        self._words = torch.randint(5, WORDS, (48, 12), generator=torch.Generator().manual_seed(0))
        self._classes = classes

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = self._words[index]
        labels = words[0] % 2 if self._classes else words
        return {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": labels}


def gpt2() -> PreTrainedModel:
    sizes = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    calm = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, bos_token_id=1, eos_token_id=2, **sizes, **calm))


def bert() -> PreTrainedModel:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(vocab_size=WORDS, num_labels=2, **sizes, **calm))


def llama() -> PreTrainedModel:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, num_key_value_heads=2, **sizes))


def t5() -> PreTrainedModel:
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=WORDS, dropout_rate=0.0, decoder_start_token_id=0, **sizes))


def train(model: PreTrainedModel, *, classes: bool, **options: object) -> list[float]:
    """What the Trainer logged, and its evaluation's loss; it saves and goes on from what it saved."""
    data = Sentences(classes)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=8, num_train_epochs=2, learning_rate=1e-3, logging_steps=2,
            save_steps=6, report_to=[], disable_tqdm=True, log_level="error", use_cpu=not torch.cuda.is_available(),
            **options,
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data)
        trainer.train()
        trainer.train(resume_from_checkpoint=f"{folder}/checkpoint-6")
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        norms = [float(entry["grad_norm"]) for entry in trainer.state.log_history if "grad_norm" in entry]
        return [*losses, *norms, trainer.evaluate()["eval_loss"]]


def generated(model: PreTrainedModel, device: torch.device) -> dict[str, list[list[int]]]:
    """Words by each way of choosing them."""
    model = model.to(device).eval()
    prompt = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]], device=device)
    ways = {
        "greedy": {"do_sample": False},
        "beams": {"do_sample": False, "num_beams": 3, "no_repeat_ngram_size": 2},
        "sampled": {"do_sample": True, "top_k": 10, "top_p": 0.9, "temperature": 1.3},
    }
    found = {}
    for name, way in ways.items():
        torch.manual_seed(1)
        mask = torch.ones_like(prompt)
        found[name] = model.generate(
            prompt, attention_mask=mask, max_new_tokens=12, pad_token_id=0, eos_token_id=None, **way
        ).tolist()
    return found


def main() -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[str, object] = {"device": device.type}
    set_seed(0)
    found["gpt2"] = train(gpt2(), classes=False, optim="adamw_torch", gradient_accumulation_steps=2)
    found["gpt2, checkpointed"] = train(gpt2(), classes=False, gradient_checkpointing=True)
    found["bert"] = train(bert(), classes=True, lr_scheduler_type="cosine", warmup_steps=3)
    found["llama, bfloat16"] = train(llama(), classes=False, bf16=True)
    found["t5"] = train(t5(), classes=False, optim="adafactor")
    set_seed(0)
    for name, model in (("gpt2", gpt2()), ("llama", llama()), ("t5", t5())):
        for way, words in generated(model, device).items():
            found[f"{name}, {way}"] = words
    print(json.dumps(found))


if __name__ == "__main__":
    main()
