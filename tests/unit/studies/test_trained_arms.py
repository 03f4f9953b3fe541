"""Robustness by strength and adapter updates by layer, against what the study measured and plain products."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from neftune_core.errors import DataError, NotAvailable, RecordError
from neftune_core.figures.trained import robustness_figure, weights_figure
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.records.numbers import metrics
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import CONTROL, EXAMPLE
from neftune_core.studies.study import run_study
from neftune_core.studies.trained.loading import load_trained
from neftune_core.studies.trained.robustness import FILE, STRENGTHS, measure_robustness, read_robustness
from neftune_core.studies.trained.weights import Update, layer_of, layers_of, updates

CLOSE = 1e-4  # five digits in the file, and sums of float32 in batches of different rows


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a study of a control and a noise arm in float32."""
    changes = {
        "data": EXAMPLE.data.model_copy(update={"rows": 24}),
        "model": EXAMPLE.model.model_copy(update={"precision": "float32"}),
        "training": EXAMPLE.training.model_copy(update={"epochs": 2, "lora_rank": 4, "learning_rate": 5e-3}),
        "measuring": EXAMPLE.measuring.model_copy(update={"prompts": 0}),
    }
    made = create(EXAMPLE.model_copy(update=changes), "", folder=tmp_path_factory.mktemp("home") / "runs")
    *_, ending = run_study(made, Limits(), lambda: False)
    assert ending["event"] == "finished", ending
    return made


def test_the_curve_goes_through_what_the_study_measured_at_its_end(record: Record) -> None:
    *growing, last = measure_robustness(record, 0, Limits())
    assert [round(one.share * len(STRENGTHS)) for one in growing] == list(range(1, len(STRENGTHS) + 1))
    found = last.found
    assert found is not None
    assert found == read_robustness(record, 0)
    assert list(found.arms) == ["base", *record.arms]
    kept = metrics(record)["0"]["robustness"]["noise"]
    rows = metrics(record)["0"]["sample_sizes"]["robustness"]
    tokens = np.array(found.tokens[:rows])
    for name, measured in kept["arms"].items():
        for amount, loss, accuracy in zip(kept["amounts"], measured["loss"], measured["accuracy"], strict=True):
            at = found.strengths.index(amount)
            own = found.arms[name]
            assert sum(own.losses[at][:rows]) / tokens.sum() == pytest.approx(loss, rel=1e-3)
            assert sum(own.hits[at][:rows]) / tokens.sum() == pytest.approx(accuracy, abs=1.5 / tokens.sum())
    for name in found.arms:
        for at, interval in enumerate(found.loss(name)):
            assert interval.estimate == pytest.approx(sum(found.arms[name].losses[at]) / sum(found.tokens))
            assert interval.low <= interval.estimate <= interval.high
        exact = [hits == tokens for hits, tokens in zip(found.arms[name].hits[0], found.tokens, strict=True)]
        assert found.right(name)[0].estimate == pytest.approx(np.mean(exact))
    figure = robustness_figure(found, record.arms)
    json.dumps(figure, allow_nan=False)
    line = next(trace for trace in figure["data"] if trace["uid"] == "control/1")
    assert line["y"] == pytest.approx([one.estimate for one in found.loss("control")], abs=CLOSE)
    assert f"{len(found.tokens)} held-out rows" in figure["summary"]
    assert ") at 300%; the share of correct answers" in figure["summary"]
    assert {figure["layout"][name]["tickformat"] for name in ("xaxis", "xaxis2")} == {".0%"}


def test_a_damaged_curve_is_not_there(record: Record) -> None:
    path = record.folder / FILE.format(seed=5)
    assert read_robustness(record, 5) is None
    for text in ("", "[]", '{"strengths": [0], "tokens": [1], "arms": {"base": {"losses": [[1, 2]], "hits": [[1]]}}}'):
        path.write_text(text)
        assert read_robustness(record, 5) is None
    path.unlink()


def test_a_study_without_held_out_rows_has_no_curve(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = load_trained(record, 0, Limits())
    arms.prepared.held_out.clear()
    monkeypatch.setattr("neftune_core.studies.trained.robustness.load_trained", lambda *_: arms)
    with pytest.raises(DataError, match="no held-out rows"):
        next(measure_robustness(record, 0, Limits()))


def test_norms_and_angles_are_those_of_the_merged_weights(record: Record) -> None:
    found = updates(record, 0)
    assert list(found) == list(record.arms)
    arms = load_trained(record, 0, Limits())
    base = dict(arms.loaded.model.named_parameters())
    merged = {name: dict(arms.stack.merged(slot).named_parameters()) for slot, name in arms.names.items() if slot}
    layers = layers_of(found)
    assert layers == [str(number) for number in range(1, arms.loaded.layers + 1)]

    def change(arm: str, layer: str) -> torch.Tensor:
        names = [name for name in base if f".layers.{int(layer) - 1}." in name]
        assert names
        return torch.cat([(merged[arm][name] - base[name]).double().flatten() for name in names])

    for arm, own in found.items():
        for layer in layers:
            mine, control = change(arm, layer), change(CONTROL.name, layer)
            assert own[layer].norm == pytest.approx(float(mine.norm()), rel=1e-3)
            if arm == CONTROL.name:
                assert own[layer].angle is None
            else:
                cosine = float(mine @ control / (mine.norm() * control.norm()))
                assert own[layer].angle == pytest.approx(math.degrees(math.acos(cosine)), abs=0.5)
    figure = weights_figure(found, layers, record.arms)
    json.dumps(figure, allow_nan=False)
    assert {trace["uid"] for trace in figure["data"]} == {"control/1", "uniform-alpha-5/1", "uniform-alpha-5/2"}
    assert "norm" in figure["summary"]


def test_layers_of_both_parts_keep_their_order() -> None:
    assert layer_of("model.layers.10.self_attn.q_proj") == "11"
    assert layer_of("encoder.block.0.layer.0.SelfAttention.q") == "encoder 1"
    assert layer_of("model.decoder.layers.2.fc1") == "decoder 3"
    names = ["decoder 1", "encoder 10", "encoder 2", "lm_head"]
    assert layers_of({"a": dict.fromkeys(names, Update(1.0, None))}) == [
        "encoder 2",
        "encoder 10",
        "decoder 1",
        "lm_head",
    ]
    assert layers_of({"a": dict.fromkeys(["10", "2"], Update(1.0, None))}) == ["2", "10"]


def test_what_has_no_adapters_is_refused_in_one_sentence(
    record: Record, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(RecordError, match="adapters of seed 4"):
        updates(record, 4)
    other = create(record.study, "", folder=tmp_path_factory.mktemp("full") / "runs")
    full = other.study.model_copy(update={"training": other.study.training.model_copy(update={"method": "full"})})
    other.settings_file.write_text(to_toml(full))
    with pytest.raises(NotAvailable, match="trained all weights"):
        updates(other, 0)
