"""Watching a study: few requests, the state of the log on the page, and a message if the connection is lost."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from owned_study import running_study
from page_steps import open_tab, text_of
from served_lab import visiting

from neftune_core.figures.curves import loss_curves
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE

pytestmark = pytest.mark.browser

KEY = "7c" * 32
WATCHED_SECONDS = 8
MOST_BYTES = 50_000
"""For all calls of those seconds; whole figures of three seeds were 33,000 a call within the first 17 seconds."""
SHOWN = "JSON.stringify(document.querySelector('#train-curves .lab-figure-plot').labFigure.value)"


# Holds the end of every stream of answers back, as a page does that is too busy to read it.
HELD = """const ask = window.fetch;
window.fetch = async (place, options) => {
  const answer = await ask(place, options);
  if (!(place instanceof Request) || !place.url.includes('/queue/data')) return answer;
  const reader = answer.body.getReader();
  const pull = async (controller) => {
    const { done, value } = await reader.read();
    if (done) return controller.close();
    if (window.holding && new TextDecoder().decode(value).includes('close_stream')) {
      window.held = true;
      while (window.holding) await new Promise((go) => setTimeout(go, 20));
    }
    controller.enqueue(value);
  };
  return new Response(new ReadableStream({ pull }), { headers: answer.headers });
};"""


def test_the_answer_to_a_call_that_is_sent_while_a_stream_ends_is_not_lost(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, prepare=lambda page: page.add_init_script(HELD)) as page:
        page.evaluate("window.holding = true")
        open_tab(page, "Data")
        page.wait_for_function("window.held")
        with page.expect_response(lambda answer: "queue/join" in answer.url):
            open_tab(page, "Runs")
        page.wait_for_timeout(1000)  # the server has answered all calls of the tab
        page.evaluate("window.holding = false")
        text_of(page, "#runs-storage", "on this machine's disk")


def test_watching_takes_one_small_call_a_second(browser: Any, lab_address: str, lab_home: Path) -> None:
    with (
        running_study(lab_home / "runs", KEY) as (record, train),
        visiting(browser, lab_address, key=KEY, link=f"?tab=Train&job={record.id}") as page,
    ):
        page.locator("#lab-progress [data-state=running]").wait_for()
        latest = [time.monotonic()]
        page.on("request", lambda request: "page-study" in request.url or latest.append(time.monotonic()))
        while time.monotonic() < latest[-1] + 3:  # what the opening of a study sets off
            page.wait_for_timeout(100)
        asked: list[str] = []
        sizes: list[int] = []
        client = page.context.new_cdp_session(page)
        client.send("Network.enable")
        page.on("request", lambda request: asked.append(request.url))
        client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        started = time.monotonic()
        while time.monotonic() < started + WATCHED_SECONDS:
            train(1)
            page.wait_for_timeout(100)
        seconds = time.monotonic() - started
        assert 3 <= len(asked) <= seconds + 1, asked
        assert sum(sizes) <= MOST_BYTES


def test_calls_follow_each_other_until_the_first_point_and_then_once_a_second(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    record = create(EXAMPLE, KEY, folder=lab_home / "runs")
    with record.claimed(), visiting(browser, lab_address, key=KEY, alone=True) as page:
        page.clock.install()
        begun, answered = list[str](), list[str]()
        page.on("request", lambda call: begun.append(call.url) if "page-study" in call.url else None)
        for event in ("requestfinished", "requestfailed"):
            page.on(event, lambda call: answered.append(call.url) if "page-study" in call.url else None)
        page.goto(f"{lab_address}?tab=Train&job={record.id}")
        page.wait_for_function("window.Lab && document.body.dataset.labOpened")
        page.locator("#train-state .lab-state").wait_for()
        page.clock.pause_at(page.evaluate("Date.now()") + 2000)

        def calls_within(milliseconds: int) -> int:
            """Return how many calls are made while the page's clock goes on for so long, once all are answered."""
            before = len(begun)
            page.clock.run_for(milliseconds)
            page.wait_for_timeout(300)  # in which a call would be seen; the server's clock goes on
            end = time.monotonic() + 20
            while len(answered) < len(begun) and time.monotonic() < end:
                page.wait_for_timeout(50)
            page.wait_for_timeout(100)  # until the answer is shown
            return len(begun) - before

        calls_within(0)  # the one under way is answered
        record.append({"seed": 0, "event": "started", "steps": 60, "seeds": 1})
        assert calls_within(300) >= 1  # a second one if the first was held for less time than the clock took to go on
        losses = {"control": {"loss": 1.0}, "uniform-alpha-15": {"loss": 2.0}}
        step = {"seed": 0, "event": "step", "step": 1, "steps": 60, "tokens": 9, "arms": losses}
        record.append(step)
        assert calls_within(300) == 1
        assert json.loads(page.evaluate(SHOWN))["data"][0]["x"] == [1]
        record.append(step | {"step": 2})
        assert calls_within(300) == 0
        assert calls_within(1000) == 1
        page.clock.resume()


