"""Accounting of uploads and exports: per address and in total, without scanning the folder per request."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from own_loop import in_own_loop

from neftune_core.errors import DataError, DoesNotFit, InvalidSetting
from neftune_core.home import folder_bytes
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.records.record import Record, asked_from, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui import page_state
from neftune_core.ui.parts.wiring import OWNER_KEY
from neftune_core.ui.server import calls, uploads
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs import export_panel

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


def fits(room: uploads.UploadQuota, length: int, address: str = "") -> bool:
    """Return whether there is room for as many bytes, from an address or from nobody."""
    try:
        with room.reserved(address, length):
            return True
    except DoesNotFit:
        return False


def test_one_address_cannot_fill_the_room_of_all(folder: Path) -> None:
    room = uploads.UploadQuota(PUBLIC)
    for number in range(10):
        with room.reserved("one", 1_000_000):
            room.keep("one", came(folder, str(number), 1_000_000))
    with pytest.raises(DoesNotFit, match="from your IP address"), room.reserved("one", 10):
        pass
    with room.reserved("two", 1_000_000):
        pass
    room.scan()
    with pytest.raises(DoesNotFit, match="from your IP address"), room.reserved("one", 10):
        pass


def test_uploads_under_way_are_counted(folder: Path) -> None:
    room = uploads.UploadQuota(PUBLIC)
    with (
        room.reserved("one", 6_000_000),
        pytest.raises(DoesNotFit, match="from your IP address"),
        room.reserved("one", 6_000_000),
    ):
        pass
    with room.reserved("one", 6_000_000):
        pass


def test_the_only_visitor_of_a_private_lab_has_all_of_the_room(folder: Path) -> None:
    room = uploads.UploadQuota(Limits(upload_megabytes=1))
    with room.reserved("one", 39_000_000), pytest.raises(DoesNotFit), room.reserved("one", 39_000_000):
        pass


def test_files_are_counted_too(folder: Path) -> None:
    room = uploads.UploadQuota(PUBLIC)
    (folder / "many").mkdir()
    for number in range(uploads.FILES_KEPT // uploads.SHARE):
        path = folder / "many" / str(number)
        path.touch()
        room.keep("one", path)
    with pytest.raises(DoesNotFit, match="from your IP address"), room.reserved("one", 1):
        pass


def test_twelve_thousand_tiny_files_cost_a_request_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for parent in range(120):
        (folder / str(parent)).mkdir()
        for number in range(100):
            (folder / str(parent) / str(number)).touch()
    room = uploads.UploadQuota(PUBLIC)
    room.scan()
    with monkeypatch.context() as patch:
        for most, is_room in ((12_000, False), (12_001, True)):
            patch.setattr(uploads, "FILES_KEPT", most)
            assert fits(room, 0) is is_room
    walks: list[Path] = []
    monkeypatch.setattr(uploads.os, "walk", lambda where: walks.append(where) or iter(()))
    with room.reserved("one", 10):
        pass
    assert walks == []


def test_what_is_removed_makes_room(folder: Path) -> None:
    room = uploads.UploadQuota(PUBLIC)
    path = came(folder, "a", 10_000_000)
    room.keep("one", path)
    with pytest.raises(DoesNotFit), room.reserved("one", 1):
        pass
    yesterday = time.time() - uploads.KEPT_SECONDS - 60
    os.utime(path, (yesterday, yesterday))
    room.scan()
    assert not path.parent.exists()
    with room.reserved("one", 1):
        pass


def test_opening_a_link_ten_times_takes_no_room(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b'{"instruction": "a", "output": "b"}\n' * 30_000)
    study = EXAMPLE.model_copy(update={"data": EXAMPLE.data.model_copy(update={"source": f"file:{rows}"})})
    record = create(study, "key")
    named = {page_state.link_files(record, "key")["source"] for _ in range(10)}
    assert len(named) == 1
    path = Path(named.pop().removeprefix("file:"))
    assert path.read_bytes() == rows.read_bytes()
    assert len([found for found in folder.rglob("*") if found.is_file()]) == 1
    assert path.stat().st_nlink == 2
    room = uploads.UploadQuota(PUBLIC)
    room.scan()
    assert fits(room, room.most_bytes)
    assert page_state.link_files(record, "another")["source"] != f"file:{path}"


def test_an_export_replaces_the_one_before(folder: Path) -> None:
    record = create(EXAMPLE, "key")
    with gr.Blocks() as page:
        export_panel.build(Lab(PUBLIC), *(gr.Textbox() for _ in range(2)), gr.State())
    (make,) = [made.fn for made in page.fns.values() if made.name == "make"]
    files = {make("key", record.id, "record", None)[0]["value"] for _ in range(3)}
    assert len(files) == 1
    made = Path(files.pop())
    assert [found for found in folder.rglob("*") if found.is_file()] == [made]
    assert made.parent != uploads.output_folder("take", "another", record.id, "record")
    assert folder_bytes(folder) == made.stat().st_size


def test_an_arm_that_is_written_in_another_way_is_the_same_file() -> None:
    assert (
        export_panel.chosen_arm("control / seed 007") == export_panel.chosen_arm("control / seed 7") == ("control", 7)
    )


def test_a_record_whose_rows_are_gone_reports_it(folder: Path) -> None:
    record = create(EXAMPLE, "key")
    text = to_toml(EXAMPLE).replace("starter:world-format", "file:data/source/rows.jsonl")
    assert "file:data" in text
    (record.folder / "study.toml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="no longer exist"):
        page_state.link_files(Record(record.folder), "key")


def test_an_upload_is_counted_and_is_of_the_address_that_it_came_from(folder: Path) -> None:
    path = came(folder, "a", 10)

    async def framework(scope: Any, receive: Any, send: Any) -> None:
        said = json.dumps([str(path)]).encode() if scope["method"] == "POST" else path.read_bytes()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": said})

    async def asked(method: str, address: str, client: str) -> int:
        seen: list[Any] = []

        async def send(message: Any) -> None:
            seen.append(message)

        scope = {"type": "http", "method": method, "path": address, "client": (client, 1), "headers": []}
        await uploads.CountedFiles(framework, limits=PUBLIC)(scope, None, send)  # type: ignore[arg-type]
        return int(seen[0]["status"])

    assert in_own_loop(lambda: asked("POST", "/gradio_api/upload", "10.0.0.1")) == 200
    room = uploads.upload_quota(PUBLIC)
    share = room.most_bytes // uploads.SHARE
    assert fits(room, share - 10, "10.0.0.1")
    assert not fits(room, share - 9, "10.0.0.1")
    assert in_own_loop(lambda: asked("GET", f"/gradio_api/file={path}", "10.0.0.1")) == 200
    assert in_own_loop(lambda: asked("GET", f"/gradio_api/file={path}", "10.0.0.2")) == 404
    assert in_own_loop(lambda: asked("GET", f"/gradio_api/file={folder}/b/../a/rows.jsonl", "10.0.0.2")) == 404
    described = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}]
    with pytest.raises(InvalidSetting, match="upload it first"):
        calls.require_own_files([*described, "x", None], PUBLIC)


def test_a_call_may_name_only_the_uploads_of_its_own_address(folder: Path) -> None:
    path = came(folder, "a", 10)
    uploads.upload_quota(PUBLIC).keep("10.0.0.1", path)
    for address, allowed in (("10.0.0.1", True), ("10.0.0.2", False)):
        asked = asked_from.set(address)
        try:
            with contextlib.nullcontext() if allowed else pytest.raises(InvalidSetting, match="upload it first"):
                calls.require_own_files([{"path": str(path)}], PUBLIC)
        finally:
            asked_from.reset(asked)


def test_an_upload_is_of_the_key_that_names_it_first_and_of_who_uploads_the_same(folder: Path) -> None:
    path, room = came(folder, "a", 10), uploads.upload_quota(PUBLIC)
    room.keep("10.0.0.1", path)
    blocks, keys = [SimpleNamespace(elem_id=OWNER_KEY), SimpleNamespace(elem_id=None)], calls.SessionKeys()

    def may_name(session: str, key: str = "") -> bool:
        values = [key, {"path": str(path)}]
        told = keys.of(session, blocks if key else blocks[1:], values if key else values[1:])
        address, owner = asked_from.set("10.0.0.1"), uploads.asked_as.set(told)
        try:
            calls.require_own_files(values, PUBLIC)
        except InvalidSetting:
            return False
        finally:
            uploads.asked_as.reset(owner)
            asked_from.reset(address)
        return True

    assert may_name("a program")
    keys.of("one", blocks, ["key of one", None])
    assert may_name("one")
    assert may_name("one after a reload", "key of one")
    assert not may_name("two", "key of two")
    assert not may_name("a program")
    room.keep("10.0.0.1", path)
    assert may_name("two", "key of two")
    assert may_name("one")
    assert not may_name("three", "key of three")


def test_the_same_file_from_two_addresses_is_of_both(folder: Path) -> None:
    path, room = came(folder, "a", 10), uploads.UploadQuota(PUBLIC)
    for address in ("10.0.0.1", "10.0.0.2"):
        room.keep(address, path)
    assert [room.is_of(f"10.0.0.{number}", str(path)) for number in (1, 2, 3)] == [True, True, False]
    assert fits(room, room.most_bytes - 10)
    assert not fits(room, room.most_bytes - 9)


def test_an_import_counts_as_a_study_of_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(Limits(studies_an_hour=1))
    asked: list[str] = []
    monkeypatch.setattr(export_panel, "import_record", lambda *given: create(EXAMPLE, "key"))
    monkeypatch.setattr(lab.jobs, "admit", asked.append)
    with gr.Blocks() as page:
        export_panel.build_import(lab, gr.Textbox())
    (bring,) = [made.fn for made in page.fns.values() if made.name == "import_file"]
    token = asked_from.set("10.0.0.1")
    try:
        bring("key", "record.zip")
    finally:
        asked_from.reset(token)
    assert asked == ["10.0.0.1"]
