"""Lesson files, facts about a study, and the measured damage of five faults."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from neftune_core.data.preparing import prepare
from neftune_core.home import assets
from neftune_core.lessons.faults import FAULTS, RunMeasurements, ScriptVariant, damage
from neftune_core.lessons.files import KNOWN, comparisons, held_out_losses, lessons, read_lesson, study_facts
from neftune_core.lessons.snippet import run_script
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.kinds import EMBEDDING_SITE, draw_unit
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.ui.parts.recorded_study import stage, stored_norms
from neftune_core.ui.server.lab import Lab
from tests.tools.recorded_norms import store_norms
from tests.weights import weights_hash

HARM: dict[str, Callable[[RunMeasurements, RunMeasurements], float]] = {
    "noisy-evaluation": lambda right, wrong: wrong.reported[-1] - wrong.true[-1],
    "loss-on-everything": lambda right, wrong: right.exact_true - wrong.exact_true,
    "constant-std": lambda right, wrong: right.exact_true - wrong.exact_true,
    "lost-newline": lambda right, wrong: wrong.exact_true - wrong.exact_reported,
    "hiding-wrapper": lambda right, wrong: wrong.exact_true - wrong.exact_saved,
}
"""The size of the damage: a difference in loss (nats) or in the share of exact answers."""


def finished(script: ScriptVariant) -> RunMeasurements:
    return list(run_script(load(ModelSettings()), script))[-1]


@pytest.fixture(scope="module")
def right() -> RunMeasurements:
    return finished(FAULTS["lost-newline"].script)


@pytest.mark.parametrize("name", FAULTS)
def test_the_damage_of_a_fault_is_there_and_its_sentence_has_its_numbers(name: str, right: RunMeasurements) -> None:
    fault = FAULTS[name]
    own = right if fault.script == FAULTS["lost-newline"].script else finished(fault.script)
    wrong = finished(fault.faulty)
    assert own.reported == own.true  # without the fault the script says what is so
    assert own.exact_saved == own.exact_true > 0.3
    # Where only the measurement is faulty, the truth stays, unless the measurement took draws from the training.
    assert (own.true == wrong.true) == (name == "lost-newline")
    # Tenths of a nat or tens of answers in a hundred: far beyond what a different order of the rows changes.
    assert HARM[name](own, wrong) > 0.1
    words = damage(fault, own, wrong)
    assert f"{wrong.exact_true:.0%}" in words
    assert "{" not in words


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate a script on four rows."""
    monkeypatch.setattr("neftune_core.lessons.snippet.HELD_OUT_ROWS", 4)


@pytest.mark.usefixtures("few_rows")
def test_the_hiding_wrapper_trains_bit_for_bit_as_without_noise() -> None:
    short = {"steps": 6, "batch_size": 4}
    hidden = finished(ScriptVariant(NoiseSettings(strength=5), model_hidden=True, **short))
    silent = finished(ScriptVariant(NoiseSettings(strength=0), **short))
    heard = finished(ScriptVariant(NoiseSettings(strength=5), **short))
    assert hidden.training_losses == silent.training_losses != heard.training_losses


@pytest.mark.usefixtures("few_rows")
def test_a_script_never_changes_the_model_that_others_use() -> None:
    loaded = load(ModelSettings())
    before = weights_hash(loaded.model)
    finished(ScriptVariant(NoiseSettings(strength=5), steps=6))
    assert weights_hash(loaded.model) == before
    assert not loaded.model.training
    assert all(parameter.grad is None for parameter in loaded.model.parameters())


def test_there_are_lessons_with_tasks_that_the_page_can_check() -> None:
    found = lessons()
    assert len(found) >= 8
    assert [lesson.number for lesson in found] == list(range(1, len(found) + 1))
    files = [path.name for path in (assets() / "lessons").glob("[0-9]*.md")]
    assert sorted(int(name.partition("-")[0]) for name in files) == [lesson.number for lesson in found]
    assert len({lesson.title for lesson in found}) == len(found)
    assert sum(lesson.faults for lesson in found) == 1
    for lesson in found:
        assert lesson.tasks
        assert 20 <= len(lesson.seen.split()) <= 60, lesson.title
        assert 60 <= len(lesson.text.split()) <= 450, lesson.title


def test_every_fact_but_for_free_ones_is_asked_for_by_some_task() -> None:
    asked = {name for lesson in lessons() for task in lesson.tasks for name, _, _ in comparisons(task.when)}
    assert asked <= set(KNOWN)


def test_a_condition_may_have_alternatives() -> None:
    asked = comparisons("study.finished = 1 and study.seeds >= 6 or sweep.recorded = 1")
    assert asked == [("study.finished", "=", "1"), ("study.seeds", ">=", "6"), ("sweep.recorded", "=", "1")]


