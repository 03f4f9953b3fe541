"""The checks between visitors and the lab, tested one by one without a served page."""

from __future__ import annotations

import html
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_loop import in_own_loop

from neftune_core.data.report import DataReport, RefusedRows, RenderedRow, Span
from neftune_core.errors import DoesNotFit, InvalidSetting, LabError, ModelError
from neftune_core.export.report_parts import data_html
from neftune_core.language import CHINESE
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.space.profiles import host_profile
from neftune_core.ui.parts import markup, wiring
from neftune_core.ui.parts.answers import answer_columns
from neftune_core.ui.server import calls, gate, serve, uploads
from neftune_core.ui.tabs.views import data_views
from tests.stress.hostile import Hostile

SOURCES = sorted((Path(__file__).parents[3] / "neftune_core").rglob("*.py"))
PAYLOAD = "<img src=x onerror=alert(1)></pre><script>alert(2)</script>\"'{{x}}${y}"


# ---------------------------------------------------------------- calls


@dataclass(frozen=True)
class Page:
    """A guarded page with one function, created for each call, because the framework needs a running event loop."""

    handler: Any
    inputs: tuple[Any, ...]
    name: str = ""

    async def answer(self, *values: Any, **more: Any) -> Any:
        with gr.Blocks(analytics_enabled=False) as page:
            button, output = gr.Button("Go"), gr.Textbox()
            for component in self.inputs:
                component.render()
            button.click(self.handler, list(self.inputs), output)
        page.fns[0].page = self.name
        calls.guard(page, Limits())
        return (await page.process_api(0, list(values), **more))["data"][0]


def page_of(handler: Any, *inputs: Any) -> Page:
    return Page(handler, inputs)


def called(page: Page, *values: Any, **more: Any) -> Any:
    return in_own_loop(lambda: page.answer(*values, **more))


def refused(page: Page, *values: Any, **more: Any) -> str:
    with pytest.raises(gr.Error) as raised:
        called(page, *values, **more)
    assert not raised.value.print_exception
    assert raised.value.__cause__ is None
    words = html.unescape(raised.value.message)
    assert "\n" not in words
    return words


def test_a_fault_of_the_lab_is_one_sentence_and_its_traceback_is_only_in_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> str:
        raise ZeroDivisionError("with <b>secret</b> details")

    words = refused(page_of(broken))
    assert words.startswith("An internal error occurred; the log")
    assert "details" not in words.replace("has the details", "")
    assert "with <b>secret</b> details" in caplog.text
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err


def test_a_sentence_of_the_lab_reaches_the_caller_as_text() -> None:
    def refusing() -> str:
        raise ModelError(f"There is no model {PAYLOAD}.")

    page = page_of(refusing)
    assert PAYLOAD in refused(page)
    with pytest.raises(gr.Error) as raised:
        called(page)
    assert "<" not in raised.value.message


@pytest.mark.parametrize(
    ("component", "value", "words"),
    [
        (gr.Textbox(label="Name", render=False), 3, "The value of 'Name' must be text."),
        (gr.Textbox(label="Name", render=False), ["x"], "must be text"),
        (gr.Textbox(label="Name", max_length=5, render=False), "x" * 6, "at most 5 characters .given 6"),
        (gr.Textbox(render=False), "x" * 2_000_000, "at most 1,280,000 characters"),
        (gr.Number(label="Seed", render=False), "3", "must be a number"),
        (gr.Number(render=False), True, "must be a number"),
        (gr.Number(maximum=5, render=False), 6, "greater than maximum"),
        (gr.Slider(0, 5, label="Strength", render=False), None, "must be a number"),
        (gr.Slider(0, 5, render=False), -1, "less than minimum"),
        (gr.Checkbox(render=False), "yes", "must be true or false"),
        (gr.Radio(["a"], render=False), {"a": 1}, "one of its choices"),
        (gr.Radio(["a"], render=False), "<b>", "A value in this call is not one of the choices of its field."),
        (gr.Dropdown(["a"], render=False), ["a"], "one of its choices"),
        (gr.File(render=False), "/etc/passwd", "must be an uploaded file"),
        (gr.File(render=False), {"path": "/etc/passwd"}, "The description of a file in this call is malformed"),
        (gr.CheckboxGroup(["a"], render=False), "a", "must be a list"),
    ],
)
def test_a_value_that_its_component_never_sends_is_refused(component: Any, value: Any, words: str) -> None:
    page = page_of(lambda given: pytest.fail("the handler was called"), component)
    assert re.search(words, refused(page, value))


