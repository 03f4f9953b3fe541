"""Figures and reports name arms in words of the page's language, in summaries and where one points too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from neftune_core.export.study_report import losses_html
from neftune_core.figures.base import Figure
from neftune_core.figures.class_overlay import ClassStudy, class_curves, class_differences
from neftune_core.figures.curves import loss_curves
from neftune_core.figures.effects import effect_curve
from neftune_core.figures.evidence import epochs_beside, overlap_histogram, robustness_curves, seed_differences
from neftune_core.figures.trained import robustness_figure, weights_figure
from neftune_core.home import assets
from neftune_core.language import CHINESE, ENGLISH, in_language, translate_finished
from neftune_core.noise.names import arm_words, with_arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies import comparison
from neftune_core.studies.judging import outcomes_of, verdict_of
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL
from neftune_core.studies.trained.comparison_session import offered_columns
from neftune_core.studies.trained.robustness import Robustness
from neftune_core.studies.trained.weights import Update
from neftune_core.studies.votes import Tally, tally_text
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.table import sweep_table
from neftune_core.ui.parts.recorded_study import read_recorded_study
from neftune_core.ui.parts.study_views import STUDY_VIEWS, curves_of
from neftune_core.ui.parts.verdict_card import evidence_of
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs.views.sweep_views import table_view

ARMS = {"control": CONTROL, "gaussian-std-0.1": NoiseSettings(kind="gaussian", unit="std", strength=0.1)}
NOISE = "gaussian-std-0.1"
IDENTIFIER = r"\b(uniform|gaussian|laplace|bernoulli|symmetric|adversarial|token-dropout|lora-dropout)-\w+"
RAW = {ENGLISH: re.compile(IDENTIFIER), CHINESE: re.compile(IDENTIFIER + r"|\bcontrol\b")}
IDENTIFIERS = {"uid", "legendgroup", "color", "fillcolor"}
MEASURED = {"train_loss": 2.0, "held_out_loss": 2.0}
EVENTS = [
    {"event": "started", "seed": 0, "steps": 2},
    {"event": "evaluated", "seed": 0, "step": 0, "arms": dict.fromkeys(ARMS, MEASURED)},
    {
        "event": "step",
        "seed": 0,
        "step": 1,
        "steps": 2,
        "tokens": 9,
        "time": 1.0,
        "learning_rate": 0.1,
        "arms": {name: {"loss": 1.0, "gradient_norm": 1.0, "clipped": 0.0, "weight_distance": 1.0} for name in ARMS},
    },
]


def texts_of(value: Any) -> Iterator[str]:
    """Yield the texts of a figure that people read or hear."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if name not in IDENTIFIERS:
                yield from texts_of(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from texts_of(part)


@pytest.fixture(scope="module")
def study() -> Record:
    """Return the recorded study that ships with the lab."""
    return Record(next(assets().glob("studies/*/study.toml")).parent)


def figures_of(study: Record) -> Iterator[Figure]:
    arms = study.arms
    for view in STUDY_VIEWS:
        yield curves_of(study, study.events(), view)
    yield seed_differences(verdict_of(study), arms)
    yield epochs_beside(outcomes_of(study), "control", arms)
    yield overlap_histogram({"control": [0.1, 0.2], NOISE: []}, ARMS)
    disturbed = {"amounts": [0.0, 0.1], "arms": {name: {"loss": [1.0, 2.0]} for name in ARMS}}
    yield robustness_curves([{"noise": disturbed, "typos": disturbed}], ARMS)
    rows = {name: {"losses": [[1.0], [2.0]], "hits": [[1], [0]]} for name in ARMS}
    yield robustness_figure(Robustness(strengths=[0.0, 1.0], tokens=[1], arms=rows), ARMS)
    yield weights_figure({name: {"0": Update(1.0, 5.0)} for name in ARMS}, ["0"], ARMS)
    each = ClassStudy(1, ARMS, dict.fromkeys(ARMS, ([0, 1], [1.0, 2.0])), {NOISE: 0.1})
    yield from (class_curves([each]), class_differences([each]))
    for sweep in ("7-kinds-of-noise", "8-other-methods"):
        table = sweep_table(Sweep(assets() / "recorded" / sweep))
        yield effect_curve(table, table.question.measure, "last")


@pytest.mark.parametrize(("code", "named"), [(ENGLISH, "Gaussian std 0.1"), (CHINESE, "高斯 标准差 0.1")])
def test_no_figure_and_no_table_has_the_identifier_of_an_arm(study: Record, code: str, named: str) -> None:
    raw = RAW[code]
    with in_language(code):
        for figure in (*figures_of(study), loss_curves(EVENTS, ARMS)):
            assert figure["data"], figure["name"]
            assert [text for text in texts_of(figure) if raw.search(text)] == [], figure["name"]
        assert named in loss_curves(EVENTS, ARMS)["summary"]
        diverged = {"event": "diverged", "seed": 0, "step": 1, "arms": {NOISE: {}}}
        assert not raw.search(loss_curves([*EVENTS, diverged], ARMS)["summary"])
        evidence = evidence_of(study)
        table = sweep_table(Sweep(assets() / "recorded" / "7-kinds-of-noise"))
        assert table.verdict
        for shown in (losses_html(study), evidence.card, evidence.details, table_view(table, "exact")):
            assert not raw.search(re.sub(r"<[^>]+>", "", shown))
        assert not raw.search(table.verdict.text())


def test_arms_of_cells_and_of_other_studies_are_named_in_words_too() -> None:
    with in_language(CHINESE):
        assert arm_words("epochs 3: gaussian-std-0.1") == "epochs 3：高斯 标准差 0.1"
        assert arm_words("20260101-120000-abc/uniform-alpha-5/seed-1") == "20260101-120000-abc/alpha 5/种子 1"


def test_the_choice_of_columns_is_in_words(monkeypatch: pytest.MonkeyPatch, study: Record) -> None:
    monkeypatch.setattr(comparison, "saved_seeds", lambda record: [0])
    monkeypatch.setattr(comparison, "saved_best", lambda record, seed: {NOISE + "@best": 3})
    chosen = comparison.SelectedArm(study, "uniform-alpha-5", 0)
    monkeypatch.setattr(comparison, "selected_arms", lambda records, seeds: [chosen])
    with in_language(CHINESE):
        named, _ = offered_columns(study, 0, [], lambda record: "")
    assert [words for words, _ in named] == ["alpha 5", "高斯 标准差 0.1（最佳时，第 3 步）"]


def test_finished_sentences_votes_and_the_recorded_study_have_arms_in_words(study: Record) -> None:
    lost = "uniform-alpha-1, uniform-alpha-15"
    stored = f"The loss of {lost} became NaN or infinite: choose a smaller learning rate or less noise."
    arms = ("control", "uniform-alpha-1", "uniform-alpha-15")
    assert with_arm_words(stored, arms).startswith("The loss of alpha 1, alpha 15 became")
    with in_language(CHINESE):
        raw = RAW[CHINESE]
        assert "alpha 1, alpha 15 " in with_arm_words(translate_finished(stored), arms)
        assert not raw.search(with_arm_words(translate_finished(stored), arms))
        assert not raw.search(tally_text(Tally(("control", NOISE), (3, 4), 0, 0)))
        recorded = read_recorded_study(Lab())
        assert recorded is not None
        texts = [*texts_of({**recorded.stage, "arms": []}), *(arm["label"] for arm in recorded.stage["arms"])]
        assert [text for text in texts if raw.search(text)] == []


def test_an_arm_with_another_method_is_a_line_of_its_own_in_the_effects_of_a_sweep() -> None:
    table = sweep_table(Sweep(assets() / "recorded" / "8-other-methods"))
    lines = {trace["name"]: list(trace["x"]) for trace in effect_curve(table, "exact", "last")["data"]}
    assert (lines["alpha"], lines["adapter dropout 0.3"]) == ([12.0], [0.0])
    assert lines["consistency 1 with alpha 12"] == [12.0]
    assert len(lines) == 7