def test_studies_may_be_replaced_by_recorded_results_only_while_they_wait() -> None:
    asked = [task.when for lesson in lessons() for task in lesson.tasks if "study.finished" in task.when]
    assert len(asked) >= 4
    others = [condition.split(" or ")[1:] for condition in asked]
    assert [len(other) for other in others] == [1] * len(asked)
    assert [other for (other,) in others if not other.startswith("study.waiting = 1 and ")] == []


@pytest.mark.parametrize("condition", ["", "noise.strength > 4", "noise.nothing >= 3", "alert(1)", "noise.kind = a b"])
def test_an_unknown_condition_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match="not a condition"):
        comparisons(condition)


def test_six_seeds_count_however_they_were_asked_for() -> None:
    (lesson,) = (one for one in lessons() if "train.seeds" in one.preset)
    asked = [comparisons(task.when) for task in lesson.tasks]
    assert [(name, value) for name, _, value in asked[0]] == [("train.seeds", "6"), ("study.seeds", "6")]
    assert ("study.seeds", ">=", "6") in asked[1]


def test_a_lesson_without_a_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.md").write_text('+++\ntitle = "A"\ntab = "Noise"\nminutes = 1\n+++\nText.\n', encoding="utf-8")
    with pytest.raises(ValueError, match="no task"):
        read_lesson(tmp_path / "1.md", 1)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Return a finished study of two seeds whose control overfits and whose strong arm is worse."""
    study = StudySettings(noise=(NoiseSettings(strength=5), NoiseSettings(strength=60)), seeds=2)
    made = create(study, "", folder=tmp_path)
    losses = {"control": (1.0, 0.5, 0.9), "uniform-alpha-5": (1.0, 0.6, 0.7), "uniform-alpha-60": (1.0, 0.9, 1.3)}
    for seed in (0, 1):
        for place in range(3):
            arms = {name: {"held_out_loss": values[place] + 0.1 * seed} for name, values in losses.items()}
            made.append({"event": "evaluated", "seed": seed, "step": 10 * place, "steps": 20, "arms": arms})
    return made


def test_what_a_study_shows_are_its_numbers(record: Record) -> None:
    assert study_facts(record)["study.finished"] == 0
    assert "study.control_rise" not in study_facts(record)
    record.append({"event": "finished", "seed": 0})
    found = study_facts(record)
    assert set(found) <= set(KNOWN)
    assert found["study.finished"] == 1
    assert found["study.control_rise"] == pytest.approx(0.95 / 0.55)
    assert found["study.worst"] == pytest.approx(0.4)
    assert found["study.best"] == pytest.approx(0.2)
    assert (found["study.strongest"], found["study.weakest"], found["study.seeds"]) == (60, 5, 2)
    assert held_out_losses(record.events())["control"] == pytest.approx([1.05, 0.55, 0.95])


IN_FLOAT32 = ModelSettings(precision="float32")


def test_the_norms_that_are_shown_are_those_of_the_noise_that_trained(tmp_path: Path) -> None:
    study = StudySettings(noise=(NoiseSettings(strength=5), NoiseSettings(strength=15)), seed=4, model=IN_FLOAT32)
    made = create(study, "", folder=tmp_path)
    store_norms(made, 2)
    found = stored_norms(made)
    assert found is not None
    loaded = load(IN_FLOAT32)
    row = prepare(study.data, loaded.tokenizer, Limits()).train[2]
    clean = loaded.model.get_input_embeddings().weight[torch.from_numpy(row.ids.astype("int64"))].float()
    assert found["clean"] == pytest.approx(clean.norm(dim=1).tolist(), abs=1e-3)  # they are kept rounded
    assert len(found["epochs"]) == round(study.training.epochs)
    length, width = clean.shape
    for epoch in (0, 2):
        unit = torch.from_numpy(draw_unit("uniform", (4, epoch, 2, EMBEDDING_SITE), length, width))
        noisy = clean + 15 / math.sqrt(3 * length * width) * unit
        assert found["epochs"][epoch]["uniform-alpha-15"] == pytest.approx(noisy.norm(dim=1).tolist(), abs=1e-3)


def test_the_recorded_study_plays_what_its_log_says() -> None:
    record = Lab().recorded
    assert record is not None
    shown = stage(record, "a line")
    assert [arm["name"] for arm in shown["arms"]] == list(record.arms)
    last = [event for event in record.events() if event["event"] == "evaluated"][-1]
    for arm in shown["arms"]:
        assert arm["held_out"][-1] == [
            last["step"],
            pytest.approx(last["arms"][arm["name"]]["held_out_loss"], abs=1e-4),
        ]
    assert shown["seen"]["response"] < len(shown["seen"]["tokens"]) == len(shown["seen"]["clean"])
    assert shown["steps"] == last["step"]
