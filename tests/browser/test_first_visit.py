"""A first visit: what is asked for before anything is touched, and what comes only with the tab that needs it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from served_lab import blank_page, visiting

from neftune_core.bench.page import first_visit
from neftune_core.ui.server import framework

pytestmark = pytest.mark.browser

MOST_REQUESTS, MOST_BYTES, MOST_CALLS = 40, 900_000, 4


def test_a_first_visit_asks_for_little(browser: Any, lab_address: str) -> None:
    visit = first_visit(browser, lab_address)
    assert visit.requests <= MOST_REQUESTS
    assert visit.size <= MOST_BYTES
    assert visit.calls <= MOST_CALLS
    assert 0 < visit.picture <= visit.opened


FRAMES = """const asked = window.requestAnimationFrame;
window.frames_asked = 0;
window.requestAnimationFrame = (draw) => { window.frames_asked += 1; return asked.call(window, draw); };"""


def test_the_page_opens_without_searching_every_event_for_every_component(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address) as page:
        for name, text in framework.patched_scripts().items():
            assert page.evaluate(f"fetch('./assets/{name}').then((it) => it.text())") == text
        # The framework's copies of the events have the class that is not made reactive.
        assert page.evaluate("window.gradio_config.dependencies.filter(() => true).constructor.name") == "Unchanging"


def test_an_open_page_that_nobody_touches_draws_no_frames(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, prepare=lambda page: page.add_init_script(FRAMES)) as page:
        page.wait_for_function(
            """async () => {
                window.frames_asked = 0;
                await new Promise((go) => setTimeout(go, 500));
                return window.frames_asked === 0;
            }"""
        )


def test_a_browser_that_refuses_the_scripts_in_one_file_fetches_them_one_by_one(browser: Any, lab_address: str) -> None:
    with blank_page(browser) as page:
        served = page.request.get(lab_address)
        policy = re.sub("'nonce-[^']+'", "'unsafe-inline'", served.headers["content-security-policy"])
        headers = {**served.headers, "content-security-policy": policy}
        page.route(
            re.compile(re.escape(lab_address) + r"(\?.*)?$"),
            lambda route: route.fulfill(response=served, headers=headers),
        )
        page.goto(lab_address + "?tab=Noise")
        page.wait_for_url("**/?*scripts-one-by-one=1*")
        page.wait_for_function("window.Lab && document.body.dataset.labOpened && Lab.currentTab() === 'Noise'")


def test_a_slow_network_is_slow(browser: Any, lab_address: str) -> None:
    visit = first_visit(browser, lab_address, megabits=4)
    assert 0.5 < visit.megabits < 4.2


def test_the_figure_library_comes_with_the_first_tab_that_has_a_figure(browser: Any, lab_address: str) -> None:
    fetched: list[str] = []
    note = "request", lambda request: fetched.append(request.url)
    with visiting(browser, lab_address, prepare=lambda page: page.on(*note)) as page:
        assert page.evaluate("Lab.currentTab()") == "Learn"
        page.wait_for_timeout(2500)
        assert not [url for url in fetched if "plotly" in url]
        page.get_by_role("tab", name="Noise", exact=True).click()
        page.wait_for_function("document.querySelector('#noise-figure .lab-figure-plot')?._fullLayout")
        assert len([url for url in fetched if "plotly" in url]) == 1
