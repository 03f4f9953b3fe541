"""The Noise tab in a real browser: what is redrawn, where it is computed, and at what cost."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from invented import WIDTH, WORDS, invented_sentence, vectors
from page_steps import calls_from
from served_lab import opened_page

from neftune_core.figures.noise_views import NOISE_VIEWS
from neftune_core.figures.norms import TokenEffects, token_effects
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.preview import DRAWS, Sentence, unit_draw
from neftune_core.noise.schedules import SCHEDULES, multipliers
from neftune_core.noise.settings import NoiseSettings
from neftune_core.ui.server.previews import FIRST_SENTENCE
from neftune_core.ui.tabs.noise_inside import measure_inside
from neftune_core.ui.tabs.noise_tab import FIRST_STRENGTH, SLIDERS

pytestmark = pytest.mark.browser

INSIDE = ("depth", "next")  # the server follows the noise through the model for them
FIGURE = "document.querySelector('#noise-figure .lab-figure-plot')"
CURRENT = f"{FIGURE}.labFigure.current()"
HEIGHTS = f"{CURRENT}.data.map((trace) => trace.y)"
RESULT = f"{CURRENT}.result"
MOVE = """(value) => {
  const range = document.querySelector('#noise-strength input[type=range]');
  range.value = value;
  range.dispatchEvent(new Event('input', { bubbles: true }));
}"""
# The slider has the range of a unit, and both of its inputs have one value.
SETTLED = f"""([unit, most]) => {{
  const inputs = [...document.querySelectorAll("#noise-strength input")];
  const [range, number] = ["range", "number"].map((type) => inputs.find((input) => input.type === type));
  const isShown = Number(range.max) === most && Number(range.value) === Number(number.value);
  return isShown && {CURRENT}.controls.unit === unit;
}}"""
# The page as it would be with other controls, without touching them.
WITH = f"""(changes) => {{
  const figure = {FIGURE}.labFigure;
  const controls = Object.entries(figure.value.controls).map(([name, {{ value }}]) => [name, value]);
  return Lab.noise.drawn(figure.value.payload, {{ ...Object.fromEntries(controls), ...changes }});
}}"""


def choose_view(page: Any, name: str) -> None:
    page.locator(f"#noise-view input[value={name}]").check(force=True)
    page.wait_for_function(f"{CURRENT}.view === '{name}' && !!Lab.noise.views.{name}")


def says(page: Any, words: str) -> None:
    """Wait until the strip contains these words."""
    page.locator("#lab-words", has_text=words).wait_for()


def choose_unit(page: Any, name: str) -> None:
    """Choose a unit, and wait until the slider shows the strength in it."""
    page.locator("#noise-unit label", has_text=name).click()
    page.wait_for_function(SETTLED, arg=[name, SLIDERS[name]["maximum"]])


def sentence() -> Sentence:
    return invented_sentence(FIRST_SENTENCE, ModelSettings(), "embedding")


def same(drawn: dict[str, Any], expected: TokenEffects) -> None:
    # the same doubles in two languages
    assert drawn["before"] == pytest.approx(expected.before, rel=1e-12)
    assert drawn["after"] == pytest.approx(expected.after, rel=1e-12)
    assert drawn["shares"] == pytest.approx(expected.shares, rel=1e-12)
    cosines = [math.nan if cosine is None else cosine for cosine in drawn["cosines"]]
    assert cosines == pytest.approx(expected.cosines, rel=1e-12, nan_ok=True)


def test_the_browser_draws_the_numbers_that_the_core_computes(page: Any) -> None:
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    for strength in (0, 5, 60):
        page.evaluate(MOVE, strength)
        expected = token_effects(payload, NoiseSettings(strength=strength))
        before, after = page.evaluate(HEIGHTS)[:2]
        assert before == pytest.approx(expected.before, rel=1e-12)
        assert after == pytest.approx(expected.after, rel=1e-12)
        same(page.evaluate(RESULT), expected)


SETTINGS: list[dict[str, Any]] = [
    *({"kind": kind} for kind, known in KINDS.items() if not known.drops),
    {"kind": "token-dropout", "unit": "share", "strength": 0.4},
    {"unit": "relative", "strength": 0.3},
    {"unit": "std", "strength": 0.02, "special_tokens": False},
    {"length_rule": "padded", "strength": 40},
]


def test_every_setting_gives_the_numbers_of_the_core(page: Any) -> None:
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    for changes in SETTINGS:
        settings = NoiseSettings(**{"strength": FIRST_STRENGTH} | changes)
        same(page.evaluate(WITH, changes)["result"], token_effects(payload, settings))


def test_the_slider_redraws_without_a_call_to_the_server(page: Any) -> None:
    calls = calls_from(page, "noise-")
    before = page.evaluate(HEIGHTS)
    slider = page.locator("#noise-strength input[type=range]")
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
    page.wait_for_timeout(400)  # in which a call would be made
    after = page.evaluate(HEIGHTS)
    assert after[0] == before[0]
    assert sum(after[1]) > sum(before[1])
    says(page, "alpha 8")
    assert calls == []


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
        low, high = (np.array(expected["sizes"][index]) for index in (0, 1))
        # The model computes in bfloat16 where it can, so that two runs may round differently.
        assert np.array(figure["data"][0]["z"]) == pytest.approx((1 - share) * low + share * high, rel=0.05, abs=0.02)
    line = figure["data"][-1]
    assert line["x"] == pytest.approx(expected["lines"]["sizes"]["mean"][1], rel=0.05)
    assert "interpolated" in page.locator("#noise-figure .lab-figure-summary").inner_text()
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
    for which, strength in ((0, 0), (2, 11), (6, 100)):
        page.evaluate(MOVE, strength)
        cells = page.locator(".lab-predicted-words tbody tr").first.locator("td").all_inner_texts()
        shown = [words[candidates[index][3][0]].replace(" ", "·") for index in (0, which)]
        assert [cells[0], cells[2]] == shown
        assert float(cells[1].split()[0]) == pytest.approx(100 * candidates[0][3][1], rel=0.05, abs=1)
    assert page.locator(".lab-predicted-strengths tbody tr").count() == 7
    assert page.locator(".lab-predicted-strengths [aria-current] td").first.inner_text() == "alpha 100"
    area = page.locator("#noise-figure .nsewdrag").first.bounding_box()
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


def test_a_figure_stays_the_same_node_and_keeps_its_zoom(page: Any) -> None:
    page.evaluate(f"{FIGURE}.firstOnly = true")
    area = page.locator("#noise-figure .nsewdrag").bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + 0.2 * area["width"], middle)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.6 * area["width"], middle, steps=4)
    page.mouse.up()
    seen = f"{FIGURE}._fullLayout.xaxis.range"
    page.wait_for_function(f"({seen})[0] > 1")
    zoomed, first = page.evaluate(seen), page.evaluate(HEIGHTS)[1][0]
    page.locator("#noise-again").click()
    page.wait_for_function(f"({HEIGHTS})[1][0] !== {first}")
    page.wait_for_function(f"{FIGURE}.labFigure.drawn?.value === {FIGURE}.labFigure.value")
    assert page.evaluate(f"{FIGURE}.firstOnly")
    assert page.evaluate(seen) == zoomed


def test_another_unit_keeps_the_noise_and_shows_it_in_the_new_unit(page: Any) -> None:
    before = page.evaluate(HEIGHTS)
    choose_unit(page, "std")
    strength = float(page.locator("#noise-strength input[type=number]").input_value())
    assert strength == pytest.approx(
        FIRST_STRENGTH / math.sqrt(3 * len(sentence().tokens) * WIDTH), rel=5e-3
    )  # three digits
    assert page.evaluate(HEIGHTS)[1] == pytest.approx(before[1], rel=5e-3)


def test_faint_noise_stays_what_it_is_in_another_unit(page: Any) -> None:
    page.locator("#noise-text textarea").fill("one " * 480)
    page.wait_for_function(f"{FIGURE}.labFigure.value.payload.length === 480")
    page.evaluate(MOVE, 0.5)
    choose_unit(page, "std")
    expected = 0.5 / math.sqrt(3 * 480 * WIDTH)  # between two steps of its slider
    assert page.evaluate("Lab.read('noise-strength')") == pytest.approx(expected, rel=5e-3)  # three digits
    assert page.evaluate(RESULT)["deviation"] == pytest.approx(expected, rel=5e-3)
    choose_unit(page, "alpha")
    assert page.evaluate("Lab.read('noise-strength')") == pytest.approx(0.5, rel=5e-3)


def test_noise_beyond_the_end_of_another_slider_is_reported(page: Any) -> None:
    page.evaluate(MOVE, 100)
    choose_unit(page, "std")
    wanted = f"{100 / math.sqrt(3 * len(sentence().tokens) * WIDTH):.3g}"
    page.locator(".lab-warning", has_text=f"ends at 1: alpha 100 would be {wanted}").wait_for()
    page.evaluate(MOVE, 0.5)
    assert "ends at" not in page.locator(".lab-warning").inner_text()


def test_a_link_with_a_strength_between_two_steps_is_opened_with_it(cache: Any, address: str) -> None:
    with opened_page(cache, address, "?noise.unit=std&noise.strength=0.000321") as page:
        page.wait_for_function("Lab.read('noise-strength') === 0.000321")
        page.wait_for_function(f"{FIGURE}?.labFigure?.current().controls.strength === 0.000321")
        choose_unit(page, "alpha")
        first = page.evaluate(HEIGHTS)[1][0]
        page.locator("#noise-again").click()
        page.wait_for_function(f"({HEIGHTS})[1][0] !== {first}")  # the server takes it too
        page.evaluate(MOVE, 60)
        page.locator("#noise-again").click()
        page.wait_for_function(f"({RESULT}).deviation > 0 && {FIGURE}.labFigure.value.controls.strength.value === 60")
        assert page.locator(".lab-message").count() == 0


def test_the_ruler_shows_the_strength_in_every_unit(page: Any) -> None:
    page.evaluate(MOVE, 10)
    said = dict(part.rsplit(" ", 1) for part in page.locator(".lab-ruler svg").get_attribute("aria-label").split(", "))
    read = sentence()
    std = 10 / math.sqrt(3 * read.clean.size)
    expected = {"alpha": 10, "std": std, "relative": std / math.sqrt((read.clean**2).mean())}
    assert {unit: float(value) for unit, value in said.items()} == pytest.approx(expected, rel=5e-3)  # three digits


def test_token_dropout_has_a_unit_of_its_own_and_gives_the_other_back(page: Any) -> None:
    page.evaluate(MOVE, 12)
    page.locator("#noise-kind label", has_text="Token dropout").click()
    page.wait_for_function("Lab.read('noise-unit') === 'share' && Lab.read('noise-strength') === 0.1")
    page.locator("#noise-unit label", has_text="alpha").wait_for(state="hidden")
    assert page.locator("#noise-unit label:visible").all_inner_texts() == ["share"]
    page.evaluate(MOVE, 0.5)
    gone = [place for place, height in enumerate(page.evaluate(HEIGHTS)[1]) if height == 0]
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    assert gone == [place for place, number in enumerate(payload["dropped_below"]["token-dropout"]) if number < 0.5]
    assert page.locator("#noise-chips li.gone").count() == len(gone) > 0
    says(page, "token dropout, share 0.3 and 0.5")
    page.locator("#noise-kind label", has_text="Gaussian").click()
    page.wait_for_function("Lab.read('noise-unit') === 'alpha' && Lab.read('noise-strength') === 12")
    says(page, "gaussian noise, alpha 12 and 15")


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
        # 4.5 standard deviations hold all but 0.2 % of Laplace's, and all but 4 % of its variance
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


def open_noise(page: Any) -> None:
    page.get_by_role("tab", name="Noise", exact=True).click()
    page.wait_for_function(f"{FIGURE}?._fullLayout")


def test_the_strength_lies_on_a_scale_and_only_noise_that_rounding_eats_is_warned_of(lab_page: Any) -> None:
    open_noise(lab_page)
    warning, verdict = lab_page.locator("#noise-words .lab-warning"), lab_page.locator("#noise-words .lab-verdict")
    places = []
    for strength, words in ((0, "No noise"), (1, "nearly where it did"), (9, "as large as the words"), (90, "larger")):
        lab_page.evaluate(MOVE, strength)
        assert words in verdict.inner_text() and warning.inner_text() == ""
        places.append(
            lab_page.evaluate("Number(document.querySelector('.lab-scale').style.getPropertyValue('--place'))")
        )
    assert places == sorted(places) and places[0] == 0 and 0.4 < places[2] < 0.6 and places[3] > 0.85


def test_the_page_opens_quietly_and_with_what_was_recorded_of_its_first_study(lab_page: Any) -> None:
    open_noise(lab_page)
    assert lab_page.evaluate("Lab.read('noise-strength')") == FIRST_STRENGTH
    assert lab_page.locator("#noise-words .lab-warning").inner_text() == ""
    recorded = lab_page.locator("#noise-words [data-word=recorded]")
    assert "8 seeds" in recorded.inner_text()
    lab_page.locator("#noise-kind label", has_text="Gaussian").click()
    recorded.wait_for(state="hidden")


def test_noise_that_rounding_eats_is_warned_of(page: Any) -> None:
    warning = page.locator("#noise-words .lab-warning")
    page.evaluate(f"{FIGURE}.labFigure.value.payload.realised = [[1e-4, 0], [1, 1]]")
    page.evaluate(MOVE, 0.5)
    std = 0.5 / math.sqrt(3 * sentence().clean.size)
    kept = 25 * math.log10(std / 1e-4)  # per cent, a quarter of them each power of ten
    assert f"In bfloat16 only {kept:.3g} %" in warning.inner_text()


def test_what_a_kind_shows_is_explained(page: Any) -> None:
    assert "have the same standard deviation" in page.locator("#noise-kind").inner_text()
    page.locator("#noise-kind label", has_text="Adversarial").click()
    page.get_by_text("The figure shows the initial uniform draw").wait_for()


def test_another_draw_changes_the_noise_and_not_the_sentence(page: Any) -> None:
    before, calls = page.evaluate(HEIGHTS), calls_from(page, "noise-")
    page.locator("#noise-again").click()
    page.wait_for_function(f"({HEIGHTS})[1][0] !== {before[1][0]}")
    assert calls
    assert page.evaluate(HEIGHTS)[0] == before[0]
    page.wait_for_function(f"{CURRENT}.data.length === 3")  # the repeated draws come after it


def test_a_model_that_is_not_there_gets_its_sentence_and_the_picture_stays(page: Any) -> None:
    before = page.evaluate(HEIGHTS)
    page.locator("[data-do=model]").click()
    box = page.locator("#model-source input")
    box.fill("<b>missing</b>")
    box.press("Enter")
    page.get_by_text("Not on the list").wait_for()
    page.locator("#model-use").click()
    page.locator(".lab-message", has_text="<b>missing</b>").wait_for()  # told as text, never as markup
    assert page.evaluate(HEIGHTS) == before


def test_a_link_opens_the_page_as_it_was(page: Any, browser: Any) -> None:
    page.evaluate(MOVE, 20)
    page.locator("#noise-kind label", has_text="Laplace").click()
    page.locator("#noise-text textarea").fill("A second sentence.")
    page.wait_for_function(f"{FIGURE}.labFigure.value.payload.length === 4")
    page.locator(".lab-unfold").click()
    page.locator("#noise-schedule label", has_text="Warm-up").click()
    page.locator("#noise-special-tokens input").uncheck()
    choose_view(page, "angles")
    link, result = page.evaluate("Lab.link()"), page.evaluate(RESULT)
    assert "noise.schedule=warm-up" in link
    other = browser.new_page()
    other.goto(link)
    other.wait_for_function(f"window.Lab && Lab.Plotly && {FIGURE}.labFigure.value.payload.length === 4")
    assert other.evaluate(RESULT) == result
    assert other.evaluate(f"{CURRENT}.view") == "angles"
    says(other, "laplace noise, alpha 15 and 20, no special tokens, warm-up")
    other.wait_for_function("(link) => Lab.link() === link", arg=link)
    other.close()


def test_a_link_may_be_in_any_unit_and_kind(page: Any, browser: Any, address: str) -> None:
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    for chosen in ({"unit": "relative", "strength": 0.3}, {"unit": "share", "strength": 0.25, "kind": "token-dropout"}):
        other = browser.new_page()
        other.goto(address + "?" + "&".join(f"noise.{name}={value}" for name, value in chosen.items()))
        other.wait_for_function(
            f"window.Lab && Lab.Plotly && {FIGURE}?.labFigure && Lab.read('noise-unit') !== 'alpha'"
        )
        other.wait_for_function(f"{CURRENT}.controls.unit === '{chosen['unit']}'")
        same(other.evaluate(RESULT), token_effects(payload, NoiseSettings(**chosen)))
        says(other, f"{chosen['unit']} {chosen['strength']}")
        other.close()


def test_the_dark_theme_redraws_the_figure_and_is_remembered(page: Any) -> None:
    colour = f"{FIGURE}._fullLayout.font.color"
    light, calls = page.evaluate(colour), calls_from(page, "noise-")
    page.locator("[data-do=theme]").click()
    page.wait_for_function(f"{colour} !== '{light}'")
    assert calls == []
    page.reload()
    page.wait_for_function(f"window.Lab && Lab.Plotly && {FIGURE}._fullLayout")
    assert page.evaluate("document.body.classList.contains('dark')")


def test_figures_say_that_their_library_is_missing_and_try_again(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.route("**/plotly.min.js*", lambda route: route.abort())
    page.goto(address + "?tab=Noise")
    told = page.locator("#noise-figure .lab-warning")
    told.wait_for()
    assert "could not be loaded" in told.inner_text()
    page.unroute("**/plotly.min.js*")
    told.locator("button").click()
    page.wait_for_function(f"{FIGURE}._fullLayout")
    assert told.count() == 0
    page.close()


def test_the_owner_key_is_made_once_and_is_long(page: Any) -> None:
    key = page.evaluate("Lab.ownerKey()")
    page.reload()
    page.wait_for_function("window.Lab")
    assert page.evaluate("Lab.ownerKey()") == key
    assert len(key) == 64


def test_nothing_is_wider_than_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("Learn", "Noise"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_function(f"Lab.currentTab() === '{tab}'")
        page.wait_for_function("document.documentElement.scrollWidth <= 390")
    for view in NOISE_VIEWS:
        choose_view(page, view)
        page.wait_for_function("document.documentElement.scrollWidth <= 390")


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


def test_a_sentence_that_is_cut_says_so(lab_page: Any) -> None:
    lab_page.evaluate("Lab.openTab('Noise')")
    lab_page.locator("#noise-text textarea").fill("owl " * 170)
    said = lab_page.locator(".lab-noise-words [data-word=kind]", has_text="Your sentence is too long: its last")
    said.wait_for()
    left_out = int(said.inner_text().split("its last ")[1].split()[0])
    assert lab_page.evaluate("Lab.facts['noise.length']") == 160
    assert left_out >= 10  # a word has one token or more


def test_a_character_that_the_model_reads_as_bytes_is_explained(lab_page: Any) -> None:
    lab_page.evaluate("Lab.openTab('Noise')")
    lab_page.locator("#noise-text textarea").fill("An owl, 猫.")
    words = "“猫 1/3” is a part of a character that has no token of its own."
    lab_page.locator(".lab-noise-words [data-word=kind]", has_text=words).wait_for()
