"""Messages are true, contain the full path, and name no Python classes."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from short_study import short_rows, short_study

from neftune_core.commands.common import progress_line
from neftune_core.commands.compare import CompareCommand, compare
from neftune_core.commands.records import ReportCommand, RunsCommand, report, runs
from neftune_core.commands.sweep import run_sweep
from neftune_core.commands.train import read_study, run_record
from neftune_core.engine.saving import read_adapter
from neftune_core.errors import DataError, InvalidSetting, LabError, ModelError, RecordError
from neftune_core.models import checks, loading
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.sentences import cause, sentence
from neftune_core.settings import Limits, from_toml
from neftune_core.studies import checkpoint
from neftune_core.studies.records.record import Record, create, find, runs_folder
from neftune_core.studies.settings import StudySettings
from neftune_core.sweeps.queue import LabJobs
from neftune_core.sweeps.record import create_sweep
from neftune_core.sweeps.settings import SweepSettings

pytestmark = pytest.mark.usefixtures("own_home", "no_models")


def _load(folder: Path, precision: str = "float32") -> Any:
    return load(ModelSettings(source=str(folder), precision=precision, device="cpu"))


def _denied(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make files of that name unreadable, even for root."""
    opened = Path.open

    def open_(path: Path, *given: Any, **more: Any) -> Any:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *given, **more)

    monkeypatch.setattr(Path, "open", open_)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_model_that_may_not_be_read_is_not_called_broken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _denied(monkeypatch, name)
    with pytest.raises(ModelError) as raised:
        _load(folder)
    assert str(raised.value) == f"The file or folder {folder / name} cannot be used: permission is denied."


def test_a_broken_weight_file_is_named_with_its_whole_path(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(ModelError, match=f"The weight file {folder}/model.safetensors is damaged"):
        checks.parameter_count(folder)


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "NaN"), (float("-inf"), "infinity")])
def test_weights_that_are_no_numbers_are_refused_with_the_name_of_the_tensor(
    folder: Path, value: float, words: str
) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "down_proj" in name)
    tensors[name][3, 2] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as raised:
        _load(folder)
    assert f"{name} contains {words}" in str(raised.value)
    assert str(folder) in str(raised.value)