@pytest.mark.parametrize(
    ("component", "values", "words"),
    [
        (gr.Textbox(label="名字", render=False), [3], "'名字'的值必须是文本。"),
        (gr.Radio(["a"], render=False), ["b"], "这次调用中有一个值不在其字段的选项之中。"),
        (gr.Radio(["a"], render=False), [["b"]], "某个字段的值必须是其选项之一。"),
        (gr.File(render=False), [{"path": "/etc/passwd"}], "这次调用中对文件的描述格式有误：请先上传该文件。"),
        (gr.Textbox(render=False), [], "这次调用的值太少（应有 1 个，实有 0 个）。"),
    ],
)
def test_a_refusal_of_a_call_is_in_the_language_of_its_page(component: Any, values: list[Any], words: str) -> None:
    page = Page(lambda given: pytest.fail("the handler was called"), (component,), CHINESE)
    assert refused(page, *values) == words


def test_an_empty_text_box_is_an_empty_text() -> None:
    assert called(page_of(repr, gr.Textbox(render=False)), None) == "''"


def test_too_few_values_are_reported() -> None:
    assert "too few values (expected 1, given 0)" in refused(page_of(repr, gr.Textbox(render=False)))


def test_an_event_without_what_it_says_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda words, **_: told.append(words))
    for data in (None, [], {}, "id"):
        event = gr.EventData(None, data if isinstance(data, dict) else {})

        @wiring.reports_errors
        def handler(chosen: gr.EventData) -> str:
            return str(chosen.id)

        handler(event)
    assert set(told) == {"This call has no 'id', which the page always sends: reload the page, or add it to the call."}


def test_settings_made_from_a_wrong_value_are_reported_as_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda words, **_: told.append(words))
    wiring.reports_errors(lambda: NoiseSettings(sites=PAYLOAD))()
    assert len(told) == 1
    assert "An internal error" not in told[0]
    assert "<" not in told[0]


# ---------------------------------------------------------------- requests


def test_the_brackets_inside_a_text_are_no_depth() -> None:
    assert gate.parse_call(b'{"data": ["' + b"[{" * 50_000 + b'\\\\\\""]}')["data"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text('"\\[]{}:,19e.-nulltruefs ', max_size=80).map(str.encode))
def test_no_body_of_a_call_raises_anything_but_a_refusal(body: bytes) -> None:
    try:
        assert isinstance(gate.parse_call(body), dict)
    except gate.RejectedRequest as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize("number", [b"1e16", b"-1e999", b"NaN", b"-" + b"9" * 400, b"9" * 4000])
def test_a_number_beyond_the_limit_is_refused(number: bytes) -> None:
    with pytest.raises(gate.RejectedRequest, match=r"not finite or too large") as refused:
        gate.parse_call(b'{"data": [' + number + b"]}")
    assert refused.value.status == 400


@pytest.mark.parametrize("length", [b"", b"-1", b"+1", b"1e3", b"\xb2", b"9" * 20, b"101"])
def test_a_length_that_is_no_number_or_too_large_is_refused(length: bytes) -> None:
    with pytest.raises(gate.RejectedRequest) as refused:
        gate._check_length({"headers": [(b"content-length", length)]}, 100)
    assert refused.value.status == 413
    gate._check_length({"headers": []}, 100)


def test_a_body_made_to_exhaust_the_gate_is_refused_at_once() -> None:
    started = time.perf_counter()
    for body in (
        b'{"a":"' + b"\\" * 5_000_000,
        b"[" * 5_000_000,
        b'"' * 5_000_001,
        b'{"a":' * 900_000,
        b"1," * 2_000_000,
    ):
        with pytest.raises(gate.RejectedRequest):
            gate.parse_call(body)
    assert time.perf_counter() - started < 8  # seconds; a tenth of that where nothing else runs


# ---------------------------------------------------------------- uploads, limits, log


