"""Buttons that react at once, placeholders for own results, and first screens that show what matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from owned_study import owned_study, running_study
from page_steps import open_tab, text_of
from served_lab import blank_page, visiting

from neftune_core.figures.noise_views import GROUPS, NOISE_VIEWS

pytestmark = pytest.mark.browser

KEY = "3d" * 32
SIZES = [(1280, 720), (390, 844)]

# Whether the first element is before the second, in the document and in the picture.
IN_ORDER = """([first, second]) => {
    const [one, other] = [first, second].map((id) => document.getElementById(id));
    const [place, next] = [one, other].map((found) => found?.getBoundingClientRect());
    return one && other && (place.x < next.x || place.y < next.y)
        && Boolean(one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING);
}"""

# Calls wait while `window.holding` is true; then they are refused if `window.refusing` is true.
HELD = """const ask = window.fetch;
window.fetch = async (place, options) => {
  if (!String(place instanceof Request ? place.url : place).includes('/queue/join')) return ask(place, options);
  while (window.holding) await new Promise((go) => setTimeout(go, 20));
  if (window.refusing) return new Response('{"detail": "refused"}', { status: 503 });
  return ask(place, options);
};"""

LOOK = """(id) => {
    const button = document.getElementById(id);
    const said = getComputedStyle(button, '::after').content.replaceAll('"', '');
    return [button.getAttribute('aria-busy'), button.getAttribute('aria-disabled'), said];
}"""

# Clicks twice, and returns what the button shows directly after the first click, and the calls that it has sent.
PRESS = f"""async (id) => {{
    window.holding = true;
    const button = document.getElementById(id);
    button.click();
    const look = ({LOOK})(id);
    button.click();
    return look;
}}"""


@pytest.fixture(scope="module")
def held_page(browser: Any, shared_lab: Any, request: pytest.FixtureRequest) -> Any:
    """Return a page whose calls can be held, in a context of its own, because it stays open beside other pages."""
    with blank_page(browser, alone=True) as page:
        page.add_init_script(HELD)
        page.goto(shared_lab.opened(request.session.testsfailed)[0])
        page.wait_for_function("window.Lab && document.body.dataset.labOpened")
        yield page


@pytest.mark.parametrize(
    ("tab", "button", "words"),
    [
        ("Train", "lab-train", "Starting …"),
        ("Sweep", "sweep-start", "Starting …"),
        ("Sweep", "sweep-file", ""),
        ("Compare", "compare-ask", ""),
        ("Noise", "noise-measure", ""),
        ("Noise", "noise-again", ""),
    ],
)
def test_a_button_reacts_before_the_server_and_comes_back_if_it_is_refused(
    held_page: Any, tab: str, button: str, words: str
) -> None:
    held_page.evaluate("window.holding = window.refusing = false")
    open_tab(held_page, tab)
    held_page.wait_for_timeout(500)  # the calls of the opened tab
    assert held_page.evaluate(LOOK, button)[:2] == [None, None]
    assert held_page.evaluate(PRESS, button) == ["true", "true", words]
    held_page.evaluate("window.refusing = true; window.holding = false")
    held_page.wait_for_function(f"(id) => ({LOOK})(id).slice(0, 2).every((now) => now === null)", arg=button)


def test_a_button_inside_an_html_component_reacts_too_and_comes_back(held_page: Any) -> None:
    held_page.evaluate("window.holding = window.refusing = false")
    held_page.locator("#lab-tools [data-do=link]").click()
    button = held_page.locator("#lab-link-code [data-do=class]")
    button.wait_for()
    held_page.evaluate("window.holding = true")
    button.click()
    held_page.locator("#lab-link-code [data-do=class][aria-busy=true][aria-disabled=true]").wait_for()
    held_page.evaluate("window.refusing = true; window.holding = false")
    held_page.locator("#lab-link-code [data-do=class]:not([aria-busy], [aria-disabled])").wait_for()


def test_every_button_that_calls_the_server_can_be_found_by_its_id(lab_page: Any) -> None:
    unnamed = lab_page.evaluate("""() => {
        const { components, dependencies } = gradio_config;
        const calling = dependencies.filter((one) => one.backend_fn).flatMap((one) => one.targets.map(([id]) => id));
        const buttons = components.filter(({ id, type }) => /button$/.test(type) && calling.includes(id));
        return buttons.filter(({ props }) => !props.elem_id).map(({ props }) => props.value);
    }""")
    assert unnamed == []


def test_while_a_study_runs_the_start_button_queues_another_one(browser: Any, lab_address: str, lab_home: Path) -> None:
    with (
        running_study(lab_home / "runs", KEY) as (record, _),
        visiting(browser, lab_address, key=KEY, link=f"?job={record.id}&tab=Train") as page,
    ):
        page.locator("#lab-stop").wait_for()
        assert text_of(page, "#lab-train", "Queue another study")
    with visiting(browser, lab_address) as page:
        assert page.locator("#lab-train").inner_text() == "Train"


# Notes whether recorded results were ever visible on the Train or the Compare tab.
WATCHED = """window.recordedSeen = [];
const look = () => {
    for (const id of ['train-state', 'compare-answers']) {
        const node = document.querySelector(`#${id} .lab-recorded`);
        if (node?.checkVisibility({ visibilityProperty: true })) window.recordedSeen.push(id);
        const box = document.getElementById(id);
        const instead = box?.checkVisibility() ? getComputedStyle(box, '::before').content : '';
        if (instead.includes('Loading')) window.placeholderSeen = true;
    }
};
setInterval(look, 50);"""


def test_a_page_that_opens_with_an_own_study_never_shows_the_recorded_one(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    record = owned_study(lab_home / "runs", KEY)
    with visiting(browser, lab_address, key=KEY, alone=True) as page:
        page.add_init_script(WATCHED)
        page.goto(f"{lab_address}?job={record.id}&tab=Train")
        page.locator("#train-state .lab-end").wait_for()
        open_tab(page, "Train")  # from now on, the state is stored
        page.reload()
        page.locator("#train-state .lab-end").wait_for()
        assert page.evaluate("[window.recordedSeen, window.placeholderSeen]") == [[], True]
        open_tab(page, "Compare")  # without adapters, the study cannot be compared
        page.locator("#compare-answers .lab-recorded").wait_for()


def test_if_the_study_of_a_link_is_missing_the_recorded_one_returns_with_the_reason(
    browser: Any, lab_address: str
) -> None:
    with visiting(browser, lab_address, link="?job=20200101-000000-abcdef&tab=Train") as page:
        page.locator("#train-state .lab-recorded").wait_for()
        page.wait_for_function("!document.body.dataset.labAwaits?.includes('train')")
        page.locator(".lab-message").first.wait_for()


def test_the_conclusion_of_a_recorded_sweep_is_in_the_first_screen_in_the_unit_of_the_form(
    browser: Any, lab_address: str
) -> None:
    with visiting(browser, lab_address, link="?tab=Sweep") as page:
        page.set_viewport_size({"width": 1280, "height": 720})
        conclusion = page.locator("#sweep-state .lab-end")
        conclusion.wait_for()
        assert conclusion.bounding_box()["y"] + conclusion.bounding_box()["height"] < 720
        assert "Strengths are in alpha" in page.locator("#sweep-unit").inner_text()
        title = "document.querySelector('#sweep-curve .lab-figure-plot').labFigure.value?.layout.xaxis.title.text"
        page.wait_for_function(f"{title}?.includes('alpha')")
        assert page.locator("#sweep-seeds input[type=number]").input_value() == "6"
        page.locator("#sweep-shown input").click()
        page.get_by_role("option", name="noise of five strengths").first.click()
        assert "are alpha" in text_of(page, "#sweep-state", "Its strengths are in std")
        page.set_viewport_size({"width": 1920, "height": 1080})
        assert page.locator(".gradio-container").first.bounding_box()["width"] == 1520
        page.set_viewport_size({"width": 390, "height": 844})  # results first, for the keyboard too
        page.wait_for_function(IN_ORDER, arg=["sweep-shown", "sweep-start"])
        open_tab(page, "Train")
        page.wait_for_function(IN_ORDER, arg=["train-view", "train-preset"])
        page.set_viewport_size({"width": 1280, "height": 720})
        open_tab(page, "Sweep")
        page.wait_for_function(IN_ORDER, arg=["sweep-start", "sweep-shown"])
        open_tab(page, "Noise")
        for unit, values in (("std", "0, 0.047, 0.14"), ("alpha", "0, 5, 15")):
            page.locator("#noise-unit label", has_text=unit).click()
            page.wait_for_function(f"Lab.read('sweep-values-1') === {values!r}")
            assert f"in {unit}" in page.locator("#sweep-unit").text_content()


def test_all_views_of_the_noise_are_in_sight_in_groups(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="?tab=Noise") as page:
        page.locator("#noise-view .lab-view-group").nth(len(GROUPS) - 1).wait_for()
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            boxes = [page.locator(f"#noise-view label:has(input[value={name}])").bounding_box() for name in NOISE_VIEWS]
            assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
            assert all(box["y"] + box["height"] <= height for box in boxes)
        assert page.locator("#noise-view .lab-view-group").all_inner_texts() == [
            "\n".join([words, *(view.words for view in NOISE_VIEWS.values() if view.group == group)])
            for group, words in GROUPS.items()
        ]


@pytest.mark.parametrize("name", ["density", "loss"])  # two that have moved
def test_a_link_to_a_view_still_opens_it(browser: Any, lab_address: str, name: str) -> None:
    with visiting(browser, lab_address, link=f"?view={name}") as page:
        page.wait_for_function(f"Lab.read('noise-view') === '{name}'")
        assert page.locator(f"#noise-view label:has(input[value={name}])").get_attribute("class").endswith("selected")
