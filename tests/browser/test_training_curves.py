"""The curves of a study in a real browser: how they follow its log, and their scales."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from owned_study import owned_study
from page_steps import calls_from, open_tab, text_of
from served_lab import visiting

from neftune_core.bench.page import follow_log
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE

pytestmark = pytest.mark.browser


KEY = "5a" * 32


def test_the_curves_follow_a_fast_log_in_one_figure(browser: Any, lab_address: str, lab_home: Path) -> None:
    record = create(EXAMPLE, KEY, folder=lab_home / "runs")
    with record.claimed(), visiting(browser, lab_address, key=KEY, link=f"?job={record.id}") as page:
        followed = follow_log(page, record, events=200, rate=50)
    assert len(followed.late) == 200
    assert not followed.was_remade
    assert statistics.median(followed.late) < 5  # one second on a machine that does nothing else: `neftune bench page`


def test_curves_whose_tab_was_left_before_plotly_had_loaded_are_drawn_when_it_opens_again(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    record = owned_study(lab_home / "runs", KEY)
    with visiting(browser, lab_address, key=KEY, link="?tab=Runs") as page:
        held: list[Any] = []

        def hold(route: Any) -> None:
            held.append(route)

        page.route("**/plotly.min.js", hold)
        page.goto(f"{lab_address}?job={record.id}&tab=Train")
        text_of(page, "#train-curves .lab-figure-summary", "Losses with noise off")
        for _ in range(100):
            if held:
                break
            page.wait_for_timeout(100)
        open_tab(page, "Runs")
        page.wait_for_function("!document.querySelector('#train-curves').checkVisibility()")
        for route in held:
            route.continue_()
        page.wait_for_function("Lab.Plotly")
        open_tab(page, "Train")
        page.wait_for_function("document.querySelector('#train-curves .lab-figure-plot')?._fullLayout")


def test_curves_that_grew_while_their_tab_was_closed_are_drawn_as_soon_as_they_are_visible(lab_page: Any) -> None:
    open_tab(lab_page, "Train")
    node = "document.querySelector('#train-curves .lab-figure-plot')"
    lab_page.wait_for_function(f"{node}?._fullLayout")
    grow = """(node) => {
        const figure = node.labFigure, { value } = figure, block = document.querySelector("#train-curves");
        block.style.display = "none";
        figure.take({ ...value, data: value.data.map((trace) => ({ ...trace, y: trace.y.map(() => 7) })) });
        return new Promise((done) => setTimeout(() => done(block.style.removeProperty("display")), 300));
    }"""
    lab_page.locator("#train-curves .lab-figure-plot").evaluate(grow)
    lab_page.wait_for_function(f"{node}.data.every((trace) => trace.y.every((value) => value === 7))")


def test_curves_are_seen_on_a_logarithmic_scale_and_smoothed_without_a_call_to_the_server(lab_page: Any) -> None:
    open_tab(lab_page, "Train")
    node = "document.querySelector('#train-curves .lab-figure-plot')"
    noisy = f"{node}.data.find((trace) => trace.uid.startsWith('control_2floss'))"
    lab_page.wait_for_function(f"{node}?._fullLayout?.yaxis.type === 'linear'")
    calls = calls_from(lab_page, "train-curves")
    scattered = lab_page.evaluate(f"{noisy}.y")
    choices = lab_page.locator("#train-curves .lab-figure-choices input")
    choices.first.check()
    lab_page.wait_for_function(f"['yaxis', 'yaxis2'].every((axis) => {node}._fullLayout[axis].type === 'log')")
    choices.last.focus()
    choices.last.press("ArrowRight")
    lab_page.wait_for_function(f"{noisy}.y[3] !== {scattered[3]}")
    weights = [0.05 ** (3 - place) for place in range(4)]  # one press is a twentieth
    mean = sum(weight * value for weight, value in zip(weights, scattered, strict=False)) / sum(weights)
    assert lab_page.evaluate(f"{noisy}.y[3]") == pytest.approx(mean, rel=1e-12)
    choices.last.press("Home")
    lab_page.wait_for_function(f"{noisy}.y[3] === {scattered[3]}")
    assert calls == []


def test_the_scale_of_a_figure_does_not_change_by_itself(lab_page: Any) -> None:
    open_tab(lab_page, "Train")
    node = "document.querySelector('#train-curves .lab-figure-plot')"
    lab_page.wait_for_function(f"{node}?._fullLayout?.yaxis.type === 'linear'")
    drawn = lab_page.evaluate(f"{node}.labFigure.redraws")
    lab_page.evaluate(f"{{const one = {node}.labFigure; one.value = {{...one.value, log: true}}; one.draw();}}")
    lab_page.wait_for_function(f"{node}.labFigure.redraws > {drawn}")
    assert lab_page.evaluate(f"{node}._fullLayout.yaxis.type") == "linear"
    assert not lab_page.locator("#train-curves .lab-figure-choices input").first.is_checked()


NODE = "document.querySelector('#train-curves .lab-figure-plot')"
LOG_SCALE = "#train-curves .lab-figure-choices input[type=checkbox]"


def steep_study(runs: Path) -> tuple[Record, list[str]]:
    """Return a finished study whose last training loss calls for a logarithmic scale, and the lines of its log."""
    record = owned_study(runs, KEY)
    log = record.folder / "events.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if json.loads(line)["event"] == "evaluated")
    event = json.loads(lines[last])
    event["arms"]["control"]["train_loss"] /= 1000
    lines[last] = json.dumps(event) + "\n"
    log.write_text("".join(lines), encoding="utf-8")
    return record, lines


def is_shown(page: Any, record: Record) -> None:
    page.wait_for_function(f"{NODE}?.labFigure?.value?.study === '{record.id}' && {NODE}._fullLayout")


def test_a_finished_study_has_its_own_scale(browser: Any, lab_address: str, lab_home: Path) -> None:
    record, _ = steep_study(lab_home / "runs")
    with visiting(browser, lab_address, key=KEY, link=f"?job={record.id}&tab=Train") as page:
        is_shown(page, record)
        page.wait_for_function(f"{NODE}._fullLayout.yaxis.type === 'log'")
        assert page.locator(LOG_SCALE).is_checked()


def test_a_study_that_was_watched_has_the_same_scale_after_its_end_and_after_a_reload(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    record, lines = steep_study(lab_home / "runs")
    log = record.folder / "events.jsonl"
    log.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")
    with record.claimed(), visiting(browser, lab_address, key=KEY, link=f"?job={record.id}&tab=Train") as page:
        is_shown(page, record)
        assert not page.locator(LOG_SCALE).is_checked()
        with log.open("a", encoding="utf-8") as more:
            more.write("".join(lines[len(lines) // 2 :]))
        page.locator("#train-state [data-state=finished]").wait_for()
        page.wait_for_function(f"{NODE}.labFigure.value.log")  # the server would choose the logarithmic scale
        assert not page.locator(LOG_SCALE).is_checked()
        page.reload()
        is_shown(page, record)
        assert not page.locator(LOG_SCALE).is_checked()
        assert page.evaluate(f"{NODE}._fullLayout.yaxis.type") == "linear"
        open_tab(page, "Runs")
        page.locator(".lab-runs button").first.click()
        page.wait_for_function(f"{NODE.replace('train', 'runs')}?._fullLayout?.yaxis.type === 'linear'")


def test_noise_rate_and_speed_have_a_view_of_their_own(lab_page: Any) -> None:
    open_tab(lab_page, "Train")
    lab_page.locator("#train-view label", has_text="Noise, rate and speed").click()
    told = text_of(lab_page, "#train-curves .lab-figure-summary", "learning rate")
    assert "alpha 15: noise 15" in told
    assert "tokens per second" in told
    lab_page.wait_for_function("document.querySelectorAll('#train-curves .xaxislayer-above').length >= 3")
