"""Every tab, in both themes and languages and on four screens: axe finds nothing serious, and nothing is covered."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from owned_study import running_study
from served_lab import visiting

pytestmark = pytest.mark.browser

TABS = ("Learn", "Noise", "Data", "Train", "Compare", "Sweep", "Runs")
WIDTHS = ((1280, 860), (390, 844))
SCREENS = ((1280, 720), (1920, 1080), (390, 844))
MOMENTS = 6
HEADER_OF_A_PHONE = 0.15
KEY = "3d" * 32

# Visible controls whose centre, scrolled to, belongs to something else, and visible words of controls that intersect.
COVERED = """() => {
    const visible = { opacityProperty: true, visibilityProperty: true };
    const wordsOf = (node) => (node.ariaLabel || node.textContent).trim().slice(0, 40);
    const named = (node) => `${node.tagName} ${node.id || node.closest("[id]")?.id} ${wordsOf(node)}`;
    const isSeen = (node) => {
        const box = node.getBoundingClientRect();
        return box.width > 2 && box.height > 2 && node.checkVisibility(visible) && !node.closest(".visually-hidden");
    };
    const all = (selector) => [...document.querySelectorAll(selector)].filter(isSeen);
    const found = [];
    const controls = "button, a[href], input, select, textarea, summary, [role=tab]";
    for (const node of all(controls)) {
        if (getComputedStyle(node).pointerEvents === "none") continue;
        node.scrollIntoView({ block: "center", inline: "nearest", behavior: "instant" });
        const box = node.getBoundingClientRect();
        const met = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        const isOwn = met && (node.contains(met) || met.contains(node) || met.closest("label")?.contains(node));
        if (!isOwn) found.push(`${named(node)} lies under ${met ? named(met) : "the edge"}`);
    }
    scrollTo(0, 0);
    const words = all("button, legend, label > span, [data-testid=block-info], .legendtext, .xtitle, .ytitle, .gtitle");
    const boxes = words.map((node) => node.getBoundingClientRect());
    words.forEach((one, first) => words.slice(first + 1).forEach((other, more) => {
        const [a, b] = [boxes[first], boxes[first + 1 + more]];
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        const isWithin = one.contains(other) || other.contains(one);
        if (across > 2 && down > 2 && !isWithin) found.push(`${named(one)} meets ${named(other)}`);
    }));
    return found;
}"""
HEADER = "document.getElementById('lab-strip').getBoundingClientRect().height"


def axe_script() -> str:
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-playwright-python is not installed")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def open_tab(page: Any, tab: str) -> None:
    page.evaluate("(tab) => Lab.openTab(tab)", tab)
    page.wait_for_function("(tab) => Lab.currentTab() === tab", arg=tab)


def at_rest(page: Any, finds: Any) -> list[str]:
    """Return what is found once it does not vanish by itself: what is fading in or being filled is no fault."""
    for _ in range(MOMENTS):
        page.wait_for_timeout(300)
        if not (found := finds()):
            break
    return found


def serious(page: Any) -> list[str]:
    """Return axe's serious and critical findings: the rule and the element."""
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['html'][:160]}"
        for rule in result["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


# Colours are of the theme and words of the language, so that each of them once finds what both with both would.
@pytest.mark.parametrize(("theme", "path"), [("light", ""), ("dark", "zh")])
def test_no_tab_has_a_serious_fault_of_accessibility(browser: Any, lab_address: str, theme: str, path: str) -> None:
    faults: dict[str, list[str]] = {}
    with visiting(browser, lab_address, link=path) as page:
        page.evaluate(f"Lab.setTheme('{theme}')")
        page.evaluate(axe_script())
        for tab in (*TABS, "lesson"):
            if tab == "lesson":
                page.evaluate("Lab.openLesson(8)")
            else:
                open_tab(page, tab)
            assert page.locator("[role=tabpanel]:visible :is(h2, h3)").count(), tab
            for width, height in WIDTHS:
                page.set_viewport_size({"width": width, "height": height})
                faults[f"{tab}, {width}"] = at_rest(page, lambda: serious(page))
    assert {where: found for where, found in faults.items() if found} == {}


def test_nothing_covers_anything_and_the_header_keeps_its_height(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    faults: dict[str, list[str]] = {}
    headers: dict[str, list[float]] = {"idle": [], "running": []}

    def walk(state: str, tabs: tuple[str, ...]) -> None:
        for width, height in SCREENS:
            page.set_viewport_size({"width": width, "height": height})
            headers[state].append(page.evaluate(HEADER))
            for tab in tabs:
                open_tab(page, tab)
                faults[f"{tab}, {width} x {height}, {state}"] = at_rest(page, lambda: page.evaluate(COVERED))

    with visiting(browser, lab_address, key=KEY) as page:
        walk("idle", TABS)
        with running_study(lab_home / "runs", KEY) as (record, _):
            page.goto(f"{lab_address}?job={record.id}")
            page.locator("#lab-progress [data-state=running]").wait_for()
            walk("running", ("Train", "Noise"))
            page.locator("#lab-stop").click()
            headers["asking"] = [page.evaluate(HEADER)]
    assert {where: found for where, found in faults.items() if found} == {}
    assert headers["running"] == headers["idle"]
    assert headers["asking"] == headers["idle"][-1:]
    assert headers["idle"][-1] <= HEADER_OF_A_PHONE * SCREENS[-1][1]


# Pairs of parts of the header that meet, by what is seen of each, and parts that reach beyond the window.
CROWDED = """() => {
    const within = (a, b) => ({
        left: Math.max(a.left, b.left), right: Math.min(a.right, b.right),
        top: Math.max(a.top, b.top), bottom: Math.min(a.bottom, b.bottom),
    });
    const seen = (node, part) => {
        let box = node.getBoundingClientRect();
        for (let outer = node; outer !== part.parentNode; outer = outer.parentNode)
            if (getComputedStyle(outer).overflow !== "visible") box = within(box, outer.getBoundingClientRect());
        return box;
    };
    const isLeaf = (node) => !node.firstElementChild && node.checkVisibility() && !node.closest(".visually-hidden");
    const names = ["brand", "words", "progress", "train", "stop", "tools"];
    const parts = names.map((name) => document.getElementById(`lab-${name}`)).filter((part) => part?.checkVisibility());
    const leaves = (part) => [part, ...part.querySelectorAll("*")].filter(isLeaf);
    const boxes = parts.map((part) => leaves(part).map((leaf) => seen(leaf, part)));
    const isArea = (box) => box.right - box.left > 1 && box.bottom - box.top > 1;
    const meet = (some, others) => some.some((a) => others.some((b) => isArea(within(a, b))));
    return parts.flatMap((part, first) => [
        ...parts.filter((_, k) => k > first && meet(boxes[first], boxes[k])).map((other) => `${part.id} ${other.id}`),
        ...(boxes[first].some((box) => isArea(box) && (box.right > innerWidth || box.left < 0)) ? [part.id] : []),
    ]);
}"""
HEADER_WIDTHS = (1280, 1279, 1100, 1099, 760, 390)


def test_the_header_has_room_at_every_width_and_offers_to_train_again(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    def crowded() -> dict[int, list[str]]:
        found = {}
        for width in HEADER_WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            found[width] = at_rest(page, lambda: page.evaluate(CROWDED))
        return {width: pairs for width, pairs in found.items() if pairs}

    with ExitStack() as running:
        record, _ = running.enter_context(running_study(lab_home / "runs", KEY))
        with visiting(browser, lab_address, key=KEY, link=f"?job={record.id}") as page:
            page.locator("#lab-progress [data-state=running]").wait_for()
            assert crowded() == {}
            assert not page.locator("#lab-train").is_visible()  # on a phone, Stop stands in its place
            record.append({"event": "stopped", "step": 4})
            running.close()
            page.locator("#lab-stop").wait_for(state="detached")
            assert crowded() == {}
            assert page.locator("#lab-progress .lab-progress").is_visible()
            assert page.locator("#lab-train").is_visible()


UNFOLD = """() => document.querySelectorAll(
    ".lab-group > button.label-wrap:not(.open), .lab-unfold[aria-expanded=false]"
).forEach((fold) => fold.checkVisibility() && fold.click())"""
# The page scrolled to the last setting: the figure's upper and lower edge, and the room that is seen below the header.
AT_THE_LAST_SETTING = """(figure) => {
    const column = document.querySelector(figure).closest(".column");
    const settings = [...column.parentElement.children].find((other) => other !== column);
    scrollTo(0, 0);
    scrollTo(0, settings.getBoundingClientRect().bottom - innerHeight);
    const { top, bottom } = document.querySelector(figure + " .lab-figure-plot").getBoundingClientRect();
    return [scrollY, top, bottom, document.getElementById("lab-strip").getBoundingClientRect().bottom, innerHeight];
}"""


def test_figures_stay_in_sight_while_their_settings_scroll(browser: Any, lab_address: str) -> None:
    faults: dict[str, list[str]] = {}
    with visiting(browser, lab_address) as page:
        for tab, figure in (("Noise", "#noise-figure"), ("Train", "#train-curves")):
            open_tab(page, tab)
            page.locator(f"{figure} .lab-figure-plot[data-drawn]").wait_for()
            page.evaluate(UNFOLD)
            for width, height in SCREENS[:-1]:
                page.set_viewport_size({"width": width, "height": height})
                page.wait_for_timeout(500)
                scrolled, top, bottom, header, end = page.evaluate(AT_THE_LAST_SETTING, figure)
                assert scrolled > 100, (tab, width, height)
                assert header <= top < bottom <= end, (tab, width, height, top, bottom)
                faults[f"{tab}, {width} x {height}"] = at_rest(page, lambda: page.evaluate(COVERED))
            page.set_viewport_size({"width": 390, "height": 844})
            column = f"document.querySelector('{figure}').closest('.column')"
            assert page.evaluate(f"getComputedStyle({column}).position") != "sticky"
    assert {where: found for where, found in faults.items() if found} == {}
