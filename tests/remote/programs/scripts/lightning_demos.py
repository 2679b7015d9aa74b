"""Lightning: its Trainer with its own demonstrations."""

import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning import pytorch as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.demos import BoringDataModule, BoringModel, DemoModel, LightningTransformer, Transformer
from lightning.pytorch.demos.boring_classes import ManualOptimBoringModel

TEXT = "the step of a program takes no longer where the wire is longer and nobody has to wait for it . " * 8


class Losses(Callback):
    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.found.append(float(outputs["loss"]) if outputs else 0.0)


def fit(module: pl.LightningModule, data: pl.LightningDataModule | None = None, **options: Any) -> list[float]:
    """The training's losses. What was saved is loaded, and training goes on from there for an epoch."""
    losses, saved = Losses(), ModelCheckpoint(dirpath="saved", save_last=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    for epochs, path in ((1, None), (2, "last")):
        trainer = pl.Trainer(
            accelerator="auto", devices=1, max_epochs=epochs, limit_train_batches=8, limit_val_batches=4,
            num_sanity_val_steps=0, callbacks=[losses, saved], **quiet, **options,
        )  # fmt: skip
        trainer.fit(module, datamodule=data, ckpt_path=path and saved.last_model_path)
    return losses.found


def transformer() -> LightningTransformer:
    """Lightning's, without what it draws in each step."""
    Path("data").mkdir()
    Path("data/wikitext-2.txt").write_text(TEXT + "\n")
    words = len({*TEXT.split(), "<eos>"})
    module = LightningTransformer(words)
    module.model = Transformer(words, ninp=32, nhid=32, dropout=0.0)
    return module


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {"device": "cuda" if torch.cuda.is_available() else "cpu"}
    programs = {
        "boring": lambda: fit(BoringModel(), BoringDataModule()),
        "boring, clipped": lambda: fit(BoringModel(), gradient_clip_val=0.1, accumulate_grad_batches=2),
        "boring, by hand": lambda: fit(ManualOptimBoringModel()),
        "boring, bfloat16": lambda: fit(BoringModel(), precision="bf16-mixed"),
        "demo": lambda: fit(DemoModel(), BoringDataModule()),
        "transformer": lambda: fit(transformer()),
    }
    for name, program in programs.items():
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            pl.seed_everything(0, verbose=False)
            found[name] = program()
            os.chdir("/")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
