"""What is taken away from a study: the script that trains it again elsewhere, and the report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from neftune_core.data.settings import DataSettings
from neftune_core.errors import RecordError
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.export.report import report, write_report
from neftune_core.export.script import reason_against, script_archive, script_folder
from neftune_core.home import assets
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.training.record import Record, create
from neftune_core.training.settings import RegulariserSettings, StudySettings, TrainingSettings
from neftune_core.training.study import run_study
from neftune_core.training.sweep_table import write_table

PAYLOAD = "</script><img src=x onerror=alert(1)>"
ARMS = (
    NoiseSettings(strength=5),
    NoiseSettings(strength=0.05, unit="std", kind="gaussian", schedule="linear", tokens="prompt"),
    NoiseSettings(strength=0.3, unit="relative", sites="embedding, 2"),
    NoiseSettings(strength=5, kind="adversarial"),
)


def studied(place: Path, **changes: Any) -> Record:
    """A short study, trained; its rows differ in length, so that batches are padded."""
    lines = [{"instruction": f"Say {'very ' * (n % 7)}{n}.", "output": f"It is {n}."} for n in range(20)]
    (place / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    given = {
        "title": PAYLOAD,
        "model": ModelSettings(precision="float32"),
        "seed": 3,
        "data": DataSettings(source=f"file:{place / 'rows.jsonl'}"),
        "training": TrainingSettings(
            steps=7, warmup=0.3, evaluations=2, evaluation_rows=4, accumulation=2, clip_norm=0.5
        ),
        "answers": AnswerSettings(prompts=(PAYLOAD,), new_tokens=4),
        "noise": ARMS,
        "regularisers": (RegulariserSettings(weight_decay=0.1),),
    }
    made = create(StudySettings(**{**given, **changes}), "", folder=place / "runs")
    assert [event["event"] for event in run_study(made, Limits(), lambda: False)][-1] == "finished"
    return made


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A study of several kinds of arms."""
    return studied(tmp_path_factory.mktemp("study"))


def run_as_written(record: Record, folder: Path) -> dict[str, Any]:
    """What the script says that it found."""
    script_folder(record, folder)
    command = [sys.executable, "-W", "ignore", "standalone.py"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    return dict(json.loads((folder / "losses.json").read_text(encoding="utf-8")))


def check_losses(record: Record, losses: dict[str, Any]) -> None:
    events = record.events()
    steps = [event["arms"] for event in events if event["event"] == "step"]
    last = [event["arms"] for event in events if event["event"] == "evaluated"][-1]
    for name, found in losses.items():
        # Float32 sums in another order; a wrong order, adapter or draw is off by hundredths.
        assert found["losses"] == pytest.approx([arms[name]["loss"] for arms in steps], abs=1e-3), name
        assert found["held_out_loss"] == pytest.approx(last[name]["held_out_loss"], abs=1e-3), name


def test_the_script_finds_the_losses_of_the_study_for_every_arm_that_it_can_train(
    record: Record, tmp_path: Path
) -> None:
    losses = run_as_written(record, tmp_path / "script")
    assert list(losses) == [name for name in record.arms if "adversarial" not in name]
    check_losses(record, losses)
    assert losses["uniform-alpha-5"]["losses"][0] != losses["control"]["losses"][0]  # the noise was there
    assert (tmp_path / "script" / "trained" / "control" / "adapter_config.json").is_file()


def test_the_script_trains_all_weights_where_the_study_does(tmp_path: Path) -> None:
    training = TrainingSettings(method="full", steps=4, learning_rate=1e-4, evaluations=1, evaluation_rows=4)
    record = studied(tmp_path, training=training, noise=ARMS[:1], regularisers=())
    check_losses(record, run_as_written(record, tmp_path / "script"))


def test_the_archive_says_what_it_leaves_out(record: Record, tmp_path: Path) -> None:
    with zipfile.ZipFile(script_archive(record, tmp_path / "study.zip")) as archive:
        names = {Path(name).name for name in archive.namelist()}
        note = next(name for name in archive.namelist() if name.endswith("READ-ME.txt"))
        words = archive.read(note).decode()
    assert {"standalone.py", "study.toml", "study.json", "train.jsonl", "adapter_model.safetensors"} <= names
    assert "adversarial-alpha-5-k2-0.5 is left out: it needs further passes" in words
    assert reason_against(NoiseSettings(schedule="adaptive")) == "its schedule follows the loss"


def test_rows_that_have_changed_are_refused(record: Record, tmp_path: Path) -> None:
    copied = Record(Path(shutil.copytree(record.folder, tmp_path / record.id)))
    file = next((copied.folder / "data").rglob("*.jsonl"))
    file.write_text('{"instruction": "a", "output": "b"}\n' * 2 + file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(RecordError, match="have changed"):
        script_folder(copied, tmp_path / "script")


def test_the_report_holds_everything_and_asks_nobody(record: Record, tmp_path: Path) -> None:
    text = write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "<script src" not in text
    assert "<link" not in text
    for arm in record.arms:
        assert f"</span>{arm}</th>" in text
    last = [event["arms"] for event in record.events() if event["event"] == "evaluated"][-1]
    assert f"<td>{last['control']['held_out_loss']:.4f}</td>" in text
    assert "[[noise]]" in text


def test_the_report_of_a_study_says_the_verdict_first(record: Record) -> None:
    text = report(record)
    assert text.index("<h2>The verdict</h2>") < text.index("<h2>Losses</h2>") < text.index("<h2>Answers</h2>")
    assert "There is nothing to judge" in text  # it made a few steps


def test_a_recorded_sweep_is_reported_whole(tmp_path: Path) -> None:
    sweep = Record(assets() / "recorded" / "1-std-format")
    text = write_report(sweep, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "A sweep of the NEFTune Lab" in text
    assert "Arms that differ from the control by more than chance: 3 of 4" in text
    assert "</span>uniform-std-0.05</th><td>8</td><td>0.973<br><small><b>+0.0125</b> [+0.0026, +0.022]" in text
    assert text.count('<div class="plot"') == 2  # the last and the best epoch
    assert "neftune sweep sweep.toml" in text
    table = json.loads(write_table(sweep, tmp_path / "table.json").read_text(encoding="utf-8"))
    assert [row["arm"] for row in table["settings"]][:2] == ["control", "uniform-std-0.01"]
    assert len(table["settings"][1]["seeds"]) == 8


def test_texts_of_strangers_are_texts_in_the_report(record: Record) -> None:
    text = report(record)
    assert "<img" not in text
    assert "&lt;/script&gt;&lt;img src=x" in text
    assert text.count("</script>") == 3  # the three that the page itself closes


def test_a_record_without_a_measured_loss_has_no_report(tmp_path: Path) -> None:
    empty = create(StudySettings(), "", folder=tmp_path)
    with pytest.raises(RecordError, match="nothing to report"):
        report(empty)
