"""Files are flushed to disk before they are renamed; an interrupted write leaves the previous file."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import neftune_core
from neftune_core.data.settings import DataSettings
from neftune_core.durable import UMASK, atomic_write, flush, write_whole
from neftune_core.engine.settings import TrainingSettings
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.export.archive import import_record, pack_record
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources.folders import create_once
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import run_study

POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions and flushed folders are those of POSIX")


class Disk:
    """Checks that every file is flushed with its final content before it is renamed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flushed: dict[int, tuple[int, int]] = {}
        self.moved: list[str] = []
        self.unflushed: list[str] = []
        self.names: list[tuple[str, int]] = []
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self.watched(getattr(os, name)))
        before = os.fsync
        monkeypatch.setattr(os, "fsync", lambda descriptor: (self.flush(descriptor), before(descriptor)))

    def flush(self, descriptor: int) -> None:
        about = os.fstat(descriptor)
        self.flushed[about.st_ino] = (about.st_size, about.st_mtime_ns)
        self.names = [(name, inode) for name, inode in self.names if inode != about.st_ino]

    def watched(self, rename: Any) -> Any:
        def renamed(source: Any, target: Any, **options: Any) -> None:
            path = Path(source)
            for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
                about = file.stat()
                if file.is_file() and self.flushed.get(about.st_ino) != (about.st_size, about.st_mtime_ns):
                    self.unflushed.append(f"{file.name} for {Path(target).name}")
            rename(source, target, **options)
            self.moved.append(Path(target).name)
            self.names.append((Path(target).name, Path(target).parent.stat().st_ino))

        return renamed


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def small_study(place: Path, method: str) -> StudySettings:
    rows = "".join(f'{{"instruction": "Say {n}.", "output": "It is {n}."}}\n' for n in range(12))
    (place / "rows.jsonl").write_text(rows, encoding="utf-8")
    return StudySettings(
        model=ModelSettings(precision="float32"),
        data=DataSettings(source=f"file:{place / 'rows.jsonl'}"),
        training=TrainingSettings(method=method, steps=4, checkpoint_steps=2, evaluations=1, evaluation_rows=2),
        measuring=MeasuringSettings(prompts=2, new_tokens=2),
        answers=AnswerSettings(new_tokens=2),
    )


@POSIX
@pytest.mark.parametrize("method", ["lora", "full"])
def test_whatever_a_study_renames_is_on_the_disk_before_and_its_name_after(
    disk: Disk, tmp_path: Path, method: str
) -> None:
    record = create(small_study(tmp_path, method), "", folder=tmp_path / "runs")
    copied = next((record.folder / "data").rglob("*.jsonl")).stat()
    assert disk.flushed[copied.st_ino] == (copied.st_size, copied.st_mtime_ns)
    logged = []
    for event in run_study(record, Limits(), lambda: False):
        about = (record.folder / "events.jsonl").stat()
        logged.append((event["event"], disk.flushed.get(about.st_ino) == (about.st_size, about.st_mtime_ns)))
    assert logged[-1] == ("finished", True)
    assert all(safe for event, safe in logged if event != "step"), logged
    assert {"study.toml", "record.json", "checkpoint", "seed-0", "answers.jsonl", "metrics.json"} <= set(disk.moved)
    import_record(pack_record(record, tmp_path / "packed.zip"), "", folder=tmp_path / "elsewhere")
    assert {"packed.zip", record.id} <= set(disk.moved)
    assert disk.unflushed == []
    assert disk.names == []
    assert [path.name for path in record.folder.rglob(".*")] == []
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (record.folder / "arms").rglob("*") if path.is_file()}
    assert modes == {0o666 & ~UMASK}


@POSIX
def test_the_log_is_on_the_disk_before_the_checkpoint_that_relies_on_it(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = create(small_study(tmp_path, "lora"), "", folder=tmp_path / "runs")
    found = []
    rename = os.rename

    def watched(source: Any, target: Any) -> None:
        if Path(target).name == "checkpoint":
            about = (record.folder / "events.jsonl").stat()
            found.append(disk.flushed.get(about.st_ino) == (about.st_size, about.st_mtime_ns))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watched)
    assert [event["event"] for event in run_study(record, Limits(), lambda: False)][-1] == "finished"
    assert found == [True] * len(found)
    assert len(found) >= 2


@POSIX
def test_a_model_that_was_made_is_on_the_disk_and_can_be_read_by_others(disk: Disk, tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "part").write_text("weights", encoding="utf-8")
        (folder / "part").chmod(0o600)

    folder = create_once(tmp_path / "model", make)
    assert disk.unflushed == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~UMASK
    assert stat.S_IMODE((folder / "part").stat().st_mode) == 0o666 & ~UMASK


def test_an_interrupted_write_leaves_the_previous_file(tmp_path: Path) -> None:
    for target in (tmp_path / "file", tmp_path / "folder"):
        if target.name == "folder":
            target.mkdir()
            (target / "old").write_text("old", encoding="utf-8")
        else:
            write_whole(target, "old")
        with pytest.raises(OSError, match="full"), atomic_write(target) as aside:
            aside.write_text("half", encoding="utf-8")
            raise OSError("full")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert (tmp_path / "folder" / "old").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_takes_the_place_of_one_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_write(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / content).write_text(content, encoding="utf-8")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "two"]


def test_a_disk_that_fills_up_at_the_flush_keeps_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "file", "new")
    with pytest.raises(OSError, match="No space"):
        flush(tmp_path)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_else_in_the_package_renames() -> None:
    """Find renames without flushing: `Path.replace` takes one argument, `str.replace` two."""
    package = Path(neftune_core.__file__).parent
    found = []
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if file.name == "durable.py" or not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            values = len(node.args) + len(node.keywords)
            of_paths = (node.func.attr == "replace" and values == 1 and len(node.args) == 1) or (
                isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("os", "shutil")
                and node.func.attr in ("replace", "move", "renames")
            )
            if of_paths or node.func.attr == "rename":
                found.append(f"{file.relative_to(package)}:{node.lineno}")
    assert found == []


def test_a_record_of_steps_alone_is_read_while_it_grows(tmp_path: Path) -> None:
    record = create(small_study(tmp_path, "lora"), "", folder=tmp_path / "runs")
    record.append({"event": "step", "step": 1, "seed": 0, "arms": {}})
    assert [event["step"] for event in Record(record.folder).events()] == [1]
