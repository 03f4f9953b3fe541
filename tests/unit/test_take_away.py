"""What the Runs tab gives away and takes in; signing in only where the platform has it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.settings import Limits
from neftune_core.training.record import Record, create, find
from neftune_core.training.settings import EXAMPLE
from neftune_core.training.study import run_study
from neftune_core.ui import take_away
from neftune_core.ui.lab import Lab
from neftune_core.ui.take_away import _with_arm

KEY = "3d" * 32


@pytest.fixture(scope="module")
def record() -> Record:
    training = EXAMPLE.training.model_copy(update={"steps": 2, "evaluations": 1, "evaluation_rows": 4})
    made = create(EXAMPLE.model_copy(update={"training": training, "title": "taken"}), KEY)
    list(run_study(made, Limits(), lambda: False))
    return made


def built() -> tuple[gr.Blocks, dict[str, Any]]:
    """The part of the page, and its handlers by name."""
    with gr.Blocks(analytics_enabled=False) as page:
        key, record_id = gr.Textbox(visible=False), gr.Textbox(visible=False)
        take_away.build(Lab(), key, record_id)
        take_away.build_import(Lab(), key)
    return page, {fn.name: fn for fn in page.fns.values()}


def test_there_is_no_sign_in_off_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in ({}, {"SPACE_ID": "owner/lab"}, {"OAUTH_CLIENT_ID": "x"}):
        for name in ("SPACE_ID", "OAUTH_CLIENT_ID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        page, handlers = built()
        assert not any(isinstance(block, gr.LoginButton) for block in page.blocks.values())
        assert "push" not in handlers


def test_a_space_that_asks_for_it_has_a_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "owner/lab")
    monkeypatch.setenv("OAUTH_CLIENT_ID", "x")
    page, handlers = built()
    assert any(isinstance(block, gr.LoginButton) for block in page.blocks.values())
    push = handlers["push"].fn.__wrapped__
    with pytest.raises(NotAvailable, match="Sign in first"):
        push(KEY, "", "adapter", None, "", False, None)


def test_the_zip_files_of_a_study_are_made_in_the_folder_of_uploads(record: Record) -> None:
    _, handlers = built()
    make = handlers["make"].fn
    for form, arm, inside in (
        ("record", None, "study.toml"),
        ("adapter", "control / seed 0", "adapter_model.safetensors"),
        ("merged", "uniform-alpha-5 / seed 0", "model.safetensors"),
    ):
        update, _ = make(KEY, record.id, form, arm)
        path = Path(update["value"])
        assert "uploads" in path.parts
        assert any(name.endswith(inside) for name in zipfile.ZipFile(path).namelist())


def test_an_arm_has_to_be_chosen(record: Record) -> None:
    with pytest.raises(InvalidSetting, match="Choose an arm"):
        _with_arm(record, "adapter", None, lambda folder, name: None)


def test_a_record_that_is_brought_in_is_the_visitors_own(record: Record, tmp_path: Path) -> None:
    from neftune_core.export.archive import pack_record
    from neftune_core.training.disk import remove

    packed = pack_record(record, tmp_path / "record.zip")
    remove(record)
    _, handlers = built()
    other = "4e" * 32
    assert handlers["bring"].fn(other, str(packed)) == record.id
    assert find(record.id, other).is_owned
