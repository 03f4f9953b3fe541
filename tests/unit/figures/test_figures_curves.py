"""The curves of a study and the lengths of its rows, as plain dicts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neftune_core.figures.colours import arm_colours
from neftune_core.figures.curves import AXIS_MARGIN, POINTS, downsample, loss_curves
from neftune_core.figures.lengths import BINS, bin_width, length_histogram
from neftune_core.noise.settings import NoiseSettings

ARMS = {noise.name: noise for noise in (NoiseSettings(strength=value) for value in (0, 5, 15))}


def step(number: int, seed: int = 0) -> dict[str, Any]:
    return {"event": "step", "step": number, "seed": seed, "arms": {name: {"loss": 2.0} for name in ARMS}}


def evaluated(number: int, seed: int = 0, **arms: dict[str, float]) -> dict[str, Any]:
    known = arms or {name: {"train_loss": 1.5, "held_out_loss": 1.8} for name in ARMS}
    return {"event": "evaluated", "step": number, "seed": seed, "arms": known}


def test_every_arm_has_three_curves_of_its_own_colour() -> None:
    figure = loss_curves([evaluated(0), step(1), step(2), evaluated(2)], ARMS)
    for name, colour in arm_colours(ARMS).items():
        mine = [trace for trace in figure["data"] if trace["legendgroup"] == name]
        assert len(mine) == (0 if name == "base" else 3)
        assert {trace["line"]["color"] for trace in mine} <= {colour}
        assert sum(trace["showlegend"] for trace in mine) == (0 if name == "base" else 1)


def test_the_loss_with_noise_on_is_thinner_and_lighter_than_the_clean_one() -> None:
    figure = loss_curves([step(1), evaluated(1)], ARMS)
    noisy, clean = (
        next(trace for trace in figure["data"] if f"/{kind}/" in trace["uid"]) for kind in ("loss", "train_loss")
    )
    assert noisy["line"]["width"] < clean["line"]["width"]
    assert noisy["opacity"] < clean["opacity"]


def test_held_out_losses_stand_in_their_own_panel_on_the_same_steps() -> None:
    figure = loss_curves([evaluated(0)], ARMS)
    panels = {trace["uid"].split("/")[1]: trace["yaxis"] for trace in figure["data"]}
    assert panels == {"train_loss": "y", "held_out_loss": "y2"}
    assert figure["layout"]["xaxis2"]["matches"] == "x"


def test_seeds_are_separate_curves_of_one_entry_in_the_legend() -> None:
    figure = loss_curves([evaluated(0, seed=0), evaluated(0, seed=1)], ARMS)
    control = [trace for trace in figure["data"] if trace["name"] == "control"]
    assert [trace["uid"].rpartition("/")[2] for trace in control] == ["mean", "0", "1"] * 2
    assert sum(trace["showlegend"] for trace in control) == 1


def test_the_mean_of_the_seeds_leaves_out_one_in_mid_run() -> None:
    losses = [{"control": {"train_loss": value}} for value in (4.0, 2.0, 3.0, 1.0, 9.0)]
    places = [(0, 0), (2, 0), (0, 1), (2, 1), (0, 2)]
    events = [evaluated(step, seed, **arms) for (step, seed), arms in zip(places, losses, strict=True)]
    figure = loss_curves(events, ARMS)
    mean = next(trace for trace in figure["data"] if trace["uid"] == "control/train_loss/mean")
    assert (mean["x"], mean["y"]) == ([0, 2], [3.5, 1.5])
    assert "control training 1.500" in figure["summary"]
    thin = next(trace for trace in figure["data"] if trace["uid"] == "control/train_loss/2")
    assert thin["line"]["width"] < mean["line"]["width"]


def test_an_arm_that_diverged_keeps_what_it_had() -> None:
    events = [evaluated(0), evaluated(4, control={"train_loss": 1.1, "held_out_loss": 1.6})]
    curves = {trace["uid"]: trace["x"] for trace in loss_curves(events, ARMS)["data"]}
    assert curves["control/train_loss/0"] == [0, 4]
    assert curves["uniform-alpha-15/train_loss/0"] == [0]


def test_the_summary_gives_the_last_losses_in_words() -> None:
    events = [evaluated(0), evaluated(8, control={"train_loss": 1.23456, "held_out_loss": 1.7})]
    assert "control training 1.235, held-out 1.700" in loss_curves(events, ARMS)["summary"]


def test_a_long_curve_becomes_means_that_keep_its_mean_and_its_end() -> None:
    steps, values = list(range(1, 2401)), [float(step % 7) for step in range(1, 2401)]
    fewer, means = downsample(steps, values)
    assert len(fewer) <= POINTS
    assert fewer[-1] == 2400
    assert sum(means) / len(means) == pytest.approx(sum(values) / len(values))  # 2400 is a multiple of 4: equal groups


def test_the_base_is_a_level_over_all_steps() -> None:
    base = {"base": {"train_loss": 6.0}, "control": {"train_loss": 6.0}}
    figure = loss_curves([evaluated(0, **base), evaluated(8, control={"train_loss": 0.1})], ARMS)
    (level,) = [trace for trace in figure["data"] if trace["name"] == "base"]
    assert (level["x"], level["y"], level["line"]["dash"]) == ([0, 8], [6.0, 6.0], "dot")
    assert level["meta"] == {"level": True}
    (point,) = [trace for trace in loss_curves([evaluated(0, **base)], ARMS)["data"] if trace["name"] == "base"]
    assert (point["x"], point["mode"]) == ([0], "lines+markers")


def test_a_loss_that_fell_far_is_shown_on_a_logarithmic_scale_once_the_study_is_over() -> None:
    def opened(last: float, *ending: dict[str, Any]) -> bool:
        return loss_curves([evaluated(0), evaluated(8, control={"train_loss": last}), *ending], ARMS)["log"]

    assert opened(0.01, {"event": "finished"})
    assert not opened(1.0, {"event": "finished"})
    assert not opened(0.01)


def test_the_axis_is_as_long_as_the_study_and_ends_where_it_was_stopped() -> None:
    running = [evaluated(0) | {"steps": 40}, step(1) | {"steps": 40}]
    assert loss_curves(running, ARMS)["layout"]["xaxis"]["range"] == [0, 40 * AXIS_MARGIN]
    assert loss_curves([*running, {"event": "stopped"}], ARMS)["layout"]["xaxis"]["range"] == [0, AXIS_MARGIN]


def test_without_held_out_rows_the_training_panel_has_all_the_room() -> None:
    losses = {name: {"train_loss": 1.5, "held_out_loss": None} for name in ARMS}
    layout = loss_curves([evaluated(0, **losses), step(1)], ARMS)["layout"]
    assert layout["xaxis"]["domain"] == [0, 1]
    assert len(layout["annotations"]) == 1


def test_no_events_make_an_empty_figure_that_reports_it() -> None:
    figure = loss_curves([], ARMS)
    assert figure["data"] == []
    assert figure["summary"] == "No loss has been measured yet."


@pytest.mark.parametrize("figure", [loss_curves([step(1), evaluated(1)], ARMS), length_histogram([5, 9, 30], [7])])
def test_a_figure_is_json_and_its_axes_carry_units(figure: dict[str, Any]) -> None:
    assert json.loads(json.dumps(figure)) == figure
    titles = [value["title"]["text"] for key, value in figure["layout"].items() if key in ("xaxis", "yaxis")]
    assert all("(" in title for title in titles)


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=60), st.lists(st.integers(1, 5000), max_size=20))
def test_every_row_is_counted_once(train: list[int], held_out: list[int]) -> None:
    figure = length_histogram(train, held_out)
    assert sum(sum(trace["y"]) for trace in figure["data"]) == len(train) + len(held_out)
    assert all(len(trace["y"]) <= BINS for trace in figure["data"])


@given(st.integers(1, 10**9))
def test_bins_are_round_and_few(longest: int) -> None:
    width = bin_width(longest)
    assert str(width).rstrip("0") in ("1", "2", "5")
    assert longest / width < BINS


def test_a_histogram_of_nothing_reports_it() -> None:
    assert length_histogram([])["summary"] == "No rows yet."


def test_a_limit_far_from_every_row_does_not_shrink_them() -> None:
    assert length_histogram([10, 20], maximum_length=512)["layout"]["shapes"] == []


def test_the_limit_is_marked_and_told() -> None:
    figure = length_histogram([10, 512, 512], maximum_length=512)
    assert figure["layout"]["shapes"][0]["x0"] == 512
    assert "Rows that reach the limit of 512: 2" in figure["summary"]


def test_the_latest_held_out_losses_and_their_differences_are_in_the_figure() -> None:
    losses = dict(zip(ARMS, (0.5, 0.512, 0.75), strict=True))
    known = {name: {"train_loss": 1.5, "held_out_loss": loss} for name, loss in losses.items()}
    end = [evaluated(2, seed=seed, **known) for seed in (0, 1)]
    figure = loss_curves([evaluated(0, seed=0), evaluated(0, seed=1), *end], ARMS)
    listed = [note for note in figure["layout"]["annotations"] if note["xref"] == "x2 domain" and note["x"] == 1]
    assert [note["text"] for note in listed] == ["control 0.500", "alpha 5 0.512 (+0.012)", "alpha 15 0.750 (+0.250)"]
    assert [note["font"]["color"] for note in listed] == [arm_colours(ARMS)[name] for name in ARMS]
    assert {note["yanchor"] for note in listed} == {"top"}  # the curves end at the bottom
    before = loss_curves([evaluated(0)], ARMS)
    assert not [note for note in before["layout"]["annotations"] if note["x"] == 1]  # nothing is trained yet
