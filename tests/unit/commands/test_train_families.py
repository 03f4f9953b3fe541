"""`neftune train` on a folder of every family of the families table, and of those as published, gives a study."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_tokenizers import bart_tokenizer

from neftune_core.cli import main
from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import to_toml
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import StudySettings
from tests.stress.families.recent import PUBLISHED
from tests.stress.families.tiny import FAMILIES

EVERY = {**FAMILIES, **PUBLISHED}
FAST = ("GPT-2", "Gemma 3n", "Qwen3-MoE", "Mamba", "Granite 4-H", "BERT", "T5", "Gemma 3, as published")
"""A selection of architectures. `test_recent_families.py` and `test_families_engine.py` have further fast families."""


def study_of(family: str, place: Path) -> Path:
    """Write a model of a family as a folder, and a study of it; return the file of the study."""
    EVERY[family].build().save_pretrained(place / "model")
    bart_tokenizer().save_pretrained(place / "model")
    study = StudySettings(
        model=ModelSettings(source=str(place / "model"), precision="float32", device="cpu"),
        data=DataSettings(source="starter:english-german", maximum_length=96, rows=12),
        training=TrainingSettings(steps=2, batch_size=4, learning_rate=1e-2, evaluations=1, evaluation_rows=2),
        answers=AnswerSettings(prompts=("Say it.",), new_tokens=4),
        measuring=MeasuringSettings(prompts=0, robustness=False),
        noise=(NoiseSettings(strength=5),),
    )
    (place / "study.toml").write_text(to_toml(study), encoding="utf-8")
    return place / "study.toml"


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in EVERY]
)
def test_a_folder_of_a_family_gives_a_study(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["neftune", "train", str(study_of(family, tmp_path))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr().err
    (folder,) = (path.parent for path in (tmp_path / "home" / "runs").glob("*/study.toml"))
    record = Record(folder)
    assert record.events()[-1]["event"] == "finished"
    assert set(record.answers(0)[0]["arms"]) == {"base", "control", "uniform-alpha-5"}
