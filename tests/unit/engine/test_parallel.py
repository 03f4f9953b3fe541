"""One study on two processes gives the numbers of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import ended

from neftune_core.data.settings import DataSettings
from neftune_core.engine.saving import ADAPTER
from neftune_core.engine.settings import MethodSettings, TrainingSettings
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering.requests import set_strength, stop_arm
from neftune_core.studies.study import run_study
from tests.stress.faults.setup import tiny_model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo processes are started with signals here")

NUMBERS = ("loss", "first_draw_loss", "train_loss", "held_out_loss", "gradient_norm", "weight_distance")


def study(place: Path, seeds: int = 1, **training: Any) -> StudySettings:
    """Return a study of eleven rows in batches of three; the last batch of an epoch has rows for one process only."""
    lines = [{"instruction": f"Say {'very ' * (n % 7)}{n}.", "output": f"It is {n}."} for n in range(12)]
    rows = place / "rows.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    values = {"epochs": 2, "batch_size": 3, "evaluations": 2, "evaluation_rows": 4, "clip_norm": 0.5}
    return StudySettings(
        seeds=seeds,
        model=ModelSettings(source=str(tiny_model(place / "model")), precision="float32"),
        data=DataSettings(source=f"file:{rows}", held_out_share=0.1),
        training=TrainingSettings(**(values | training)),
        measuring=MeasuringSettings(new_tokens=4),
        answers=AnswerSettings(new_tokens=4),
        noise=(
            NoiseSettings(strength=5),
            NoiseSettings(strength=5, kind="symmetric", length_rule="padded"),
            NoiseSettings(strength=5, kind="adversarial"),
            NoiseSettings(strength=5, schedule="adaptive"),
        ),
        methods=(MethodSettings(weight_decay=0.1),),
    )


@contextmanager
def launched(
    arguments: list[str], home: Path, program: tuple[str, ...] = ("-m", "neftune_core")
) -> Iterator[subprocess.Popen[str]]:
    """Run `neftune`, or another program, on two processes with torch's launcher."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "NEFTUNE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [*start, *program, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process, ended(process):
        yield process


ONE_OF_TWO = """
import os
from neftune_core import cli
from neftune_core.studies import study

def refuse(*_):
    raise MemoryError

if os.environ["RANK"] == "{rank}":
    study.base_of = refuse
cli.main()
"""


ONE_AFTER_THE_OTHER = """
import sys
from neftune_core import cli

studies = sys.argv[1:]
for study in studies:
    sys.argv = ["neftune", "train", study]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            print("refused:", study)
"""


def only_record(home: Path) -> Record:
    (folder,) = (path.parent for path in (home / "runs").glob("*/study.toml"))
    return Record(folder)


def numbers(record: Record) -> dict[tuple[Any, ...], float]:
    return {
        (event["seed"], event["event"], event["step"], arm, name): values[name]
        for event in record.events()
        if event["event"] in ("step", "evaluated")
        for arm, values in event["arms"].items()
        for name in NUMBERS
        if values.get(name) is not None
    }


TRAININGS: dict[str, dict[str, Any]] = {
    "adapters": {"seeds": 2, "epochs": 1},
    "all weights": {"method": "full", "learning_rate": 1e-4, "epochs": 1},
    "accumulated over two epochs": {"accumulation": 2},
}


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Record], str]:
    """Train all studies, and then one without rows, on two processes; return the records by title and the output."""
    place = tmp_path_factory.mktemp("two")
    program = place / "program.py"
    program.write_text(ONE_AFTER_THE_OTHER, encoding="utf-8")
    files = [place / f"{number}.toml" for number, _ in enumerate(TRAININGS)]
    for file, (title, training) in zip(files, TRAININGS.items(), strict=True):
        asked = study(place, **training).model_copy(update={"title": title})
        file.write_text(to_toml(asked), encoding="utf-8")
    empty = place / "empty.jsonl"
    empty.write_text('{"nothing": "here"}\n', encoding="utf-8")
    without_rows = study(place).model_copy(update={"data": DataSettings(source=f"file:{empty}")})
    (place / "refused.toml").write_text(to_toml(without_rows), encoding="utf-8")
    files.append(place / "refused.toml")
    with launched([*map(str, files)], place / "home", program=(str(program),)) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    records = [Record(path.parent) for path in (place / "home" / "runs").glob("*/study.toml")]
    return {record.study.title: record for record in records}, said


