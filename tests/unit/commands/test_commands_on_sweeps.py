"""Sweep records in every command: it works, or asks for the name of a study."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from short_study import short_rows, short_study

from neftune_core.commands.common import record_by_name, study_by_name
from neftune_core.commands.compare import CompareCommand, compare
from neftune_core.commands.records import (
    ReportCommand,
    RunsCommand,
    ScriptCommand,
    VerdictCommand,
    report,
    runs,
    runs_table,
    script,
    verdict,
)
from neftune_core.commands.sweep import SweepCommand
from neftune_core.commands.sweep import sweep as sweep_command
from neftune_core.errors import InvalidSetting, RecordError
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import all_records, create
from neftune_core.sweeps.record import Sweep, create_sweep
from neftune_core.sweeps.settings import SweepSettings
from neftune_core.sweeps.sweep import run_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """Return a sweep of two seeds and two noise arms on a tiny model."""
    folder = tmp_path_factory.mktemp("sweep")
    study = short_study(short_rows(folder), seeds=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEFTUNE_HOME", str(folder / "home"))
        made = create_sweep(SweepSettings(title="Two strengths", axes={"noise.strength": (5, 15)}, study=study), "")
        assert list(run_sweep(made, Limits(), lambda: False))[-1]["event"] == "finished"
        yield made


def _prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("Say the number 3.\n", encoding="utf-8")
    return file


def test_the_verdict_on_a_sweep_is_that_of_its_table(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(VerdictCommand(record=sweep.id)) == 0
    text = capsys.readouterr().out
    assert "alpha 5, alpha 15 took" in text
    assert verdict(VerdictCommand(record=sweep.id, json=True, measure="train_loss")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["named_before"] is False
    assert set(found["arms"]) == {"uniform-alpha-5", "uniform-alpha-15"}
    assert found["arms"]["uniform-alpha-5"]["epochs"]["last"]["seeds"] == [0, 1]
    assert set(found["measures"]) == {"base", "control", "uniform-alpha-5", "uniform-alpha-15"}


def test_one_study_of_a_sweep_is_named_by_both(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = f"{sweep.id}/001-seed-1"
    assert record_by_name(one).folder == sweep.folder / "cells" / "001-seed-1"
    assert study_by_name(one).name == one
    assert verdict(VerdictCommand(record=one)) == 0
    assert report(ReportCommand(record=one, out=tmp_path / "one.html")) == 0
    assert script(ScriptCommand(record=one, folder=tmp_path / "script")) == 0
    assert (tmp_path / "script" / "standalone.py").is_file()
    target = tmp_path / "adapter"
    assert runs(RunsCommand(action="export", record=one, form="adapter", arm="uniform-alpha-15", to=target)) == 0
    assert (target / "adapter_model.safetensors").is_file()
    capsys.readouterr()
    both = (f"{sweep.id}/001-seed-0", one)
    decoding = DecodingSettings(new_tokens=2)
    assert compare(CompareCommand(records=both, prompts=_prompts(tmp_path), json=True, decoding=decoding)) == 0
    answered = json.loads(capsys.readouterr().out)
    assert f"{one}/control/seed-1" in answered["arms"]


def test_what_takes_one_study_lists_those_of_the_sweep(sweep: Sweep, tmp_path: Path) -> None:
    says = rf"is a sweep.*{sweep.id}/001-seed-0.*001-seed-0, 001-seed-1"
    with pytest.raises(RecordError, match=says):
        script(ScriptCommand(record=sweep.id, folder=tmp_path / "script"))
    with pytest.raises(RecordError, match=says):
        compare(CompareCommand(records=(sweep.id,), prompts=_prompts(tmp_path)))
    with pytest.raises(RecordError, match=says):
        runs(RunsCommand(action="export", record=sweep.id, form="adapter"))
    with pytest.raises(RecordError, match=r"no study '001-seed-7'\. Its studies: 001-seed-0, 001-seed-1"):
        record_by_name(f"{sweep.id}/001-seed-7")
    for name in (sweep.id, f"{sweep.id}/001-seed-0"):
        with pytest.raises(RecordError, match=rf"cannot be exported as records.*`neftune sweep {sweep.id} --csv`"):
            runs(RunsCommand(action="export", record=name, to=tmp_path / "x.zip"))


def test_a_wrong_arm_or_seed_lists_those_that_there_are(sweep: Sweep, tmp_path: Path) -> None:
    one = f"{sweep.id}/001-seed-1"
    arms = r"control.*uniform-alpha-5.*uniform-alpha-15"
    with pytest.raises(RecordError, match=rf"no trained arm 'alpha5' here\. Trained arms: {arms}"):
        compare(CompareCommand(records=(one,), prompts=_prompts(tmp_path), arms=("alpha5",)))
    with pytest.raises(RecordError, match=r"Seed 9 has no trained arm: choose one of 1\."):
        compare(CompareCommand(records=(one,), prompts=_prompts(tmp_path), seed=9))
    with pytest.raises(RecordError, match=rf"no trained arm 'alpha5' for seed 1\. Available arms: {arms}"):
        runs(RunsCommand(action="export", record=one, form="adapter", arm="alpha5", to=tmp_path / "nothing"))


def test_the_list_of_records_has_title_model_data_and_result(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    study = create(sweep.study.model_copy(update={"title": "A study of mine", "seeds": 1}), "")
    head, *lines = runs_table(all_records())
    assert head.split() == ["record", "state", "steps", "size", "title", "model", "data", "arms", "result"]
    by_id = {line.split()[0]: line for line in lines}
    assert "A study of mine" in by_id[study.id]
    assert by_id[study.id].endswith("-")  # nothing was measured yet
    for words in (
        "sweep: Two strengths",
        "Finished",
        "tiny",
        "rows",
        "control, uniform-alpha-5, uniform-alp...",
        "judge",
    ):
        assert words in by_id[sweep.id], by_id[sweep.id]
    (one,) = runs_table([record_by_name(f"{sweep.id}/001-seed-0")])[1:]
    assert "control" in one
    assert "uniform-alpha-15 " in one
    assert runs(RunsCommand()) == 0
    assert "Two strengths" in capsys.readouterr().out


def test_the_table_of_a_sweep_as_csv_has_a_line_for_each_setting_and_seed(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep_command(SweepCommand(file=Path(sweep.id), csv=True)) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("base", ""),
        *((arm, seed) for arm in ("control", "uniform-alpha-5", "uniform-alpha-15") for seed in ("0", "1")),
    ]
    cell = record_by_name(f"{sweep.id}/001-seed-1")
    last = [event for event in cell.events() if event["event"] == "evaluated"][-1]["arms"]["uniform-alpha-5"]
    assert float(rows[4]["held_out_loss_last"]) == last["held_out_loss"]
    with pytest.raises(InvalidSetting, match="either --json or --csv"):
        sweep_command(SweepCommand(file=Path(sweep.id), csv=True, json=True))
    with pytest.raises(InvalidSetting, match="is a study, not a sweep"):
        sweep_command(SweepCommand(file=Path(cell.name), csv=True))
