"""The complete workflow by clicks, on the bundled model: preview, upload, train, compare, reopen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_steps import BAD_ROW, open_tab, own_file, text_of, upload
from served_lab import visiting

from neftune_core.data.settings import DataSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE

pytestmark = pytest.mark.browser


KEY = "5a" * 32


POINTS = """() => (document.querySelector('#train-curves .lab-figure-plot').labFigure.value?.data || [])
    .filter((trace) => trace.uid.includes('/loss/')).reduce((count, trace) => count + trace.y.length, 0)"""


def epochs(page: Any, count: int) -> None:
    """Set the epochs on the Train tab, and wait for the updated plan."""
    open_tab(page, "Train")
    text_of(page, "#train-plan", "steps")
    box = page.locator("#train-epochs input[type=number]")
    before = page.locator("#train-plan").inner_text()
    box.fill(str(count))
    box.press("Tab")
    page.wait_for_function("(before) => document.querySelector('#train-plan').innerText !== before", arg=before)


ENDLESS = "?tab=Train&train.epochs=20&train.seeds=8"


@pytest.fixture
def endless_page(browser: Any, lab_address: str) -> Iterator[Any]:
    """Return a new visitor's page on which a study is set up, by its link, that runs longer than the test."""
    with visiting(browser, lab_address, link=ENDLESS) as opened:
        text_of(opened, "#train-plan", "8 seeds of")
        yield opened


def is_uncovered(page: Any, selector: str) -> bool:
    """Whether a click in the middle of an element meets the element itself."""
    button = page.locator(selector)
    button.scroll_into_view_if_needed()
    met = """element => {
        const box = element.getBoundingClientRect();
        return element.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
    }"""
    return bool(button.evaluate(met))


def has_begun(page: Any) -> None:
    """Wait until the strip shows the remaining time, which is known after some steps."""
    page.locator("#lab-progress .lab-progress-left").wait_for()


def stop(page: Any, how: str = "keep") -> None:
    page.locator("#lab-stop").click()
    page.locator(f"#lab-stop-{how}").click()


def test_the_slider_moves_the_noise(lab_page: Any) -> None:
    open_tab(lab_page, "Noise")
    figure = "document.querySelector('#noise-figure .lab-figure-plot').labFigure"
    lab_page.wait_for_function(f"{figure}.value")  # the first picture may come after the page
    before = lab_page.evaluate(f"{figure}.current().data[1].y[0]")
    slider = lab_page.locator("#noise-strength input[type=range]")
    slider.focus()
    for _ in range(8):
        slider.press("ArrowRight")
    assert lab_page.evaluate(f"{figure}.current().data[1].y[0]") != before
    assert "alpha 6 and 15" in text_of(lab_page, "#lab-words", "Next study:")
    lab_page.locator("#noise-words [data-word=others]", has_text="from the Train tab, alpha 15").wait_for()


def test_no_noise_at_all_is_reported_and_trains_nothing(lab_page: Any) -> None:
    open_tab(lab_page, "Train")
    lab_page.locator("#train-strengths textarea, #train-strengths input").fill("0")
    text_of(lab_page, "#lab-words", "alpha 2")
    open_tab(lab_page, "Noise")
    slider = lab_page.locator("#noise-strength input[type=range]")
    slider.focus()
    slider.press("Home")
    text_of(lab_page, "#lab-words", "no noise")
    lab_page.locator("#noise-words [data-word=others]").wait_for(state="hidden")
    lab_page.locator("#lab-train").click()
    lab_page.get_by_text("The only strength is 0").first.wait_for()
    lab_page.wait_for_function("Lab.parameter('job') === null")


def test_a_study_is_trained_compared_and_found_again(browser: Any, lab_page: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, key=KEY) as page:
        epochs(page, 1)
        page.locator("#lab-train").click()
        page.locator("#train-state [data-state=finished]").wait_for(timeout=240_000)
        points, job = page.evaluate(POINTS), page.evaluate("Lab.parameter('job')")
        page.locator("#train-compare").click()
        _compare(page)
    with visiting(browser, lab_address, key=KEY, link=f"?job={job}") as page:  # the link of a study shows all of it
        page.locator("#train-state [data-state=finished]").wait_for()
        page.wait_for_function(f"({POINTS})() === {points}")
        open_tab(page, "Train")
        page.get_by_text("As in the study shown, ").wait_for()
        page.reload()  # now the page restores what this tab stored
        page.get_by_text("As in the study shown, ").wait_for()
        _runs(page)
    open_tab(lab_page, "Runs")  # another visitor, who sees nothing of it
    lab_page.get_by_text("No study yet").wait_for()


