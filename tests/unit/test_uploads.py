"""The accountant of uploads and exports: by address and in total, without walking the folder for a request."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from neftune_core.errors import DoesNotFit
from neftune_core.home import folder_bytes
from neftune_core.settings import Limits, to_toml
from neftune_core.training.record import Record, create
from neftune_core.training.settings import EXAMPLE
from neftune_core.ui import remembering, take_away, uploads
from neftune_core.ui.lab import Lab

PUBLIC = Limits(upload_megabytes=1, local_paths=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    return uploads.keep_uploads_at_home()


def came(folder: Path, name: str, size: int) -> Path:
    (folder / name).mkdir()
    path = folder / name / "rows.jsonl"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_one_address_cannot_fill_the_room_of_all(folder: Path) -> None:
    room = uploads.Room(PUBLIC)
    for number in range(10):
        with room.reserved("one", 1_000_000):
            room.keep("one", came(folder, str(number), 1_000_000))
    with pytest.raises(DoesNotFit, match="from your network address"), room.reserved("one", 10):
        pass
    with room.reserved("two", 1_000_000):
        pass
    room.look()
    with pytest.raises(DoesNotFit, match="from your network address"), room.reserved("one", 10):
        pass


def test_uploads_under_way_are_counted(folder: Path) -> None:
    room = uploads.Room(PUBLIC)
    with (
        room.reserved("one", 6_000_000),
        pytest.raises(DoesNotFit, match="from your network address"),
        room.reserved("one", 6_000_000),
    ):
        pass
    with room.reserved("one", 6_000_000):
        pass


def test_the_only_visitor_of_a_private_lab_has_all_of_the_room(folder: Path) -> None:
    with uploads.Room(Limits(upload_megabytes=1)).reserved("one", 39_000_000):
        pass


def test_files_are_counted_too(folder: Path) -> None:
    room = uploads.Room(PUBLIC)
    (folder / "many").mkdir()
    for number in range(uploads.FILES_KEPT // uploads.SHARE):
        path = folder / "many" / str(number)
        path.touch()
        room.keep("one", path)
    with pytest.raises(DoesNotFit, match="from your network address"), room.reserved("one", 1):
        pass


def test_twelve_thousand_tiny_files_cost_a_request_nothing(folder: Path) -> None:
    for parent in range(120):
        (folder / str(parent)).mkdir()
        for number in range(100):
            (folder / str(parent) / str(number)).touch()
    room = uploads.Room(PUBLIC)
    room.look()
    assert len(room._kept) == 12_000
    started = time.perf_counter()
    for _ in range(100):
        with room.reserved("one", 10):
            pass
    assert (time.perf_counter() - started) / 100 < 0.005  # seconds; walking the folder took 0.9


def test_what_is_removed_makes_room(folder: Path) -> None:
    room = uploads.Room(PUBLIC)
    path = came(folder, "a", 10_000_000)
    room.keep("one", path)
    with pytest.raises(DoesNotFit), room.reserved("one", 1):
        pass
    yesterday = time.time() - uploads.KEPT_SECONDS - 60
    os.utime(path, (yesterday, yesterday))
    room.look()
    assert not path.parent.exists()
    with room.reserved("one", 1):
        pass


def test_opening_a_link_ten_times_takes_no_room(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b'{"instruction": "a", "output": "b"}\n' * 30_000)
    study = EXAMPLE.model_copy(update={"data": EXAMPLE.data.model_copy(update={"source": f"file:{rows}"})})
    record = create(study, "key")
    named = {remembering._linked(record, "key")["source"] for _ in range(10)}
    assert len(named) == 1
    path = Path(named.pop().removeprefix("file:"))
    assert path.read_bytes() == rows.read_bytes()
    assert len([found for found in folder.rglob("*") if found.is_file()]) == 1
    assert path.stat().st_nlink == 2
    room = uploads.Room(PUBLIC)
    room.look()
    assert room._total == 0
    assert remembering._linked(record, "another")["source"] != f"file:{path}"


def test_an_export_replaces_the_one_before(folder: Path) -> None:
    record, lab = create(EXAMPLE, "key"), Lab(PUBLIC)
    for _ in range(3):
        made = take_away._made(lab, record, "record", None, uploads.own_folder("take", "key", record.id, "record"))
    assert [found for found in folder.rglob("*") if found.is_file()] == [made]
    assert made.parent != uploads.own_folder("take", "another", record.id, "record")
    assert folder_bytes(folder) == made.stat().st_size


def test_an_arm_that_is_written_in_another_way_is_the_same_file() -> None:
    assert take_away._arm_of("control / seed 007") == take_away._arm_of("control / seed 7") == ("control", 7)


def test_a_record_whose_rows_are_gone_says_so(folder: Path) -> None:
    record = create(EXAMPLE, "key")
    text = to_toml(EXAMPLE).replace("starter:world-format", "file:data/source/rows.jsonl")
    assert "file:data" in text
    (record.folder / "study.toml").write_text(text, encoding="utf-8")
    with pytest.raises(Exception, match="no longer there"):
        remembering._linked(Record(record.folder), "key")
