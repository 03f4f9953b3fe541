"""Real tokens a second of one LoRA arm, beside TRL's `SFTTrainer` on the same rows, in turn.

Each measurement is a process of its own: `python -m neftune_core.bench.train lab|trl MODEL ROWS`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.bench.table import Table, spread
from neftune_core.errors import LabError
from neftune_core.noise.settings import NoiseSettings

if TYPE_CHECKING:
    from neftune_core.data.preparing import Prepared
    from neftune_core.models.loading import LoadedModel
    from neftune_core.training.settings import StudySettings

FIRST_ROWS = 64
LONGEST = 512
RANK = 8
ALPHA = 5.0
# Settings of other numeric libraries that some machines carry, and that slow a current one down.
FOREIGN_TUNING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def measure_training(model: str, rows: Path | None, runs: int) -> Table:
    """One epoch over the first 64 rows (batch 4, cut at 512, LoRA r=8 on all linear maps), `runs` times in turn."""
    from neftune_core.models.device import describe_machine

    sides = ["lab"] + (["trl"] if find_spec("trl") and find_spec("peft") else [])
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(runs):
        for side in sides:
            found[side].append(_in_a_process(side, model, rows))
    table = Table(f"One LoRA arm on {model}, {FIRST_ROWS} rows", describe_machine())
    for side in sides:
        speeds = spread([run["tokens"] / run["seconds"] for run in found[side]])
        table.rows.append({"who": WORDS[side], "tokens": int(found[side][0]["tokens"])} | _named(speeds))
    if len(sides) == 2:
        ratios = [
            (lab["tokens"] / lab["seconds"]) / (trl["tokens"] / trl["seconds"])
            for lab, trl in zip(found["lab"], found["trl"], strict=True)
        ]
        table.rows.append({"who": "ratio, pair by pair", "tokens": ""} | _named(spread(ratios)))
    else:
        table.notes.append("TRL is not installed here, so there is nothing to compare with: pip install trl peft")
    return table


WORDS = {
    "lab": "this lab, one noise arm",
    "trl": "TRL SFTTrainer, bfloat16 weights, bf16=False, no gradient checkpointing, neftune_noise_alpha=5",
}


def _named(speeds: dict[str, float]) -> dict[str, float]:
    return {f"tokens/s, {name}": value for name, value in speeds.items()}


def _in_a_process(side: str, model: str, rows: Path | None) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_TUNING}
    command = [sys.executable, "-m", "neftune_core.bench.train", side, model, str(rows or "")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise LabError(f"The measurement of {side} failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _study(model: str, rows: str) -> StudySettings:
    from neftune_core.data.settings import DataSettings
    from neftune_core.models.settings import ModelSettings
    from neftune_core.training.settings import StudySettings, TrainingSettings

    source = f"file:{rows}" if rows else "starter:open-ended"
    return StudySettings(
        model=ModelSettings(source=model),
        data=DataSettings(source=source, rows=FIRST_ROWS, held_out_share=0, maximum_length=LONGEST),
        training=TrainingSettings(epochs=1, batch_size=4, lora_rank=RANK, lora_alpha=2 * RANK),
        noise=(NoiseSettings(strength=ALPHA),),
    )


def _once(side: str, model: str, rows: str) -> dict[str, float]:
    from neftune_core.data.preparing import prepare
    from neftune_core.models.loading import load
    from neftune_core.settings import Limits

    study = _study(model, rows)
    loaded = load(study.model)
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    tokens = sum(len(row.ids) for row in prepared.train)
    seconds = {"lab": _lab_seconds, "trl": _trl_seconds}[side](study, loaded, prepared)
    return {"tokens": tokens, "seconds": seconds}


def _lab_seconds(study: StudySettings, loaded: LoadedModel, prepared: Prepared) -> float:
    from neftune_core.arms.stack import AdapterStack
    from neftune_core.training.lockstep import Lockstep

    stack = AdapterStack(loaded, 1, rank=RANK, alpha=study.training.lora_alpha)
    run = Lockstep(study, stack, prepared, arms={noise.name: noise for noise in study.noise})
    started = time.perf_counter()
    for step in run.steps():
        run.step(step, 5e-4, lambda: False)
    return time.perf_counter() - started


def _trl_seconds(study: StudySettings, loaded: LoadedModel, prepared: Prepared) -> float:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from neftune_core.models.anatomy import linear_maps

    rows = [
        {"input_ids": row.ids.tolist(), "completion_mask": row.trained.astype(int).tolist()} for row in prepared.train
    ]
    names = sorted({name.rpartition(".")[2] for name in linear_maps(loaded.model, "all")})
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=4,
            num_train_epochs=1,
            learning_rate=5e-4,
            max_length=LONGEST,
            neftune_noise_alpha=ALPHA,
            bf16=False,
            gradient_checkpointing=False,
            completion_only_loss=True,
            report_to="none",
            save_strategy="no",
            use_cpu=loaded.device.type == "cpu",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=loaded.model.to(torch.bfloat16),
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names),
        )
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


if __name__ == "__main__":
    result: dict[str, Any] = _once(*sys.argv[1:4])
    print(json.dumps(result))