def test_old_uploads_make_room_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    folder, limits = uploads.keep_uploads_at_home(), Limits(upload_megabytes=1)
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder) == str(tmp_path / "uploads")
    assert folder.stat().st_mode & 0o077 == 0
    for number in range(41):
        (folder / str(number)).mkdir()
        with (folder / str(number) / "rows.jsonl").open("wb") as file:
            file.truncate(1_000_000)
    room = uploads.upload_quota(limits)
    room.scan()
    with pytest.raises(DoesNotFit, match="storage for uploads"), room.reserved("one", 10):
        pass
    yesterday = time.time() - uploads.KEPT_SECONDS - 60
    for number in range(5):
        os.utime(folder / str(number) / "rows.jsonl", (yesterday, yesterday))
    room.scan()
    with room.reserved("one", 10):
        pass
    assert not (folder / "3").exists()
    assert (folder / "7" / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [
        ({}, True),
        ({"SPACE_ID": "owner/space"}, False),
        ({"NEFTUNE_PUBLIC": "1"}, False),
        ({"NEFTUNE_PUBLIC": "yes"}, False),
        ({"NEFTUNE_PUBLIC": "0", "SPACE_ID": "owner/space"}, True),
    ],
)
def test_a_public_host_lets_nobody_name_its_files(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], allowed: bool
) -> None:
    for name in ("SPACE_ID", "NEFTUNE_PUBLIC", "NEFTUNE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert host_profile().limits.local_paths is allowed


def test_the_log_contains_no_secret_and_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789\n")
    monkeypatch.setenv("SOME_API_KEY", "abcdefgh")
    key = "5a" * 32
    record = logging.LogRecord("lab", logging.ERROR, "", 0, f"hf_0123456789 abcdefgh {key} {'x' * 100_000}", None, None)
    text = serve.SecretFilter("%(message)s").format(record)
    assert text.startswith("[secret] [secret] [secret] x")
    assert len(text) < 25_000


@pytest.mark.parametrize(
    "name", ["SMTP_PASS", "SENTRY_DSN", "PROXY_AUTH", "DB_PWD", "AWS_CREDENTIALS", "my_pass", "DATABASE_URL", "PASS"]
)
def test_what_the_environment_keeps_secret_is_in_no_log(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "hunter2-hunter2")
    record = logging.LogRecord("lab", logging.ERROR, "", 0, "sent hunter2-hunter2", None, None)
    assert serve.SecretFilter("%(message)s").format(record) == "sent [secret]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hf_abcdefghijklmnopqrstuv refused", "[secret] refused"),
        ("key sk-proj-abcdefghij0123456789", "key [secret]"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123", "[secret]"),
        ("AKIAABCDEFGHIJKLMNOP", "[secret]"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [secret]"),
        ("https://user:pa55word@host/x", "https://[secret]@host/x"),
        ("GET /x?api_key=0123456789abcdef&y=1", "GET /x?api_key=[secret]&y=1"),
        ("the sky and a task at step 3", "the sky and a task at step 3"),
        ("http://127.0.0.1:7860/x@y", "http://127.0.0.1:7860/x@y"),
    ],
)
def test_an_api_key_is_in_no_log_wherever_it_comes_from(text: str, shown: str) -> None:
    record = logging.LogRecord("lab", logging.ERROR, "", 0, text, None, None)
    assert serve.SecretFilter("%(message)s").format(record) == shown


# ---------------------------------------------------------------- texts of visitors as HTML


def test_every_piece_of_html_escapes_what_it_is_given() -> None:
    arms = {"control": NoiseSettings(strength=0)}
    answer = {"text": PAYLOAD, "tokens": 3, "ended": "stop"}
    line = {"prompt": PAYLOAD, "reference": PAYLOAD, "arms": {"control": answer, PAYLOAD: answer}}
    made = (
        markup.quiet(PAYLOAD)
        + markup.facts([(PAYLOAD, PAYLOAD)])
        + markup.bar(0.5, PAYLOAD)
        + answer_columns([line], arms)
        + data_views.report(_prepared(), _report())
        + data_html(_kept())
    )
    assert PAYLOAD not in made
    assert "<img" not in made
    assert "<script" not in made
    assert "onerror=alert(1)&gt;" in made


def _prepared() -> Any:
    counts = {"cut": 1, "refused": 1, "duplicates_removed": 0}
    return SimpleNamespace(**counts, title=PAYLOAD, licence=PAYLOAD, shortage=PAYLOAD)


def _report() -> DataReport:
    return DataReport(
        layout=PAYLOAD,
        columns={PAYLOAD: PAYLOAD, "question": PAYLOAD},
        unused_columns=[PAYLOAD],
        refused=[RefusedRows(reason=PAYLOAD, rows=[1])],
        notes=[PAYLOAD],
        rows=[RenderedRow(row=1, spans=[Span(text=PAYLOAD, trained=True), Span(text=PAYLOAD, trained=False)])],
    )


def _kept() -> dict[str, Any]:
    return {"title": PAYLOAD, "train": 1, "held_out": 1, "refused": 1, "report": _report().for_record()}


# ---------------------------------------------------------------- the source itself


def test_nothing_is_ever_unpickled_and_no_code_of_a_model_is_run() -> None:
    forbidden = re.compile(
        r"^\s*(import|from) (pickle|marshal|shelve|dill|joblib)\b|allow_pickle|trust_remote_code=True|"
        r"torch\.load\((?!.*weights_only=True)|weights_only=False|\byaml\.load\(|\b(?<!\.)eval\(|\bexec\(|shell=True",
        re.MULTILINE,
    )
    found = [f"{path.name}: {match[0]}" for path in SOURCES for match in forbidden.finditer(path.read_text("utf-8"))]
    assert found == []


def test_the_hostile_cases_are_reproducible_from_their_seed() -> None:
    first, again, other = (Hostile(seed) for seed in (1, 1, 2))
    drawn = [first.file() for _ in range(60)]
    assert [again.file() for _ in range(60)] == drawn
    assert [other.file() for _ in range(60)] != drawn
    assert len({(file.name, file.content) for file in drawn}) >= 58


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3))
def test_no_parameter_of_a_link_raises_anything_but_a_sentence(text: str, more: dict[str, str]) -> None:
    from neftune_core.settings import from_query

    try:
        from_query(NoiseSettings, {"strength": text, "kind": text, "sites": text, **more})
    except LabError as error:
        assert isinstance(error, InvalidSetting)
