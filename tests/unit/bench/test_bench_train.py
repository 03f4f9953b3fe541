"""The training benchmark: its rows, sizes, and messages if something is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from neftune_core.bench import gpu, train
from neftune_core.bench.matrix import own_peak, random_rows, weights_of
from neftune_core.bench.peer_sides import peer_peft
from neftune_core.bench.plain_loop import padded_batch
from neftune_core.bench.train_sides import SIDES, Sizes, ready
from neftune_core.errors import InvalidSetting, LabError, NotAvailable
from neftune_core.models.device import choose_device, choose_precision
from neftune_core.models.loading import LoadedModel


def _answered(monkeypatch: pytest.MonkeyPatch, found: dict[str, dict[str, Any]]) -> list[str]:
    """Make the sides return `found`; return the list of requested sides."""
    asked: list[str] = []

    def answer(side: str, sizes: Sizes) -> dict[str, Any]:
        asked.append(side)
        return found[side]

    monkeypatch.setattr(train, "run_side", answer)
    return asked


def _speeds(**tokens: int) -> dict[str, dict[str, Any]]:
    return {side: {"tokens": speed, "seconds": 1, "precision": "float32"} for side, speed in tokens.items()}


def test_sides_take_turns_and_ratios_go_run_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _speeds(lora=600, trl_lora_bfloat16=100, trl_lora_float32=300, peer_peft=200)
    asked = _answered(monkeypatch, found)
    monkeypatch.setattr(train, "find_spec", lambda name: name)
    monkeypatch.setattr(train, "fast_bfloat16", lambda device: True)
    table = train.measure_training(Sizes("bundled"), 2, ["lora"])
    assert asked == 2 * list(found)
    rows = {row["what"]: row for row in table.rows}
    assert rows["LoRA: this lab relative to TRL, bfloat16 weights"]["median"] == 6
    assert rows["LoRA: this lab relative to TRL, bfloat16 weights"]["to reach"] == ">= 5"
    assert rows["LoRA: this lab relative to TRL, float32 weights"]["median"] == 2
    assert rows["LoRA: this lab relative to a plain PEFT loop without noise, float32"]["median"] == 3
    assert "LoRA: this lab, float32, tokens/s" in table.as_markdown()
    json.dumps(table.as_json())


def test_a_library_that_is_not_installed_has_a_note_instead_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _answered(monkeypatch, _speeds(lora=600, peer_peft=200))
    monkeypatch.setattr(train, "find_spec", lambda name: name if name == "peft" else None)
    monkeypatch.setattr(train, "fast_bfloat16", lambda device: True)
    table = train.measure_training(Sizes("bundled"), 1, ["lora"])
    assert asked == ["lora", "peer_peft"]
    assert table.notes == [train.NOT_INSTALLED.format("trl")]


def test_without_fast_bfloat16_nothing_emulates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _answered(monkeypatch, _speeds(full=10, trl_full_float32=5))
    monkeypatch.setattr(train, "find_spec", lambda name: name)
    monkeypatch.setattr(train, "fast_bfloat16", lambda device: False)
    table = train.measure_training(Sizes("bundled"), 1, ["full"])
    assert asked == ["full", "trl_full_float32"]
    assert table.notes == [train.NO_BFLOAT16]


def test_the_plain_peft_loop_has_the_loss_of_the_model() -> None:
    sizes = Sizes("bundled", first=4)
    found = peer_peft(sizes)
    _, loaded, prepared = ready(sizes)
    with torch.no_grad():
        expected = loaded.model(**padded_batch(prepared.train[:4])).loss.item()  # an untrained adapter adds nothing
    assert found["first"] == pytest.approx(expected, rel=1e-2)
    assert found["tokens"] == sum(row.length for row in prepared.train)


def test_memory_is_reported_as_a_share_of_one_arms_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _answered(
        monkeypatch,
        {f"memory_{side}": {"bytes": size} for side, size in (("of_one", 2e9), ("together", 5e9), ("in_turn", 3e9))},
    )
    rows = train.measure_training(Sizes("bundled"), 1, ["memory"]).rows
    assert [row["median"] for row in rows] == [2, 2.5, 1.5]


def test_an_unknown_measurement_is_refused_and_a_failed_one_gives_the_reason() -> None:
    with pytest.raises(InvalidSetting, match="no measurement 'speed'"):
        train.measure_training(Sizes("bundled"), 1, ["speed"])
    with pytest.raises(LabError, match="measurement of nothing failed: KeyError"):
        train.run_side("nothing", Sizes("bundled"))


def test_the_sides_run_on_the_bundled_model() -> None:
    """Check only that the sides run and return plausible values; timings of a busy machine mean nothing."""
    sizes = Sizes("bundled", first=4, steps=2, new_tokens=2)
    found = {side: SIDES[side](sizes) for side in ("lora", "full", "peak", "arms", "answers", "usual", "control")}
    assert found["lora"]["tokens"] == found["full"]["tokens"] > 0
    assert 0 < found["peak"]["share"] < 1.5
    assert found["arms"]["ratio"] > 0
    assert found["answers"]["ratio"] > 0
    assert 0 < found["usual"]["share"] < 1
    assert found["usual"]["parts"]["training"] > 0
    assert found["control"]["largest"] < 1e-5  # float32: products of different sizes
    assert found["control"]["steps"] == 2


def test_the_counted_weights_are_those_of_the_maps_and_the_head(tiny: LoadedModel) -> None:
    layers = 2 * (32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 48)
    assert weights_of(tiny) == (layers, 50 * 32)
    assert own_peak(tiny) > 0
    assert {row.length for row in random_rows(tiny, 3, 7)} == {7}


def test_without_a_gpu_the_bench_explains_what_to_run_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotAvailable, match="neftune bench train"):
        gpu.measure_gpu("cpu")
    assert gpu.unmeasured_note(torch.device("cpu")) == ""


def test_a_gpu_is_untried_until_it_has_been_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU 9000")
    device = torch.device("cuda:0")
    assert "Some GPU 9000" in gpu.unmeasured_note(device)
    assert gpu.COMMAND in gpu.unmeasured_note(device)
    kept = gpu.measurement_file("Some GPU 9000")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("{}")
    assert gpu.unmeasured_note(device) == ""
    kept.unlink()


def test_auto_is_the_device_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_DEVICE", "cpu")
    assert choose_device("auto").type == "cpu"
    monkeypatch.setenv("NEFTUNE_DEVICE", "cuda:7")
    with pytest.raises(NotAvailable, match="has no device cuda:7"):
        choose_device("auto")
    assert choose_device("cpu").type == "cpu"


def test_a_cuda_gpu_without_bfloat16_computes_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.models.device.fast_bfloat16", lambda device: False)
    assert choose_precision("auto", torch.device("cuda:0")) == "float16"
    assert choose_precision("auto", torch.device("cpu")) == "float32"
