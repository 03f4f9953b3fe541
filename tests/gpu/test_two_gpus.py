"""One study on two GPUs with one process each gives the numbers of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import to_toml
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import StudySettings
from tests.stress.faults.setup import tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two CUDA GPUs here"),
]
NUMBERS = ("loss", "train_loss", "held_out_loss", "gradient_norm", "weight_distance")
DEVICE = "cuda"


def study(place: Path, **training: Any) -> StudySettings:
    """Return a study of eleven rows in batches of three; the last batch of an epoch has rows for one process only."""
    lines = [{"instruction": f"Say {'very ' * (n % 7)}{n}.", "output": f"It is {n}."} for n in range(12)]
    rows = place / "rows.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    values = {"epochs": 2, "batch_size": 3, "evaluations": 2, "evaluation_rows": 4, "clip_norm": 0.5}
    return StudySettings(
        model=ModelSettings(source=str(tiny_model(place / "model")), precision="float32", device=DEVICE),
        data=DataSettings(source=f"file:{rows}", held_out_share=0.1),
        training=TrainingSettings(**(values | training)),
        answers=AnswerSettings(new_tokens=4),
        noise=(NoiseSettings(strength=5), NoiseSettings(strength=5, kind="adversarial")),
    )


def trained(asked: StudySettings, place: Path, processes: int) -> dict[tuple[Any, ...], float]:
    """Run the study with this many processes, and return every number of its curves."""
    place.mkdir()
    (place / "study.toml").write_text(to_toml(asked), encoding="utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*start, "-m", "neftune_core", "train", str(place / "study.toml")]
    environment = {**os.environ, "NEFTUNE_HOME": str(place)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (path.parent for path in (place / "runs").glob("*/study.toml"))
    return {
        (event["event"], event["step"], arm, name): values[name]
        for event in Record(folder).events()
        if event["event"] in ("step", "evaluated")
        for arm, values in event["arms"].items()
        for name in NUMBERS
        if values.get(name) is not None
    }


@pytest.mark.parametrize("training", [{}, {"method": "full", "learning_rate": 1e-4}, {"accumulation": 2}])
def test_two_gpus_give_the_numbers_of_one(tmp_path: Path, training: dict[str, Any]) -> None:
    asked = study(tmp_path, **training)
    alone, both = (trained(asked, tmp_path / str(processes), processes) for processes in (1, 2))
    assert len(alone) > 40
    assert both.keys() == alone.keys()
    assert both == pytest.approx(alone, rel=1e-3, abs=1e-4)  # products over other rows, summed in a different order
