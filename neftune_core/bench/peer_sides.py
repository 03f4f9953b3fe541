"""Training in other libraries: TRL's `SFTTrainer` with noise, and a plain PEFT loop and LitGPT without noise.

`python -m neftune_core.bench.peer_sides SIDE SIZES` prints one line of JSON; see `train_sides`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.bench.plain_loop import padded_batch, peft_model
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
from neftune_core.errors import NotAvailable

if TYPE_CHECKING:
    from torch import Tensor

    from neftune_core.data.preparing import PreparedData
    from neftune_core.models.loading import LoadedModel

IN_FLOAT32 = {"bf16": False, "gradient_checkpointing": False}
LORA = IN_FLOAT32 | {"neftune_noise_alpha": ALPHA, "learning_rate": LORA_RATE}
FULL = {"neftune_noise_alpha": ALPHA, "learning_rate": FULL_RATE}
"""All other settings are TRL's defaults, which include bfloat16 autocast and gradient checkpointing."""

HEAD_PIECE = 128
"""Positions per chunk of the head, as in LitGPT's LoRA script."""


def peer_peft(sizes: Sizes) -> Found:
    """Train a PEFT adapter in a plain loop, with the model's own loss."""
    study, loaded, prepared = ready(sizes)
    model = peft_model(loaded.model, study.training).train()
    return _epoch(model, prepared, lambda batch: model(**batch).loss) | {"precision": loaded.precision}


def peer_litgpt(sizes: Sizes) -> Found:
    """Train LitGPT's LoRA model as in its LoRA script, but without the data loader and logging.

    Raises:
        NotAvailable: If LitGPT has no configuration for the model.
    """
    import torch
    from litgpt.config import name_to_config
    from litgpt.lora import GPT, Config, mark_only_lora_as_trainable
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
    from litgpt.utils import chunked_cross_entropy

    _, loaded, prepared = ready(sizes)
    own = Path(loaded.name).name.lower()
    name = next((known for known in name_to_config if known.lower() == own), "")
    if not name:
        raise NotAvailable(f"LitGPT has no configuration for {loaded.name}: choose another model.")
    maps = dict.fromkeys(("lora_query", "lora_key", "lora_value", "lora_projection", "lora_mlp"), True)
    with tempfile.TemporaryDirectory() as folder:
        loaded.model.save_pretrained(folder)
        convert_hf_checkpoint(Path(folder), model_name=name)
        weights = torch.load(Path(folder) / "lit_model.pth", weights_only=True)
    model = GPT(Config.from_name(name, lora_r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, **maps))
    model.load_state_dict(weights, strict=False)
    model = model.to(getattr(torch, loaded.precision)).train()
    mark_only_lora_as_trainable(model)

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        logits = model(batch["input_ids"], lm_head_chunk_size=HEAD_PIECE)
        logits[-1] = logits[-1][..., :-1, :]
        found: Tensor = chunked_cross_entropy(logits, batch["labels"][..., 1:])
        return found

    return _epoch(model, prepared, loss_of) | {"precision": loaded.precision}


def _epoch(model: Any, prepared: PreparedData, loss_of: Callable[[dict[str, Tensor]], Tensor]) -> Found:
    """Train on all rows once, in order, and return the token count, the duration and the loss of the first batch."""
    import torch

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LORA_RATE, weight_decay=0.0, fused=True)
    losses: list[float] = []
    started = time.perf_counter()
    for start in range(0, len(prepared.train), BATCH):
        loss = loss_of(padded_batch(prepared.train[start : start + BATCH]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    seconds = time.perf_counter() - started
    return {"tokens": sum(row.length for row in prepared.train), "seconds": seconds, "first": losses[0]}


def _trl_epoch(sizes: Sizes, precision: str, settings: dict[str, Any], adapters: bool) -> Found:
    import torch
    from peft import LoraConfig

    from neftune_core.models.architecture.anatomy import linear_maps

    _, loaded, prepared = ready(sizes)
    names = sorted({name.rpartition(".")[2] for name in linear_maps(loaded.model, "all")})
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names) if adapters else None
    model = loaded.model.to(getattr(torch, precision)).requires_grad_(not adapters)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trl_trainer(model, loaded, prepared, folder, settings, lora)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return {"tokens": sum(row.length for row in prepared.train), "seconds": seconds, "precision": precision}


def _trl_trainer(
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


PEER_SIDES: dict[str, Callable[[Sizes], Found]] = {
    "peer_peft": peer_peft,
    "peer_litgpt": peer_litgpt,
    "trl_lora_bfloat16": partial(_trl_epoch, precision="bfloat16", settings=LORA, adapters=True),
    "trl_lora_float32": partial(_trl_epoch, precision="float32", settings=LORA, adapters=True),
    "trl_full_default": partial(_trl_epoch, precision="float32", settings=FULL, adapters=False),
    "trl_full_float32": partial(_trl_epoch, precision="float32", settings=FULL | IN_FLOAT32, adapters=False),
}

if __name__ == "__main__":
    print_side(PEER_SIDES)
