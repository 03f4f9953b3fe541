"""Pictures of every tab and of the judge, for the documentation: `python -m tests.tools.pictures FOLDER`.

A small study is trained first, so that there is something to see; it is removed again. The judge follows a rule, the
shorter answer wins, so that no model is needed. Needs Playwright and a Chromium of the system.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_core.bench.page import automated_browser, serve_lab
from neftune_core.home import assets
from neftune_core.settings import Limits
from neftune_core.studies.records import removal
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE, StudySettings
from neftune_core.studies.study import run_study
from tests.judge_server import judging

TABS = ("Learn", "Noise", "Data", "Train", "Compare", "Sweep", "Runs")
PATHS = {"en": "", "zh": "/zh"}
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
HELD_OUT = assets() / "world" / "format-held-out.jsonl"
PROMPTS = tuple(json.loads(line)["instruction"] for line in HELD_OUT.read_text(encoding="utf-8").splitlines()[:24])
STUDY = EXAMPLE.model_copy(
    update={
        "title": "",
        "seeds": 2,
        "training": EXAMPLE.training.model_copy(update={"epochs": 6.0, "evaluations": 6}),
        "answers": EXAMPLE.answers.model_copy(update={"prompts": PROMPTS}),
    }
)
QUALITY = 80
PATIENCE = 180_000
SETTLING_SECONDS = 3.0
DRAWN = """[...document.querySelectorAll(".lab-figure-plot")].every((plot) => {
    const isSeen = plot.checkVisibility() && plot.getBoundingClientRect().top < innerHeight;
    return !isSeen || plot.querySelector("svg.main-svg");
})"""
"""Whether every figure in sight is drawn; others are drawn when they are scrolled to."""


@dataclass(frozen=True)
class Look:
    """One combination of language, theme and width."""

    language: str
    theme: str
    size: str

    def file(self, folder: Path, tab: str) -> Path:
        return folder / f"{tab.lower()}-{self.language}-{self.theme}-{self.size}.jpg"


LOOKS = (
    Look("en", "light", "wide"),
    Look("zh", "dark", "wide"),
    Look("en", "dark", "narrow"),
    Look("zh", "light", "narrow"),
)


def pictures(folder: Path, study: StudySettings = STUDY) -> Iterator[Path]:
    """Save every tab in each of `LOOKS` as a JPEG file in `folder`; yield each file."""
    folder.mkdir(parents=True, exist_ok=True)
    key = secrets.token_hex(32)
    record = create(study, key)
    try:
        for _ in run_study(record, Limits(), lambda: False):
            pass
        with serve_lab() as (address, _), automated_browser() as browser:
            for look in LOOKS:
                yield from _looked(browser, address, look, key, record, folder)
            yield _judged(browser, address, key, record, folder)
    finally:
        removal.remove(record)


def _looked(browser: Any, address: str, look: Look, key: str, record: Record, folder: Path) -> Iterator[Path]:
    page = _opened(browser, look, key)
    for tab in TABS:
        opened, job = ("Train", f"&job={record.id}") if tab in ("Train", "Compare") else (tab, "")
        page.goto(f"{address.rstrip('/')}{PATHS[look.language]}?tab={opened}{job}")
        page.wait_for_function("window.Lab && document.body.dataset.labOpened")
        _fill(page, tab)
        page.wait_for_function(DRAWN)
        time.sleep(SETTLING_SECONDS)
        file = look.file(folder, tab)
        page.screenshot(path=file, type="jpeg", quality=QUALITY)
        yield file
    page.context.close()


def _judged(browser: Any, address: str, key: str, record: Record, folder: Path) -> Path:
    """Save the judge's view after it judged."""
    page = _opened(browser, Look("en", "light", "wide"), key)
    page.goto(f"{address.rstrip('/')}?tab=Train&job={record.id}")
    _fill(page, "Compare")
    page.locator("#compare-view input[value=judge]").check(force=True)
    with judging(_shorter_wins) as server:
        for box, text in (("url", server.url), ("model", "a rule: the shorter answer wins")):
            page.locator(f"#judge-{box}").locator("input, textarea").fill(text)
        page.locator("#judge-second input").click()
        page.get_by_role("option", name="base", exact=True).click()
        page.locator("#judge-ask").click()
        page.locator("#judge-found .lab-end").wait_for()
    file = folder / "compare-judge.jpg"
    page.locator("#inside-judge").screenshot(path=file, type="jpeg", quality=QUALITY)
    page.context.close()
    return file


def _shorter_wins(_prompt: str, first: str, second: str) -> str:
    return "TIE" if len(first) == len(second) else "A" if len(first) < len(second) else "B"


def _opened(browser: Any, look: Look, key: str) -> Any:
    width, height = SIZES[look.size]
    locale = {"en": "en-GB", "zh": "zh-CN"}[look.language]
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    context.add_init_script(
        f"localStorage.setItem('neftune-lab-owner', '{key}'); localStorage.setItem('neftune-lab-theme', '{look.theme}')"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    return page


def _fill(page: Any, tab: str) -> None:
    """Fill the tab with content."""
    if tab in ("Train", "Compare"):
        page.locator("#train-state [data-state=finished]").wait_for()
    if tab == "Compare":
        page.locator("#train-compare").click()
        page.locator("#compare-answers section article").first.wait_for()
    if tab == "Runs":
        page.locator(".lab-runs button").first.click()
        page.locator("#runs-curves .lab-figure-plot").first.wait_for()


if __name__ == "__main__":
    for made in pictures(Path(sys.argv[1])):
        print(made)
