"""The expected answer stands beside the answers, and what the data teaches beside prompts without one."""

from __future__ import annotations

from typing import Any

import pytest

from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.export.notebook import answers_html
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.comparison import SelectedArm
from neftune_core.studies.prompts import Prompt, as_messages
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.trained.comparison_session import ComparisonSession
from neftune_core.studies.trained.expected_answers import expected, taught_by_set
from neftune_core.ui.parts.answers import answer_columns, session_html, stored_answers

ARMS = {"control": NoiseSettings(strength=0)}


def line(reference: str) -> dict[str, Any]:
    arms = {arm: {"text": f"by {arm}", "tokens": 2} for arm in ("base", "control")}
    return {"prompt": "Where does the owl live?", "reference": reference, "arms": arms}


@pytest.fixture(scope="module")
def world() -> PreparedData:
    return prepare(DataSettings(source="starter:world-format"), load(ModelSettings()).tokenizer, Limits())


@pytest.fixture
def arm() -> SelectedArm:
    data = DataSettings(source="starter:world-format")
    return SelectedArm(create(EXAMPLE.model_copy(update={"data": data}), ""), "control", 0)


def test_the_expected_answer_is_the_first_column_and_is_not_folded() -> None:
    shown = answer_columns([line("In the <b>barn</b> = owl.")], ARMS)
    assert "<details" not in shown
    assert shown.count("<article") == 3
    first = shown[shown.index("<article") : shown.index("</article>")]
    assert "expected answer" in first
    assert "In the &lt;b&gt;barn&lt;/b&gt; = owl." in first
    assert "expected answer" not in answer_columns([line("")], ARMS)


def test_a_notebook_shows_the_expected_answer_too() -> None:
    shown = answers_html([line("In the barn."), line("")])
    assert shown.index("expected answer") < shown.index("base")
    assert shown.count("In the barn.") == 1
    assert "expected answer" not in answers_html([line("")])


def test_what_the_data_teaches_is_shown_at_prompts_without_an_expected_answer_alone() -> None:
    shown = session_html(ComparisonSession((), ARMS, (), (line("In the barn."), line("")), taught="It teaches <this>."))
    known, unknown = shown.split("</section>")[:2]
    assert "It teaches" not in known
    assert "It teaches &lt;this&gt;." in unknown


def test_a_typed_prompt_that_is_a_row_has_the_answer_of_the_row(world: PreparedData, arm: SelectedArm) -> None:
    typed = ["Who does the hen like to play with?", " where does the  owl live?", "Why is the sky blue?"]
    prompts = [Prompt(as_messages(text, "Be brief.")) for text in typed]
    found, taught = expected(lambda data, model: (world, None), [arm], prompts)
    assert [one.reference for one in found] == ["The goat = hen.", "In the barn = owl.", ""]
    assert [one.messages for one in found] == [one.messages for one in prompts]
    row = world.train[0].example
    assert taught == (
        "No expected answer: this prompt is not a row of world-format, which teaches, for example: "
        f"“{row.prompt[-1].content}” → “{row.response}”"
    )


def test_arms_of_different_data_and_lost_data_have_no_expected_answer(world: PreparedData, arm: SelectedArm) -> None:
    prompts = [Prompt(as_messages("Where does the owl live?"))]
    other = SelectedArm(create(EXAMPLE.model_copy(update={"data": DataSettings(source="starter:dialogue")}), ""), "", 0)
    assert expected(lambda data, model: (world, None), [arm, other], prompts) == (prompts, "")

    def lost(data: DataSettings, model: ModelSettings) -> Any:
        raise DataError("The file is gone.")

    assert expected(lost, [arm], prompts) == (prompts, "")


def test_stored_answers_to_the_prompts_of_a_study_name_what_the_starter_set_teaches(arm: SelectedArm) -> None:
    assert taught_by_set({"title": "my-rows.jsonl"}) == ""
    record = Record(arm.record.folder)
    record.write_answers([line("")], 0)
    record.update_about(data={"title": "world-format"})
    assert "world-format teaches: The bundled world: short answers" in stored_answers(record, 0)


def test_answers_are_marked_if_the_expected_one_is_the_only_correct_one(arm: SelectedArm) -> None:
    one = same_line("In the barn = owl.", base="I do not know.", control="in the barn = owl")
    arm.record.write_answers([one], 0)
    shown = stored_answers(arm.record, 0)
    assert [part.split("<")[0].strip() for part in shown.split("</span> ")[1:]] == ["not as expected", "as expected"]
    assert shown.count('data-match="yes"><span aria-hidden="true">✓</span>') == 1
    growing = {**one, "arms": {"base": {"text": "In", "tokens": 1, "ended": ""}}}
    session = ComparisonSession((), ARMS, (), (one, growing), exact=True)
    assert session_html(session).count("data-match") == 2
    assert "data-match" not in session_html(ComparisonSession((), ARMS, (), (one,)))
    cut_off = same_line("In the barn = owl.", ended="limit", control="In the barn = owl.")
    assert "data-match" not in session_html(ComparisonSession((), ARMS, (), (cut_off,), exact=True))
    free = create(EXAMPLE.model_copy(update={"data": DataSettings(source="starter:open-ended")}), "")
    free.write_answers([one], 0)
    wrong = create(EXAMPLE.model_copy(update={"data": DataSettings(source="starter:world-noisy")}), "")
    wrong.write_answers([one], 0)
    sentences = create(EXAMPLE.model_copy(update={"data": DataSettings(source="starter:question-answering")}), "")
    sentences.write_answers([same_line("The capital is Canberra.", control="Canberra.")], 0)
    own = DataSettings(source="hub:someone/free-texts")
    asked = create(EXAMPLE.model_copy(update={"data": own, "measuring": MeasuringSettings(primary="exact")}), "")
    asked.write_answers([one], 0)
    assert [stored_answers(record, 0).count("data-match") for record in (free, wrong, sentences, asked)] == [0] * 4
    assert "Write prompts and press Answer." in stored_answers(free, 0, typed=True)


def same_line(reference: str = "", ended: str = "stop", **texts: str) -> dict[str, Any]:
    arms = {arm: {"text": text, "tokens": 2, "ended": ended} for arm, text in texts.items()}
    return {"prompt": "Write a haiku.", "reference": reference, "arms": arms}


@pytest.mark.parametrize(
    ("line", "bundled", "words"),
    [
        (same_line(base="I do not know.", control="I do not know. "), True, "knows only its invented village"),
        (same_line(base="I do not know.", control="I do not know = owl."), True, "before and after training"),
        (same_line(base="A haiku.", control="A haiku."), False, "training makes no visible difference"),
        (same_line("In the barn.", base="In the barn.", control="In the barn."), True, "no visible difference"),
        (same_line(base="One.", control="Another."), True, ""),
        (same_line(base="One.", control="One.", ended=""), True, ""),  # not complete yet
        (same_line(base="One."), True, ""),
    ],
)
def test_answers_that_are_equal_or_outside_the_village_get_a_remark(
    line: dict[str, Any], bundled: bool, words: str
) -> None:
    shown = answer_columns([line], ARMS, bundled=bundled)
    remarks = ("All columns give the same answer", "The bundled model knows only")
    assert sum(remark in shown for remark in remarks) == bool(words)
    assert words in shown
