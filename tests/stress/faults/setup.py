"""The environment for fault injection: a separate home, a tiny model, twenty rows, and a reference study."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.settings import StudySettings

if TYPE_CHECKING:
    from neftune_core.studies.records.record import Record
    from neftune_core.sweeps.queue import LabJobs

OWNER = "a-visitor-of-the-bench"
WAIT_SECONDS = 300
PROMPTS = AnswerSettings(prompts=("Say the number 3.", "What is it?"), new_tokens=6)


@dataclass
class Environment:
    """The environment for fault injection: a temporary home folder and the model."""

    folder: Path
    model: ModelSettings
    limits: Limits = field(default_factory=Limits)
    stop_seconds: float = 2.0

    @cached_property
    def rows(self) -> Path:
        """Return twenty short rows."""
        path = self.folder / "rows.jsonl"
        lines = [{"instruction": f"Say the number {number}.", "output": f"It is {number}."} for number in range(20)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    def study(self, *, seeds: int = 2, **training: Any) -> StudySettings:
        """Return a study of two seeds of twelve steps, three arms, all kinds of dropout, and checkpoints."""
        values = {"epochs": 3, "evaluations": 3, "evaluation_rows": 4, "checkpoint_steps": 4, "lora_dropout": 0.2}
        return StudySettings(
            seeds=seeds,
            model=self.model,
            data=DataSettings(source=f"file:{self.rows}"),
            training=TrainingSettings(**(values | {"model_dropout": 0.1} | training)),
            measuring=MeasuringSettings(new_tokens=4),
            answers=AnswerSettings(new_tokens=4),
            noise=(NoiseSettings(strength=5), NoiseSettings(strength=1, unit="std", kind="gaussian")),
        )

    @cached_property
    def uninterrupted(self) -> list[dict[str, Any]]:
        """Return the log of the uninterrupted study without times."""
        return numbers(self.run(self.create()))

    @cached_property
    def whole(self) -> Record:
        """Return a finished record of one seed for comparisons."""
        return self.run(self.create(self.study(seeds=1)))

    def create(self, study: StudySettings | None = None) -> Record:
        """Create a record of the study, or of a different one."""
        from neftune_core.studies.records.record import create

        return create(study or self.study(), OWNER, self.limits)

    def run(self, record: Record) -> Record:
        """Run the study of a record to completion, and return the record."""
        from neftune_core.studies.study import run_study

        for _ in run_study(record, self.limits, lambda: False):
            pass
        return record

    @cached_property
    def jobs(self) -> LabJobs:
        """Return a queue of this environment."""
        from neftune_core.sweeps.queue import LabJobs

        return LabJobs(self.limits)

    def ends(self, record: Record, state: str = "finished") -> str:
        """Return "" if the job of `record` ends in this state, otherwise a description."""
        status = self.jobs.wait(record, WAIT_SECONDS)
        return "" if status.state == state else f"the study {status.state}: {status.message}"


def numbers(record: Record) -> list[dict[str, Any]]:
    """Return the log of a record without times."""
    return [{name: value for name, value in event.items() if name != "time"} for event in record.events()]


@contextmanager
def environment(model: ModelSettings | None = None) -> Iterator[Environment]:
    """Yield an environment in a separate home folder; the default model is a tiny one."""
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, NEFTUNE_HOME=name):
        folder = Path(name)
        yield Environment(folder, model or ModelSettings(source=str(tiny_model(folder / "tiny"))))


def tiny_model(folder: Path) -> Path:
    """Return a random Llama with two narrow layers and the tokenizer of the bundled model or the stand-in."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from neftune_core.models.loading import load

    if not folder.is_dir():
        tokenizer = load(ModelSettings()).tokenizer
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=len(tokenizer),
                    hidden_size=32,
                    intermediate_size=48,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    max_position_embeddings=256,
                    attention_dropout=0.0,
                    tie_word_embeddings=True,
                    **{name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
                )
            )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def still_held() -> str:
    """Return "" if another thread gets the accelerator within ten seconds, otherwise a description."""
    from neftune_core.models.accelerator import accelerator

    def take() -> None:
        with accelerator.held():
            pass

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    taker.join(10)
    return "the accelerator is still held" if taker.is_alive() else ""
