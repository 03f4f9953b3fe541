"""The views of the Noise tab in a real browser: what each draws, and the numbers behind it."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
from invented import WIDTH, WORDS, vectors
from noise_page import CURRENT, FIGURE, MOVE, WITH, choose_view, sentence
from page_steps import calls_from

from neftune_core.figures.noise_views import NOISE_VIEWS
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.preview import DRAWS, unit_draw
from neftune_core.noise.schedules import SCHEDULES, multipliers
from neftune_core.noise.settings import NoiseSettings
from neftune_core.ui.server.previews import FIRST_SENTENCE
from neftune_core.ui.tabs.views.noise_inside import measure_inside

pytestmark = pytest.mark.browser


INSIDE = ("depth", "next")  # the server follows the noise through the model for them


def test_every_view_is_drawn_without_a_call_to_the_server(page: Any) -> None:
    calls = calls_from(page, "noise-")
    summaries = []
    shown = [name for name in NOISE_VIEWS if name not in INSIDE]
    for name in shown:
        choose_view(page, name)
        page.evaluate(MOVE, 30)
        figure = page.evaluate(CURRENT)
        assert figure["name"] == f"noise-{name}"
        assert (figure["data"] == []) == (name == "loss")  # which has to be measured first
        summaries.append(page.locator("#noise-figure .lab-figure-summary").inner_text())
        assert page.locator("#noise-figure .lab-figure-plot").get_attribute("aria-label") == summaries[-1]
        page.evaluate(MOVE, 5)
    assert all(summaries)
    assert len(set(summaries)) == len(shown)
    assert calls == []


def followed() -> dict[str, Any]:
    """What the server measures for the first sentence on the bundled model, under uniform noise in alpha."""
    return measure_inside(FIRST_SENTENCE, ModelSettings(), 0, NoiseSettings())


def test_depth_is_measured_in_one_call_and_follows_the_slider(page: Any) -> None:
    calls = calls_from(page, "noise-")
    choose_view(page, "depth")
    page.wait_for_function(f"{CURRENT}.data.length > 0")
    expected = followed()["depth"]
    for strength, share in ((5, 0.0), (7.5, 0.5), (10, 1.0)):
        page.evaluate(MOVE, strength)
        figure = page.evaluate(CURRENT)
        low, high = (np.array(expected["sizes"][index]) for index in (1, 2))  # at alpha 5 and 10
        # The model computes in bfloat16 where it can, so that two runs may round differently.
        assert np.array(figure["data"][0]["z"]) == pytest.approx((1 - share) * low + share * high, rel=0.05, abs=0.02)
    line = figure["data"][-1]
    assert line["x"] == pytest.approx(expected["lines"]["sizes"]["mean"][2], rel=0.05)
    summary = page.locator("#noise-figure .lab-figure-summary").inner_text()
    assert "interpolated" in summary
    share = re.findall(r"disturbance is (\S+)% of the size", summary)
    assert float(share[0]) == pytest.approx(100 * expected["lines"]["sizes"]["mean"][2][0], rel=0.05)
    page.evaluate(MOVE, 0)
    assert not np.array(page.evaluate(f"{CURRENT}.data[0].z")).any()
    assert len(calls) == 1


def test_the_next_word_is_shown_after_the_chosen_token(page: Any) -> None:
    calls = calls_from(page, "noise-")
    choose_view(page, "next")
    page.wait_for_function(f"{CURRENT}.data.length > 0")
    found = followed()
    tokens, words, candidates = found["tokens"], found["next"]["words"], found["next"]["candidates"]
    chosen = page.locator(".lab-predicted-tokens [aria-checked=true]")
    buttons = page.locator(".lab-predicted-tokens button")
    assert buttons.count() == len(tokens)
    buttons.nth(2).click()
    chosen.press("ArrowRight")
    assert buttons.nth(3).get_attribute("aria-checked") == "true"
    for which, strength in ((0, 0), (1, 1), (3, 11), (7, 100)):
        page.evaluate(MOVE, strength)
        cells = page.locator(".lab-predicted-words tbody tr").first.locator("td").all_inner_texts()
        shown = [words[candidates[index][3][0]].replace(" ", "·") for index in (0, which)]
        assert [cells[0], cells[2]] == shown
        assert float(cells[1].rstrip("%")) == pytest.approx(100 * candidates[0][3][1], rel=0.05, abs=1)
    assert page.locator(".lab-predicted-strengths tbody tr").count() == 8
    assert page.locator(".lab-predicted-strengths [aria-current] td").first.inner_text() == "alpha 100"
    drawn = page.locator("#noise-figure .nsewdrag").first
    drawn.scroll_into_view_if_needed()
    area = drawn.bounding_box()
    page.mouse.click(area["x"] + (5 + 0.6) / len(tokens) * area["width"], area["y"] + area["height"] / 2)
    page.wait_for_function("Lab.facts['noise.kept'] !== undefined")
    assert buttons.nth(5).get_attribute("aria-checked") == "true"
    assert len(calls) == 1
    choose_view(page, "norms")
    assert page.locator(".lab-predicted").is_hidden()


def test_the_bars_on_the_screen_have_the_heights_of_the_numbers(page: Any) -> None:
    page.wait_for_function(
        f"{FIGURE}.querySelectorAll('.barlayer .trace').length === 3"
    )  # the repeated draws come later
    page.evaluate(MOVE, 8)
    drawn, wanted = page.evaluate(
        f"""async () => {{
          const frame = () => new Promise((done) => requestAnimationFrame(done));
          for (let drawn = 0; drawn < 2; drawn += 1) await frame(); // where more than heights changes, Plotly takes one
          const node = {FIGURE};
          const axis = node._fullLayout.yaxis;
          const groups = [...node.querySelectorAll('.barlayer .trace')];
          const paths = groups.map((group) => [...group.querySelectorAll('.point > path')]);
          const top = (path) => Number(/V([-\\d.]+)H/.exec(path.getAttribute('d'))[1]);
          const tops = (trace) => paths[trace].map(top);
          const [, after, spread] = node.labFigure.current().data;
          const ends = spread.y.map((height, place) => spread.base[place] + height);
          return [[...tops(1), ...tops(2)], [...after.y, ...ends].map((value) => axis.l2p(value))];
        }}"""
    )
    assert drawn == pytest.approx(wanted, abs=0.02)  # a fiftieth of a pixel


def test_the_thin_bars_hold_all_but_the_lowest_and_the_highest_of_the_repeated_draws(page: Any) -> None:
    page.evaluate(MOVE, 25)
    read = sentence()
    length = len(read.tokens)
    s = 25 / math.sqrt(3 * length * WIDTH)
    noisy = [read.clean + s * unit_draw(read, "uniform", 0, epoch) for epoch in range(DRAWS)]
    norms = np.sort([np.linalg.norm(vector, axis=1) for vector in noisy], axis=0)
    spread = page.evaluate(f"{CURRENT}.data[2]")
    # the repeated draws come in steps of a four-thousandth of a standard deviation
    assert spread["base"] == pytest.approx(norms[1], rel=1e-3)
    assert np.add(spread["base"], spread["y"]) == pytest.approx(norms[-2], rel=1e-3)


def test_the_nearest_tokens_are_those_that_a_search_finds(page: Any) -> None:
    choose_view(page, "nearest")
    read, vocabulary = sentence(), vectors(WORDS)
    page.evaluate(MOVE, 100)
    noisy = read.clean + 100 / math.sqrt(3 * read.clean.size) * unit_draw(read, "uniform", 0)
    # only the first changes are listed: the last listed token is nearer than the token itself, not always nearest
    closer = ((noisy[:, None] - vocabulary) ** 2).sum(-1) < ((noisy - read.clean) ** 2).sum(-1)[:, None]
    shown = page.evaluate(f"{CURRENT}.data[0].text")
    assert [word != "" for word in shown] == closer.any(1).tolist()
    assert any(shown)
    assert all(closer[place, WORDS.index(" " + word)] for place, word in enumerate(shown) if word)
    first = page.evaluate(f"{CURRENT}.data[0].y")
    page.evaluate(MOVE, 0.99 * min(strength for strength in first if strength))
    assert not any(page.evaluate(f"{CURRENT}.data[0].text"))


def test_the_density_and_the_histogram_have_an_area_of_one(page: Any) -> None:
    for kind in ("uniform", "gaussian", "laplace"):
        _, drawn, theory = page.evaluate(WITH, {"kind": kind, "view": "density", "strength": 20})["data"]
        x, y = np.array(theory["x"]), np.array(theory["y"])
        # 4.5 standard deviations hold all but 0.2% of Laplace's, and all but 4% of its variance
        assert np.trapezoid(y, x) == pytest.approx(1, abs=5e-3)
        assert sum(drawn["y"]) * drawn["width"] == pytest.approx(1, abs=5e-3)
        assert np.trapezoid(y * x**2, x) == pytest.approx(20**2 / (3 * sentence().clean.size), rel=0.05)


def test_the_map_moves_every_token_by_its_noise(page: Any) -> None:
    figure = page.evaluate(WITH, {"view": "map", "strength": 50})
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    after = next(trace for trace in figure["data"] if trace["uid"] == "after noise")
    s = 50 / math.sqrt(3 * payload["length"] * payload["width"])
    moved = np.add(payload["plane"]["x"], np.multiply(s, payload["draws"]["uniform"]["plane"]["x"]))
    assert after["x"] == pytest.approx(moved, rel=1e-9)
    cloud = next(trace for trace in figure["data"] if trace["uid"] == "repeated draws")
    assert len(cloud["x"]) == payload["length"] * DRAWS


def test_a_schedule_is_drawn_as_the_core_has_it(page: Any) -> None:
    fixed = [name for name, known in SCHEDULES.items() if known.multiplier]
    for schedule, point, equal in itertools.product(fixed, (0, 0.3, 1), (False, True)):
        chosen = {"schedule": schedule, "schedule_point": point, "equal_energy": equal}
        drawn = page.evaluate(WITH, {"view": "schedule", "strength": 4, **chosen})["data"][-1]["y"]
        expected = multipliers(schedule, len(drawn), point=point, equal_energy=equal)
        assert drawn == pytest.approx([4 * factor for factor in expected], rel=1e-9, abs=1e-12), chosen


def test_the_numbers_of_a_view_are_saved_with_their_tokens(page: Any) -> None:
    choose_view(page, "map")
    with page.expect_download() as saving:
        page.locator("#noise-figure [data-format=csv]").click()
    assert saving.value.suggested_filename == "noise-map.csv"
    lines = saving.value.path().read_text(encoding="utf-8").splitlines()
    assert lines[0] == "trace,label,x,y,base"
    plane = page.evaluate(f"{FIGURE}.labFigure.value.payload.plane")
    before = [line.split(",") for line in lines if line.startswith("before noise,")]
    assert [label for _, label, *_ in before] == sentence().tokens
    assert [float(x) for _, _, x, _, _ in before] == plane["x"]


def test_the_sentence_about_strong_noise_counts_the_tokens_that_the_view_shows(page: Any) -> None:
    choose_view(page, "nearest")
    said = page.locator("#noise-words [data-word=verdict]")
    for strength in (100, 60):
        page.evaluate(MOVE, strength)
        changed = sum(word != "" for word in page.evaluate(f"{CURRENT}.data[0].text"))
        words = said.inner_text()
        assert "little of the sentence" not in words
        if "larger than the embeddings" in words:
            assert f"{changed} of " in words or (not changed and "still nearest to itself" in words)
    page.evaluate(MOVE, 1)
    assert "nearer to another token" not in said.inner_text()