def test_the_curves_that_grew_are_those_of_the_whole_log(browser: Any, lab_address: str, lab_home: Path) -> None:
    record = create(EXAMPLE, KEY, folder=lab_home / "runs")
    with record.claimed(), visiting(browser, lab_address, key=KEY, link=f"?job={record.id}") as page:
        record.append({"seed": 0, "event": "started", "steps": 60, "seeds": 1})
        page.locator("#train-state [data-state=running]").wait_for()
        whole: list[str] = []
        page.on("response", lambda answer: whole.append(answer.text()) if "page-study" in answer.url else None)
        for step in range(1, 61):
            losses = {"control": {"loss": 1 / step}, "uniform-alpha-15": {"loss": 2 / step}}
            event = {"seed": 0, "event": "step", "step": step, "steps": 60, "tokens": 9, "arms": losses}
            record.append(event)
            page.wait_for_timeout(50)
        expected = loss_curves(record.log().read(), record.arms)
        page.wait_for_function(f"JSON.parse({SHOWN})?.data[0]?.x.at(-1) === 60")
        shown = json.loads(page.evaluate(SHOWN))
        assert shown == json.loads(json.dumps({**expected, "study": record.id}))
        assert any('"changes"' in text for text in whole)
        open_tab(page, "Train")
        page.locator("#train-view label", has_text="Noise, rate and speed").click()
        page.wait_for_function(f"JSON.parse({SHOWN})?.name === 'rates'")
        page.locator("#train-view label", has_text="Losses").click()
        page.wait_for_function(f"JSON.parse({SHOWN})?.name === 'losses' && JSON.parse({SHOWN}).data[0].x.length === 60")


def test_a_lost_connection_is_told_until_the_server_answers_again_even_if_the_study_has_ended(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    record = create(EXAMPLE, KEY, folder=lab_home / "runs")
    with record.claimed(), visiting(browser, lab_address, key=KEY, link=f"?job={record.id}") as page:
        record.append({"seed": 0, "event": "started", "steps": 60, "seeds": 1})
        page.locator("#train-state [data-state=running]").wait_for()
        page.route("**/page-study/**", lambda _: None)  # asked, and never answered
        text_of(page, "#train-state", "No answer from the server since")
        assert text_of(page, "#lab-progress", "No answer") == "No answer"
        page.wait_for_function("document.title.startsWith('No answer')")
        page.unroute("**/page-study/**")
        text_of(page, "#lab-progress", "Training")
        page.wait_for_function("!document.querySelector('#train-state').innerText.includes('No answer')")
        page.wait_for_function("!document.title.includes('No answer')")
        page.route("**/page-study/**", lambda _: None)
        page.wait_for_function("document.title.startsWith('No answer')")
        record.append({"seed": 0, "event": "stopped"})
        page.unroute("**/page-study/**")
        page.wait_for_function("document.title === 'NEFTune Lab'")


def test_tabs_opened_during_and_after_a_study_show_its_state(browser: Any, lab_address: str, lab_home: Path) -> None:
    with ExitStack() as running:
        record, train = running.enter_context(running_study(lab_home / "runs", KEY))
        with visiting(browser, lab_address, key=KEY, link=f"?job={record.id}&lesson=1") as page:
            page.locator("#lab-progress [data-state=running]").wait_for()
            for tab in ("Learn", "Train", "Runs", "Learn"):
                train(1)
                open_tab(page, tab)
                assert page.locator("#lab-progress").inner_text() != ""
            page.wait_for_function("document.title.includes('%')")
            assert "%" in page.locator("#lab-progress").inner_text()
            record.append({"event": "finished"})
            running.close()
            page.locator("#lab-progress [data-state=finished]").wait_for()
            for tab in ("Train", "Learn", "Train"):
                open_tab(page, tab)
                page.wait_for_timeout(1100)  # more than one call
                told = page.locator("#lab-progress").inner_text()
                assert "Finished" in told
                assert "left" not in told
                assert "%" not in told
                assert page.title() == "NEFTune Lab"
            text_of(page, "#train-state", "Finished")
            assert page.locator("#lab-stop").count() == 0