def test_weights_too_large_for_the_number_format_are_refused_in_it_alone(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "down_proj" in name)
    tensors[name] = tensors[name].float()
    tensors[name][0, 0] = 1e5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert _load(folder).precision == "float32"
    with pytest.raises(ModelError, match="Choose another precision"):
        loading.require_finite(
            _load(folder).model.to(torch.float16), loading.ModelFolder(folder=folder, name="my-model", licence="")
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[noise]\nstrength = 5\n", "noise is a list of tables: write [[noise]] instead of [noise]."),
        ("[methods]\nweight_decay = 0.1\n", "methods is a list of tables: write [[methods]] instead of"),
        ("[[training]]\nepochs = 1\n", "training is a single table: write [training] instead of [[training]]."),
        ("training = 3\n", "The setting training cannot be 3: it must be a table."),
        ("noise = 3\n", "The setting noise cannot be 3: it must be a list."),
        ("[training]\nlearning_rat = 1\n", "'training.learning_rat': did you mean 'training.learning_rate'?"),
        ("learning_rate = 1\n", "'learning_rate': did you mean 'training.learning_rate'?"),
        ("[answers]\nxyz = 1\n", "no setting called 'answers.xyz': change or remove it."),
        ("[modell]\nsource = 'x'\n", "'modell': did you mean 'model'?"),
    ],
)
def test_a_wrong_table_or_name_explains_what_to_write(text: str, words: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        from_toml(StudySettings, text)
    assert words in str(raised.value)
    assert "Settings" not in str(raised.value)


def test_the_tables_of_a_sweep_explain_what_to_write_too() -> None:
    with pytest.raises(InvalidSetting, match=r"study.noise is a list of tables: write \[\[study.noise\]\]"):
        from_toml(SweepSettings, "[axes]\nnoise.strength = [1]\n[study.noise]\nstrength = 1\n")
    with pytest.raises(InvalidSetting, match=r"points is a list of tables: write \[\[points\]\]"):
        from_toml(SweepSettings, "[points]\nnoise.strength = 1\n")


def test_a_file_in_a_folder_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    record = create(StudySettings(), "")
    nowhere, prompts = tmp_path / "none", tmp_path / "prompts.txt"
    prompts.write_text("Hello\n", encoding="utf-8")
    for act in (
        lambda: report(ReportCommand(record=record.id, out=nowhere / "report.html")),
        lambda: compare(CompareCommand(records=(record.id,), prompts=prompts, out=nowhere / "answers.csv")),
        lambda: runs(RunsCommand(action="export", record=record.id, to=nowhere / "record.zip")),
    ):
        with pytest.raises(InvalidSetting, match=f"There is no folder {nowhere}"):
            act()
    with pytest.raises(InvalidSetting, match=f"{tmp_path} is a folder"):
        report(ReportCommand(record=record.id, out=tmp_path))


def test_what_is_written_takes_the_place_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record, prompts = create(StudySettings(), ""), tmp_path / "prompts.txt"
    prompts.write_text("Hello\n", encoding="utf-8")
    acts: dict[str, Callable[[Path], Any]] = {
        "report.html": lambda file: report(ReportCommand(record=record.id, out=file)),
        "answers.csv": lambda file: compare(CompareCommand(records=(record.id,), prompts=prompts, out=file)),
        "record.zip": lambda file: runs(RunsCommand(action="export", record=record.id, to=file)),
    }
    for name, act in acts.items():
        Path(name).write_text("mine", encoding="utf-8")
        with pytest.raises(InvalidSetting, match=f"{tmp_path / name} already exists: choose another path"):
            act(Path(name))
        assert Path(name).read_text(encoding="utf-8") == "mine"


def test_files_that_cannot_be_read_are_named_in_full_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.toml").write_bytes(b"title = '\xff'")
    for name, reason in (("none.toml", "it does not exist"), ("latin.toml", "it is not text in UTF-8")):
        with pytest.raises(InvalidSetting) as raised:
            read_study(Path(name))
        assert str(raised.value) == f"The study {tmp_path / name} cannot be read: {reason}."
    record = create(StudySettings(), "")
    with pytest.raises(
        (DataError, RecordError), match=r"none.txt cannot be read: it does not exist|has no trained arm"
    ):
        compare(CompareCommand(records=(record.id,), prompts=Path("none.txt")))


def test_rows_and_archives_that_are_not_there_are_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _study(tmp_path)
    rows = tmp_path / "rows.jsonl"
    _denied(monkeypatch, "rows.jsonl")
    with pytest.raises(DataError, match=f"'{rows}' cannot be opened: permission is denied"):
        create(study, "")
    monkeypatch.undo()
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path / "home"))
    rows.unlink()
    with pytest.raises(DataError, match=f"There is no file {rows}"):
        create(study, "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidSetting, match=f"There is no file {tmp_path}/none.zip"):
        runs(RunsCommand(action="import", record="none.zip"))


def test_a_cause_never_has_the_name_of_a_class() -> None:
    assert cause(PermissionError(13, "Permission denied", "x")) == "permission is denied"
    assert cause(ValueError("first line.\nsecond")) == "first line"
    assert cause(RuntimeError()) == "no reason was given"
    unknown = AttributeError("'LlamaForCausalLM' object has no attribute 'layers'")
    assert cause(unknown) == "it does not have the expected structure"
    assert cause(OSError(95, "Operation not supported", "x")) == "Operation not supported"
    assert "ZeroDivision" not in sentence(ZeroDivisionError("secret"))
    long = "/very" * 60 + "/long/path"
    assert long in sentence(FileNotFoundError(2, "No such file or directory", long))


def test_a_damaged_adapter_and_a_damaged_checkpoint_are_reported(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(RecordError, match=f"The adapter '{tmp_path}' cannot be read"):
        read_adapter(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(RecordError, match=f"The checkpoint {tmp_path}/checkpoint cannot be read"):
        checkpoint.restore(SimpleNamespace(study=SimpleNamespace(seed=0)), tmp_path)  # type: ignore[arg-type]


def _study(tmp_path: Path) -> StudySettings:
    return short_study(short_rows(tmp_path), {"steps": 2}, noise=(NoiseSettings(strength=5),))


def _kept() -> list[Path]:
    return [path for path in runs_folder().iterdir() if not path.name.startswith(".")]


def test_a_command_that_fails_before_its_first_step_leaves_no_record(tmp_path: Path) -> None:
    study = _study(tmp_path).model_copy(update={"model": ModelSettings(source=str(tmp_path / "no-model"))})
    with pytest.raises(LabError, match="no-model"):
        run_record(create(study, ""), Limits())
    assert _kept() == []
    sweep = create_sweep(SweepSettings(axes={"noise.strength": (5,)}, study=study), "")
    with pytest.raises(LabError, match="no-model"):
        run_sweep(sweep, Limits())
    assert _kept() == []


def test_a_study_of_the_page_that_fails_before_its_first_step_is_gone_and_its_owner_is_given_the_reason(
    tmp_path: Path,
) -> None:
    jobs = LabJobs(Limits())
    study = _study(tmp_path).model_copy(update={"model": ModelSettings(source=str(tmp_path / "no-model"))})
    record = jobs.submit(study, "ann")
    status = jobs.wait(record, 60)
    assert status.state == "failed"
    assert "no-model" in status.message
    assert _kept() == []
    with pytest.raises(RecordError, match=r"failed before its first step.*no-model"):
        find(record.id, "ann")
    with pytest.raises(RecordError, match="no record called"):
        find(record.id, "ben")


def test_a_record_that_had_steps_before_it_failed_is_kept(tmp_path: Path) -> None:
    record = create(_study(tmp_path), "")
    record.append({"event": "step", "seed": 0, "step": 1, "steps": 2, "arms": {}})
    shutil.rmtree(record.folder / "data")
    assert run_record(record, Limits()) == 1
    assert Record(record.folder).ending() is not None


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (io.StringIO, "Downloading\nReading\n"),
        (_Terminal, "\rDownloading 5%\rDownloading 10%\rReading        "),
    ],
)
def test_progress_rewrites_one_line_of_a_terminal_and_lists_the_stages_elsewhere(
    monkeypatch: pytest.MonkeyPatch, stream: Callable[[], io.StringIO], expected: str
) -> None:
    monkeypatch.setattr("sys.stderr", stream())
    show = progress_line()
    for stage, amount in (("Downloading", "5%"), ("Downloading", "5%"), ("Downloading", "10%"), ("Reading", "")):
        show(stage, amount)
    assert sys.stderr.getvalue() == expected  # type: ignore[attr-defined]
