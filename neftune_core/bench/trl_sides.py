"""TRL's `SFTTrainer` on the rows of a benchmark.

`python -m neftune_core.bench.trl_sides SIDE SIZES` prints one line of JSON, see `train_sides`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from neftune_core.bench.train_sides import (
    ALPHA,
    BATCH,
    FULL_RATE,
    LONGEST,
    LORA_RATE,
    RANK,
    Found,
    Sizes,
    print_side,
    ready,
)

if TYPE_CHECKING:
    from neftune_core.data.preparing import PreparedData
    from neftune_core.models.loading import LoadedModel

LORA = {"bf16": False, "gradient_checkpointing": False, "neftune_noise_alpha": ALPHA, "learning_rate": LORA_RATE}
FULL = {"neftune_noise_alpha": ALPHA, "learning_rate": FULL_RATE}
"""Beyond these, what TRL does by default: for all weights that is bfloat16 autocast and gradient checkpointing."""


def _epoch(sizes: Sizes, precision: str, settings: dict[str, Any], adapters: bool) -> Found:
    import torch
    from peft import LoraConfig

    from neftune_core.models.architecture.anatomy import linear_maps

    _, loaded, prepared = ready(sizes)
    names = sorted({name.rpartition(".")[2] for name in linear_maps(loaded.model, "all")})
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names) if adapters else None
    model = loaded.model.to(getattr(torch, precision)).requires_grad_(not adapters)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(model, loaded, prepared, folder, settings, lora)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return {"tokens": sum(row.length for row in prepared.train), "seconds": seconds, "precision": precision}


def _trainer(
    model: Any, loaded: LoadedModel, prepared: PreparedData, folder: str, settings: dict[str, Any], lora: Any
) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"input_ids": row.ids.tolist(), "completion_mask": row.trained.astype(int).tolist()} for row in prepared.train
    ]
    configuration = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        max_length=LONGEST,
        completion_only_loss=True,
        report_to="none",
        save_strategy="no",
        use_cpu=loaded.device.type == "cpu",
        disable_tqdm=True,
        **settings,
    )
    return SFTTrainer(
        model=model,
        args=configuration,
        train_dataset=Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
        peft_config=lora,
    )


TRL_SIDES: dict[str, Callable[[Sizes], Found]] = {
    "trl_lora_bfloat16": partial(_epoch, precision="bfloat16", settings=LORA, adapters=True),
    "trl_lora_float32": partial(_epoch, precision="float32", settings=LORA, adapters=True),
    "trl_full_default": partial(_epoch, precision="float32", settings=FULL, adapters=False),
    "trl_full_float32": partial(
        _epoch, precision="float32", settings=FULL | {"bf16": False, "gradient_checkpointing": False}, adapters=False
    ),
}

if __name__ == "__main__":
    print_side(TRL_SIDES)
