"""The Compare tab in the browser: another turn, marks, and a blind vote that reveals the names."""

from __future__ import annotations

import csv
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from served_lab import visiting

from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.records.tokens import TOKENS, read_tokens
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study
from neftune_core.studies.trained.robustness import read_robustness
from neftune_core.studies.votes import votes

KEY = "c0" * 32
SELECT = """() => {
  const look = () => {
    const asked = [...document.querySelectorAll('#compare-answers section')]
      .find((one) => one.innerText.includes('Who lives here'));
    const text = asked?.querySelector('article p')?.firstChild;
    if (!(text?.data?.length > 2)) return requestAnimationFrame(look);
    getSelection().setBaseAndExtent(text, 0, text, 3);
    window.labSelected = { text, words: String(getSelection()) };
  };
  look();
}"""
STILL_SELECTED = (
    "labSelected.text.isConnected && labSelected.words.length === 3 && String(getSelection()) === labSelected.words"
)
IN_ORDER = """() => {
  const tops = ['view', 'prompts', 'ask', 'answers', 'record', 'blind']
    .map((name) => document.querySelector(`#compare-${name}`).getBoundingClientRect().top);
  return tops.every((top, index) => !index || top > tops[index - 1]);
}"""
"""On a phone prompts and answers come before the settings."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a finished study of the bundled model on a few rows."""
    training = EXAMPLE.training.model_copy(update={"epochs": 1, "evaluations": 1, "evaluation_rows": 4})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 0, "robustness": False})
    data = EXAMPLE.data.model_copy(update={"rows": 12})
    study = EXAMPLE.model_copy(update={"training": training, "measuring": measuring, "data": data})
    record = create(study, KEY, folder=tmp_path_factory.mktemp("trained"))
    assert [*run_study(record, Limits(), lambda: False)][-1]["event"] == "finished"
    return record


@pytest.fixture
def record(trained: Record, lab_home: Path) -> Record:
    """Return a copy of the finished study in the lab."""
    return Record(
        shutil.copytree(trained.folder, lab_home / "runs" / (time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)))
    )


def test_columns_continue_are_marked_and_voted_on_blind(browser: Any, lab_address: str, record: Record) -> None:
    with visiting(browser, lab_address, key=KEY, link="?compare.prompts=Who%20lives%20here%3F") as page:
        page.get_by_role("tab", name="Compare", exact=True).click()
        page.evaluate(SELECT)
        asked = page.locator("#compare-ask").bounding_box()
        assert asked["y"] + asked["height"] < 720  # on the first screen of a small laptop
        page.locator("#compare-ask").click()
        page.locator("#compare-answers h3", has_text="Who lives here?").wait_for()
        page.locator("#compare-go-on").wait_for()
        assert page.evaluate(STILL_SELECTED)
        assert "which teaches, for example:" in page.locator("#compare-answers .lab-quiet").first.inner_text()
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_function(IN_ORDER)
        page.set_viewport_size({"width": 1280, "height": 860})
        page.locator("#compare-marks input").click()
        page.get_by_role("option", name="base", exact=True).click()
        page.locator("#compare-turn").locator("input, textarea").fill("And who else?")
        page.locator("#compare-go-on").click()
        page.locator("#compare-answers h3", has_text="And who else?").wait_for()
        page.locator("#compare-stop").wait_for(state="hidden")
        page.locator("#compare-blind input").check()
        page.locator("#compare-judged", has_text="alpha 5").wait_for()
        page.locator("#compare-ask").click()
        page.locator("[data-vote=a]").click()
        page.locator("#compare-tally p", has_text="95% interval").wait_for()
        assert page.locator("#compare-answers h4").all_inner_texts() == ["base", "control", "alpha 5"]
        with page.expect_download() as saved:
            page.locator("#compare-csv").click()
        assert saved.value.suggested_filename == "answers.csv"
        assert "Who lives here?" in saved.value.path().read_text(encoding="utf-8")
    assert [vote["prompt"] for vote in votes(record)] == ["Who lives here?"]


def test_what_trained_arms_do_is_seen_by_token_by_noise_and_by_layer(
    browser: Any, lab_address: str, record: Record
) -> None:
    lines = read_tokens(record, 0)
    (record.folder / TOKENS).unlink()  # as in a record made before
    with visiting(browser, lab_address, key=KEY) as page:
        page.get_by_role("tab", name="Compare", exact=True).click()
        page.locator("#compare-view input[value=rows]").check(force=True)
        page.locator("#inside-measure").click()
        tokens = page.locator(".lab-rows-answer .lab-rows-token")
        tokens.first.wait_for()
        about = page.locator(".lab-rows-about")
        tokens.first.focus()
        page.keyboard.press("ArrowRight")
        told = tokens.nth(1).get_attribute("aria-label")
        assert about.inner_text() == told
        assert all(name in told for name in ("base", "control", "alpha 5"))
        tokens.nth(2).click()
        assert about.inner_text() == tokens.nth(2).get_attribute("aria-label")
        assert page.locator(".lab-rows-kinds tbody tr").last.inner_text().startswith("all tokens")
        with page.expect_download() as saved:
            page.locator("[data-save]").click()
        table = list(csv.DictReader(saved.value.path().read_text(encoding="utf-8").splitlines()))
        assert len(table) == sum(len(line["tokens"]) * len(line["losses"]) for line in lines)
        page.locator("[name=part]").select_option("written")
        assert "written by" in page.locator(".lab-rows-summary").inner_text()
        assert page.locator(".lab-rows-kinds tbody").count() == 0
        page.locator("#compare-view input[value=robustness]").check(force=True)
        page.locator("#inside-rows").wait_for(state="hidden")
        page.locator("#inside-measure").click()
        page.locator("#inside-figure .lab-figure-summary", has_text="held-out rows under Gaussian noise").wait_for()
        page.locator("#compare-view input[value=weights]").check(force=True)
        page.locator("#inside-figure .lab-figure-summary", has_text="scale times B A").wait_for()
        page.locator("#compare-view input[value=answers]").check(force=True)
        page.locator("#compare-source").wait_for()
        page.locator("#compare-inside").wait_for(state="hidden")
    assert read_robustness(record, 0) is not None
