"""Training with other libraries: TRL's `SFTTrainer` with noise, and a plain PEFT loop without noise.

`python -m neftune_core.bench.peer_sides SIDE SIZES` prints one line of JSON; see `train_sides`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from neftune_core.bench.plain_loop import lora_config, padded_batch, peft_model, train_steps
from neftune_core.bench.train_sides import ALPHA, BATCH, FULL_RATE, LONGEST, LORA_RATE, Result, Sizes, print_side, ready

IN_FLOAT32 = {"bf16": False, "gradient_checkpointing": False}
LORA = IN_FLOAT32 | {"neftune_noise_alpha": ALPHA, "learning_rate": LORA_RATE}
FULL = {"neftune_noise_alpha": ALPHA, "learning_rate": FULL_RATE}
"""Settings that differ from TRL's defaults, which include bfloat16 autocast and gradient checkpointing."""


def peer_peft(sizes: Sizes) -> Result:
    """Train a PEFT adapter on all rows once in a plain loop, with the model's own loss.

    Raises:
        LabError: If the model cannot be loaded, or the data cannot be read.
    """
    study, loaded, prepared = ready(sizes)
    model = peft_model(loaded.model, study.training).train()
    batches = (padded_batch(prepared.train[start : start + BATCH]) for start in range(0, len(prepared.train), BATCH))
    started = time.perf_counter()
    first, *_ = train_steps(model, batches, study.training)
    seconds, tokens = time.perf_counter() - started, sum(row.length for row in prepared.train)
    return {"tokens": tokens, "seconds": seconds, "first": first, "precision": loaded.precision}


def _trl_epoch(sizes: Sizes, precision: str, settings: dict[str, Any], adapters: bool) -> Result:
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    study, loaded, prepared = ready(sizes)
    rows = [
        {"input_ids": row.ids.tolist(), "completion_mask": row.trained.astype(int).tolist()} for row in prepared.train
    ]
    with tempfile.TemporaryDirectory() as folder:
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
        trainer = SFTTrainer(
            model=loaded.model.to(getattr(torch, precision)).requires_grad_(not adapters),
            args=configuration,
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=lora_config(loaded.model, study.training) if adapters else None,
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return {"tokens": sum(row.length for row in prepared.train), "seconds": seconds, "precision": precision}


PEER_SIDES: dict[str, Callable[[Sizes], Result]] = {
    "peer_peft": peer_peft,
    "trl_lora_bfloat16": partial(_trl_epoch, precision="bfloat16", settings=LORA, adapters=True),
    "trl_lora_float32": partial(_trl_epoch, precision="float32", settings=LORA, adapters=True),
    "trl_full_default": partial(_trl_epoch, precision="float32", settings=FULL, adapters=False),
    "trl_full_float32": partial(_trl_epoch, precision="float32", settings=FULL | IN_FLOAT32, adapters=False),
}

if __name__ == "__main__":
    print_side(PEER_SIDES)
