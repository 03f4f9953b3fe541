"""The Compare tab in the browser: another turn, marks, and a blind vote that reveals the names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from served_lab import visiting

from neftune_core.settings import Limits
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study
from neftune_core.studies.votes import votes

KEY = "c0" * 32


def test_columns_continue_are_marked_and_voted_on_blind(browser: Any, lab_address: str, lab_home: Path) -> None:
    training = EXAMPLE.training.model_copy(update={"epochs": 1})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 0, "robustness": False})
    data = EXAMPLE.data.model_copy(update={"rows": 8})
    study = EXAMPLE.model_copy(update={"training": training, "measuring": measuring, "data": data})
    record = create(study, KEY, folder=lab_home / "runs")
    assert [*run_study(record, Limits(), lambda: False)][-1]["event"] == "finished"
    with visiting(browser, lab_address, key=KEY, link="?compare.prompts=Who%20lives%20here%3F") as page:
        page.get_by_role("tab", name="Compare", exact=True).click()
        page.locator("#compare-ask").click()
        page.locator("#compare-answers h3", has_text="Who lives here?").wait_for()
        page.locator("#compare-go-on").wait_for()
        page.locator("#compare-marks input").click()
        page.get_by_role("option", name="base", exact=True).click()
        page.locator("#compare-turn").locator("input, textarea").fill("And who else?")
        page.locator("#compare-go-on").click()
        page.locator("#compare-answers h3", has_text="And who else?").wait_for()
        page.locator("#compare-stop").wait_for(state="hidden")
        page.locator("#compare-blind input").check()
        page.locator("#compare-judged", has_text="uniform-alpha-5").wait_for()
        page.locator("#compare-ask").click()
        page.locator("[data-vote=a]").click()
        page.locator("#compare-tally p", has_text="95 % interval").wait_for()
        assert page.locator("#compare-answers h4").all_inner_texts() == ["base", "control", "uniform-alpha-5"]
        with page.expect_download() as saved:
            page.locator("#compare-csv").click()
        assert saved.value.suggested_filename == "answers.csv"
        assert "Who lives here?" in saved.value.path().read_text(encoding="utf-8")
    assert [vote["prompt"] for vote in votes(record)] == ["Who lives here?"]