def _compare(page: Any) -> None:
    """Check the stored answers, and then answers to a typed prompt."""
    columns = page.locator("#compare-answers section").first.locator("article")
    columns.first.wait_for()
    names = ["base", "control", "alpha 2", "alpha 15"]
    assert columns.locator("h4").all_inner_texts() == ["expected answer", *names]
    assert "as expected" in columns.nth(1).locator(".lab-match").inner_text()
    assert page.locator("#compare-source input[value='held out']").is_checked()
    page.locator("#compare-source label", has_text="Typed").click()
    page.get_by_text("Write prompts and press Answer.").wait_for()
    page.locator("#compare-prompts textarea").fill("What is <b>red</b>?")
    page.locator("#compare-ask").click()
    section = page.locator("#compare-answers section", has_text="What is <b>red</b>?")
    section.locator("footer", has_text="token").nth(len(names) - 1).wait_for(timeout=120_000)
    page.locator("#compare-stop").wait_for(state="hidden")
    assert section.locator("h4").all_inner_texts() == names
    assert all("token" in text for text in section.locator("footer").all_inner_texts())


def _runs(page: Any) -> None:
    open_tab(page, "Runs")
    assert page.locator(".lab-runs button .lab-run-open").first.inner_text() == "Open"
    page.locator(".lab-runs button", has_text="Finished").click()
    page.locator("#runs-state [data-state=finished]").wait_for()
    page.locator("#runs-curves .lab-figure-plot svg.main-svg").first.wait_for()
    page.locator("#runs-answers section").nth(2).wait_for()
    assert page.locator("#runs-answers section").count() == 3  # the held-out prompts that a study answers


def test_a_study_is_seen_to_grow_stopped_gone_on_with_and_discarded(endless_page: Any) -> None:
    lab_page = endless_page
    lab_page.locator("#lab-train").click()
    lab_page.locator("#train-state [data-state=running]").wait_for()
    text_of(lab_page, "#lab-progress", "Training")
    lab_page.locator("#lab-words").wait_for(state="hidden")  # the header shows the running study alone
    lab_page.wait_for_function(f"({POINTS})() > 0")
    first = lab_page.evaluate(POINTS)
    lab_page.wait_for_function(f"({POINTS})() > {first}")
    stop(lab_page)
    lab_page.locator("#train-state [data-state=stopped]").wait_for()
    lab_page.locator("#train-resume").click()
    lab_page.locator("#train-state [data-state=running]").wait_for()
    stop(lab_page)
    lab_page.locator("#train-state [data-state=stopped]").wait_for()
    lab_page.locator("#train-remove").click()
    lab_page.locator("#train-surely").click()
    text_of(lab_page, "#train-state", "A recorded study")
    lab_page.wait_for_function("Lab.parameter('job') === null")
    open_tab(lab_page, "Runs")
    lab_page.get_by_text("No study yet").wait_for()
    text_of(lab_page, "#runs-storage", "on this machine's disk")
    open_tab(lab_page, "Train")
    lab_page.locator("#train-undo").click()
    lab_page.locator("#train-state [data-state=stopped]").wait_for()
    lab_page.locator("#train-undo").wait_for(state="hidden")


def test_what_is_reported_does_not_lie_over_the_buttons(browser: Any, lab_address: str, lab_home: Path) -> None:
    record = create(EXAMPLE, KEY, folder=lab_home / "runs")
    record.append({"seed": 0, "event": "started", "steps": 60, "seeds": 1})
    with record.claimed(), visiting(browser, lab_address, key=KEY, link="?noise.kind=unknown") as page:
        page.locator(".lab-message").first.wait_for()
        text_of(page, "#lab-words", "Next study:")
        assert is_uncovered(page, "#lab-train")
        page.goto(f"{lab_address}?job={record.id}&noise.kind=unknown")
        page.locator("#train-state [data-state=running]").wait_for()
        page.locator(".lab-message").first.wait_for()
        assert is_uncovered(page, "#lab-stop")
        page.locator("#lab-stop").click()  # asks what to do with the results
        assert is_uncovered(page, "#lab-stop-discard")


