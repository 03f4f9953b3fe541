"""Answers to a page that watches a study: what is new in its log, for its owner alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from owned_study import six_seed_study
from starlette.applications import Starlette
from starlette.testclient import TestClient

from neftune_core.errors import RecordError
from neftune_core.language import CHINESE, in_language
from neftune_core.studies.records.progress import of_record
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.results import measured_rows
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui import watching
from neftune_core.ui.parts.study_views import curves_of
from neftune_core.ui.parts.verdict_card import evidence_of
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.study_text import state_text
from neftune_core.ui.tabs.runs_tab import list_entry
from neftune_core.ui.watching import OWNER_HEADER, Studies, UpdateRequest

ANN, BEN = "a1" * 32, "b2" * 32


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    made = create(EXAMPLE, ANN)
    made.append({"seed": 0, "event": "started", "steps": 30, "seeds": 1})
    return made


def add_steps(record: Record, *steps: int) -> None:
    for step in steps:
        losses = {"control": {"loss": 1 / step}, "uniform-alpha-5": {"loss": 2 / step}}
        record.append({"seed": 0, "event": "step", "step": step, "steps": 30, "tokens": 9, "arms": losses})


def test_a_page_gets_a_figure_once_and_then_what_is_new(record: Record) -> None:
    studies = Studies(Lab())
    add_steps(record, 1, 2, 3)
    first = studies.answer(UpdateRequest(record.id, ANN, "losses"))
    assert first["figure"] == curves_of(record, record.log().read(), "losses")
    add_steps(record, 4)
    then = studies.answer(UpdateRequest(record.id, ANN, "losses", first["tag"]))
    assert "figure" not in then
    assert then["changes"]["traces"]["control/loss/0"]["lists"]["y"] == (3, [1 / 4])
    again = studies.answer(UpdateRequest(record.id, ANN, "losses", then["tag"]))
    assert not {"figure", "changes"} & set(again)
    assert again["tag"] == then["tag"]


@pytest.mark.parametrize("tag", ["", "x", "-1-0", "2-0", "99999-abc", "9" * 5000])
def test_a_page_whose_figure_is_unknown_gets_a_whole_one(record: Record, tag: str) -> None:
    add_steps(record, 1, 2, 3)
    answer = Studies(Lab()).answer(UpdateRequest(record.id, ANN, "losses", tag))
    assert answer["figure"] == curves_of(record, record.log().read(), "losses")


def test_a_log_that_went_back_gives_a_whole_figure(record: Record) -> None:
    studies = Studies(Lab())
    add_steps(record, 1, 2, 3)
    before = studies.answer(UpdateRequest(record.id, ANN, "losses"))
    lines = record.log().path.read_text(encoding="utf-8").splitlines(keepends=True)
    record.log().path.write_text("".join(lines[:-1]), encoding="utf-8")  # as a resumed study begins
    add_steps(record, 4, 5)
    answer = studies.answer(UpdateRequest(record.id, ANN, "losses", before["tag"]))
    assert [trace["x"] for trace in answer["figure"]["data"] if trace["uid"] == "control/loss/0"] == [[1, 2, 4, 5]]


def get(studies: Studies, record_id: str, key: str, **query: str) -> Any:
    client = TestClient(Starlette(routes=[studies.route()]))
    answer = client.get(f"/page-study/{record_id}", params=query, headers={OWNER_HEADER: key} if key else {})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return json.loads(answer.text)


def test_only_its_owner_sees_a_study(record: Record) -> None:
    studies = Studies(Lab())
    add_steps(record, 1)
    assert get(studies, record.id, ANN, view="losses")["tag"].startswith("2-")
    for key, record_id in ((BEN, record.id), ("", record.id), (ANN, "nothing"), (ANN, "a b")):
        assert get(studies, record_id, key, view="losses") == {"gone": True}


def test_an_answer_is_in_the_language_of_the_page(record: Record) -> None:
    studies = Studies(Lab())
    assert "Interrupted" in get(studies, record.id, ANN, language="en")["progress"]
    assert "Interrupted" not in get(studies, record.id, ANN, language="zh", view="?")["progress"]
    assert "Interrupted" in get(studies, record.id, ANN, language="other")["progress"]


def test_a_call_is_held_until_the_first_point(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    studies, waits = Studies(Lab()), list[float]()
    monkeypatch.setattr(studies.lab.jobs, "status", lambda record: replace(of_record(record), state="running"))

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            add_steps(record, 1)

    monkeypatch.setattr(watching, "asyncio", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(watching, "LONGEST_WAIT_SECONDS", 600.0)
    answer = get(studies, record.id, ANN, view="losses")
    assert answer["figure"]["data"][0]["x"] == [1]
    assert len(waits) == 3
    monkeypatch.setattr(watching, "LONGEST_WAIT_SECONDS", 0.0)
    assert get(studies, record.id, ANN, view="losses", tag=answer["tag"])["tag"] == answer["tag"]


def test_the_measured_rows_and_kept_weights_of_a_study_are_among_its_details(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.update_about(samples={"train_loss": "the first 8 training rows", "held_out_loss": "the first 4 rows"})
    kept = {f"uniform-alpha-{strength}@best": 10 for strength in (5, 15)}
    monkeypatch.setattr("neftune_core.studies.comparison.saved_seeds", lambda record: [0, 1, 2])
    monkeypatch.setattr("neftune_core.studies.comparison.saved_best", lambda record, seed: kept)

    def judge(record: Record) -> None:
        raise RecordError("it is live")

    monkeypatch.setattr("neftune_core.ui.parts.verdict_card.judge", judge)
    over = state_text(record, replace(of_record(record), state="finished"), record.log())
    assert "Finished" in over
    assert "training rows" not in over
    assert "step 10" not in over
    found = evidence_of(record)
    assert "There is no verdict: it is live" in found.card
    assert found.details.count("step 10 (seed") == 6
    assert "the first 8 training rows" in found.details


def test_the_losses_of_a_running_study_are_marked_as_those_of_one_batch(record: Record) -> None:
    add_steps(record, 1, 2)
    shown = state_text(record, replace(of_record(record), state="running"), record.log())
    assert (
        "loss of one batch, noise on (it fluctuates; compare the held-out loss): control 0.500, alpha 5 1.000" in shown
    )


def test_measures_have_the_number_of_their_rows(tmp_path: Path) -> None:
    study = six_seed_study(tmp_path, ANN)
    rows = measured_rows(study)
    assert (rows["exact"], rows["train_loss"], rows["right"], rows["typos_loss"]) == (120, 120, 48, 60)
    found = evidence_of(study)
    assert "<summary>Exact answers <small>120 rows</small></summary>" in found.card
    assert "<summary>Correct answers <small>48 rows</small></summary>" in found.card
    assert "<summary>Loss under typing errors <small>60 rows</small></summary>" in found.details
    assert "sample_sizes" not in study.about  # an earlier version described the samples in words alone
    study.update_about(sample_sizes={"train_loss": 7, "held_out_loss": 9})
    rows = measured_rows(study)
    assert (rows["exact"], rows["train_loss"], rows["typos_loss"]) == (9, 7, 60)


def test_a_listed_study_has_its_seeds_and_its_result_once_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    lab, study = Lab(), six_seed_study(tmp_path / "runs", ANN)
    assert list_entry(lab, study)["result"] == "6 seeds"
    brief = lab.brief(study)
    assert brief
    words = "better with Gaussian alpha 12, Laplace alpha 12 and Bernoulli alpha 12 (the share of exact answers)"
    assert list_entry(lab, study)["result"] == f"6 seeds: {words}"
    with in_language(CHINESE):
        assert list_entry(lab, study)["result"].startswith("6 个种子：高斯 alpha 12")
    monkeypatch.setattr("neftune_core.sweeps.table.judge", None)
    assert lab.brief(study) == brief  # not judged again
    study.append({"event": "started", "seed": 61})  # as if more seeds were trained
    assert not lab.has_brief(study)