@pytest.mark.parametrize("title", TRAININGS)
def test_two_processes_give_the_numbers_of_one(
    on_two: tuple[dict[str, Record], str], tmp_path: Path, title: str
) -> None:
    both = on_two[0][title]
    alone = create(both.study, "", folder=tmp_path / "alone")
    assert list(run_study(alone, Limits(), lambda: False))[-1]["event"] == "finished"
    expected, found = numbers(alone), numbers(both)
    assert found.keys() == expected.keys()
    assert len(found) > 100
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_study_on_two_processes_stops_on_request_and_continues(tmp_path: Path) -> None:
    asked = study(tmp_path, epochs=5, checkpoint_steps=2)
    (tmp_path / "study.toml").write_text(to_toml(asked), encoding="utf-8")
    with launched(["train", str(tmp_path / "study.toml")], tmp_path / "home") as process:
        end = time.monotonic() + 120
        while not _steps(tmp_path / "home") and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=25)  # after 30 seconds the launcher would have killed them
    record = only_record(tmp_path / "home")
    assert (record.ending() or {}).get("event") == "stopped", said
    done = _steps(tmp_path / "home")
    with launched(["runs", "resume", record.id], tmp_path / "home") as again:
        said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert (record.ending() or {})["event"] == "finished"
    assert _steps(tmp_path / "home") > done > 0


def test_an_arm_is_stopped_and_live_noise_is_changed_in_both_processes(tmp_path: Path) -> None:
    """The numbers equal those of one process that repeats the changes at the same steps."""
    asked = study(tmp_path, epochs=40, evaluations=1).model_copy(update={"live": True, "seeds": 1})
    (tmp_path / "study.toml").write_text(to_toml(asked), encoding="utf-8")
    stopped = next(name for name in asked.arms if "adversarial" in name)
    with launched(["train", str(tmp_path / "study.toml")], tmp_path / "home") as process:
        end = time.monotonic() + 120
        while not _steps(tmp_path / "home") and time.monotonic() < end:
            time.sleep(0.05)
        both = only_record(tmp_path / "home")
        stop_arm(both, stopped)
        set_strength(both, 40.0)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    changes = [event for event in both.events() if event["event"] == "steered"]
    assert {arm: change for event in changes for arm, change in event["arms"].items()} == {
        stopped: {"stopped": True}, asked.live_arm: {"strength": 40.0}
    }  # fmt: skip
    alone = create(asked, "", folder=tmp_path / "alone")
    for event in changes:  # as after an interruption: they act again at the same steps
        alone.append(event)
    assert list(run_study(alone, Limits(), lambda: False))[-1]["event"] == "finished"
    found, expected = numbers(both), numbers(alone)
    assert found.keys() == expected.keys()
    last = max(event["step"] for event in changes) + 8  # rounding grows from step to step
    first_steps = [key for key in found if key[2] <= last]
    assert [found[key] for key in first_steps] == pytest.approx(
        [expected[key] for key in first_steps], rel=1e-3, abs=1e-4
    )
    assert (both.arm_folder(stopped, 0) / ADAPTER).is_file()


def test_a_finished_study_goes_on_with_two_processes_as_one_record(tmp_path: Path) -> None:
    first = create(study(tmp_path), "", folder=tmp_path / "home" / "runs")
    assert list(run_study(first, Limits(), lambda: False))[-1]["event"] == "finished"
    with launched(["runs", "continue", first.id, "--epochs", "1"], tmp_path / "home") as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (longer,) = (
        Record(path.parent) for path in (tmp_path / "home" / "runs").glob("*/study.toml") if path.parent != first.folder
    )
    assert (longer.ending() or {})["event"] == "finished"
    assert longer.study.training.steps == 8 + 4


def test_what_all_processes_refuse_ends_them_with_its_sentence(on_two: tuple[dict[str, Record], str]) -> None:
    records, said = on_two
    assert records.keys() == set(TRAININGS)  # of the refused study, no step was made: no record is left
    assert said.count("record: ") == len(TRAININGS)  # the first process alone reports results
    assert said.count("no known layout matches") == said.count("refused: ") == 2  # each process says why it ends


@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_process_cannot_prepare_ends_all_with_its_sentence(tmp_path: Path, rank: int) -> None:
    (tmp_path / "study.toml").write_text(to_toml(study(tmp_path)), encoding="utf-8")
    program = tmp_path / "program.py"
    program.write_text(ONE_OF_TWO.format(rank=rank), encoding="utf-8")
    with launched(["train", str(tmp_path / "study.toml")], tmp_path / "home", program=(str(program),)) as process:
        said, _ = process.communicate(timeout=100)
    assert process.returncode != 0
    assert not list((tmp_path / "home" / "runs").glob("*/study.toml"))  # no step was made: no record is left
    assert said.count("This machine ran out of memory") == 2  # each process says why it ends
    assert "Signal 9" not in said
    assert "SIGKILL" not in said  # none waited until it was killed


def _steps(home: Path) -> int:
    logs = (home / "runs").glob("*/events.jsonl")
    return sum(log.read_text(encoding="utf-8").count('"event": "step"') for log in logs)