def test_a_preset_and_the_reset_set_every_training_setting(lab_page: Any) -> None:
    open_tab(lab_page, "Train")
    text_of(lab_page, "#train-plan", "steps")
    lab_page.locator("#train-preset label", has_text="small data, many epochs").click()
    text_of(lab_page, "#train-preset-about", "overfit")
    lab_page.get_by_role("button", name="Measuring and saving").click()
    evaluations = lab_page.locator("#train-evaluations input[type=number]")
    evaluations.wait_for()
    assert evaluations.input_value() == "20"  # in a group that was closed when it was set
    lab_page.locator("#train-strengths textarea, #train-strengths input").fill("1, 3, 4")
    text_of(lab_page, "#train-plan", "5 arms")
    lab_page.locator("#train-preset label", has_text="the paper's").click()
    text_of(lab_page, "#train-preset-about", "2310.05914")  # its batch is larger than the slider offers
    text_of(lab_page, "#train-plan", "6 steps (3 epochs), 5 arms")
    lab_page.locator("#train-reset").click()
    text_of(lab_page, "#train-plan", "3 arms")
    assert lab_page.locator("#train-epochs input[type=number]").input_value() == "6"
    assert evaluations.input_value() == str(EXAMPLE.training.evaluations)
    assert lab_page.locator(".lab-message").count() == 0
    open_tab(lab_page, "Noise")
    lab_page.locator("#noise-unit label", has_text="std").click()
    open_tab(lab_page, "Train")
    lab_page.locator("#train-strengths textarea, #train-strengths input").fill("0.5")
    lab_page.locator("#train-reset").click()
    lab_page.wait_for_function("Lab.read('train-strengths') !== '0.5'")
    lab_page.wait_for_function("Number(Lab.read('train-strengths')) < 1")  # alpha 15, as a standard deviation


def asks_before_it_stops(page: Any) -> None:
    """Press Stop, and check that nothing has happened to the study after Escape and after Continue."""
    page.locator("#lab-stop").click()
    page.locator("#lab-go-on").wait_for()
    assert page.locator("#lab-stopping button:visible").all_inner_texts() == [
        "Stop and keep",
        "Stop and discard",
        "Continue",
    ]
    page.keyboard.press("Escape")
    page.locator("#lab-stop").click()
    page.locator("#lab-go-on").click()
    page.locator("#lab-stop").wait_for()
    assert page.locator("#train-state [data-state=running]").count() == 1


def test_a_killed_study_is_reported_as_interrupted_and_continues_until_it_is_discarded(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    training = EXAMPLE.training.model_copy(update={"epochs": 20.0})
    study = EXAMPLE.model_copy(update={"seeds": 8, "training": training})
    record = create(study, KEY, folder=lab_home / "runs")  # as a server left it that was ended in mid-run
    record.append({"event": "started", "seed": 0, "steps": 380, "seeds": 8})
    with visiting(browser, lab_address, key=KEY, link=f"?job={record.id}") as page:
        page.locator("#train-state [data-state=interrupted]").wait_for()
        page.locator("#train-resume").click()
        page.locator("#train-state [data-state=running]").wait_for()
        assert page.evaluate("Lab.parameter('job')") == record.id
        asks_before_it_stops(page)
        stop(page, "discard")
        text_of(page, "#train-state", "A recorded study")
        page.locator("#lab-stopping").wait_for(state="hidden")
        page.wait_for_function("Lab.parameter('job') === null")
        assert page.locator(".lab-message").count() == 0
    assert not record.folder.exists()


def test_a_reload_finds_the_study_another_waits_and_stop_ends_them(endless_page: Any) -> None:
    lab_page = endless_page
    lab_page.locator("#lab-train").click()
    lab_page.locator("#train-state [data-state=running]").wait_for()
    job = lab_page.evaluate("Lab.parameter('job')")
    lab_page.reload()
    has_begun(lab_page)
    open_tab(lab_page, "Train")
    lab_page.locator("#train-state [data-state=running]").wait_for()
    assert lab_page.evaluate("Lab.parameter('job')") == job

    lab_page.locator("#lab-train").click()
    text_of(lab_page, "#train-state", "position 1 in the queue")
    stop(lab_page)
    text_of(lab_page, "#train-state", "Stopped while waiting")

    open_tab(lab_page, "Runs")
    lab_page.locator(".lab-runs button", has_text="Training").click()
    has_begun(lab_page)
    stop(lab_page)
    text_of(lab_page, "#lab-progress", "Stopped")
    open_tab(lab_page, "Compare")
    lab_page.locator("#compare-record input").click()
    lab_page.get_by_role("option").first.wait_for()
    assert lab_page.get_by_role("option").count() == 1  # the arms of its last whole step were kept


def settings_shown(page: Any) -> dict[str, Any]:
    """Return the values that the forms show."""
    open_tab(page, "Train")
    shown = {name: page.evaluate("(id) => Lab.read(id)", f"train-{name}") for name in ("strengths", "epochs", "seed")}
    shown |= {name: page.evaluate("(id) => Lab.read(id)", f"noise-{name}") for name in ("unit", "strength")}
    return shown | {"data": page.locator("[data-word=data]").inner_text()}


def test_a_reload_brings_back_what_was_set(lab_page: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(BAD_ROW, encoding="utf-8")
    own_file(lab_page)
    upload(lab_page, "#data-file", tmp_path / "rows.jsonl")
    text_of(lab_page, "#data-report", "In use: rows.jsonl")
    open_tab(lab_page, "Noise")
    lab_page.locator("#noise-unit label", has_text="std").click()
    open_tab(lab_page, "Train")
    lab_page.locator("#train-strengths textarea, #train-strengths input").fill("0.5, 1")
    epochs(lab_page, 3)
    lab_page.locator("#train-seed input").fill("7")
    lab_page.locator("#train-seed input").press("Tab")
    open_tab(lab_page, "Compare")
    lab_page.locator("#compare-source label", has_text="Typed").click()
    lab_page.locator("#compare-prompts textarea").fill("Where is the owl?")
    lab_page.wait_for_function("sessionStorage.getItem('neftune-lab-state')?.includes('Where is the owl')")
    before = settings_shown(lab_page)
    assert (before["strengths"], before["epochs"], before["seed"], before["unit"]) == ("0.5, 1", 3, "7", "std")
    lab_page.reload()
    text_of(lab_page, "#lab-words", "rows.jsonl")
    lab_page.locator("#lab-first").wait_for(state="detached", timeout=20_000)  # another tab was open
    open_tab(lab_page, "Train")
    lab_page.wait_for_function("Lab.read('train-seed') === '7'")
    assert settings_shown(lab_page) == before
    assert "seed 7" in text_of(lab_page, "#lab-words", "std")
    open_tab(lab_page, "Compare")
    assert lab_page.locator("#compare-prompts textarea").input_value() == "Where is the owl?"
    open_tab(lab_page, "Data")
    text_of(lab_page, "#data-report", "In use: rows.jsonl")


def test_the_link_of_a_study_brings_its_settings(
    browser: Any, lab_address: str, lab_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "own-rows.jsonl").write_text(BAD_ROW, encoding="utf-8")
    study = EXAMPLE.model_copy(
        update={
            "seed": 11,
            "data": DataSettings(source=f"file:{tmp_path / 'own-rows.jsonl'}"),
            "training": EXAMPLE.training.model_copy(update={"epochs": 4.0}),
            "noise": tuple(NoiseSettings(strength=strength, unit="std") for strength in (0.25, 0.5)),
        }
    )
    record = create(study, KEY, folder=lab_home / "runs")
    with visiting(browser, lab_address, key=KEY, link=f"?job={record.id}") as page:
        page.locator("#train-state [data-state=interrupted]").wait_for()
        text_of(page, "#lab-words", "own-rows.jsonl")
        open_tab(page, "Train")
        page.wait_for_function("Lab.read('train-seed') === '11'")
        shown = settings_shown(page)
        assert {name: shown[name] for name in ("strengths", "epochs", "unit", "strength")} == {
            "strengths": "0.5",
            "epochs": 4,
            "unit": "std",
            "strength": 0.25,
        }
        open_tab(page, "Data")
        text_of(page, "#data-report", "In use: own-rows.jsonl")


def test_no_tab_is_wider_than_a_phone(lab_page: Any) -> None:
    lab_page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("Learn", "Noise", "Data", "Train", "Compare", "Runs"):
        open_tab(lab_page, tab)
        if tab == "Data":
            text_of(lab_page, "#data-report", "In use")
        assert lab_page.evaluate("document.documentElement.scrollWidth") <= 390, tab
