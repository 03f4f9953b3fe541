"""Whether a study fits: memory, disk and time, with what would help."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_study import short_rows, tiny_settings, two_arms

from neftune_core.data.preparing import prepare
from neftune_core.engine.methods.registry import MethodSettings
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.models.estimates import STUDY_BYTES
from neftune_core.models.loading import load
from neftune_core.settings import Limits
from neftune_core.studies.planning import disk_bytes, memory_and_time, require_disk, require_memory, workload_of
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study
from neftune_core.ui.parts.study_form import plan_text, require_fit
from neftune_core.ui.server.lab import Lab


def test_what_would_fit_is_given_in_numbers(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, loaded = two_arms(rows, batch_size=8), load(tiny_settings())
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    long = study.model_copy(update={"measuring": MeasuringSettings(new_tokens=800)})
    needed = memory_and_time(long, loaded, prepared).memory_bytes
    most = int(STUDY_BYTES + 0.8 * (needed - STUDY_BYTES))
    monkeypatch.setattr("neftune_core.models.device.available_memory", lambda device="cpu": most)
    with pytest.raises(DoesNotFit, match="measured prompts set to 4"):
        require_memory(long, loaded, prepared)
    study = study.model_copy(update={"measuring": MeasuringSettings(prompts=0)})
    needed = memory_and_time(study, loaded, prepared).memory_bytes
    most = int(STUDY_BYTES + 0.8 * (needed - STUDY_BYTES))
    with pytest.raises(DoesNotFit, match=r"The study would fit with gradient accumulation \d+ \(less memory"):
        require_memory(study, loaded, prepared)


def test_the_estimate_counts_what_the_floors_train_as_well(rows: Path) -> None:
    loaded = load(tiny_settings())
    study = two_arms(rows).model_copy(update={"measuring": MeasuringSettings()})
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    floored = study.model_copy(update={"measuring": MeasuringSettings(another_seed=True)})
    once, more = (memory_and_time(asked, loaded, prepared) for asked in (study, floored))
    assert 1.5 * once.seconds < more.seconds < 2.0 * once.seconds  # the control of two arms, and the base, once more
    assert more.memory_bytes == once.memory_bytes


def test_the_estimate_counts_the_passes_of_methods_and_of_noise(rows: Path) -> None:
    study, loaded = two_arms(rows), load(tiny_settings())
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    noise = study.noise[0]
    adversarial = noise.model_copy(update={"kind": "adversarial", "ascent_steps": 2})
    compared = [MethodSettings(consistency=1.0, noise=noise), MethodSettings(noisefit=0.5, noise=noise)]
    asked = study.model_copy(update={"noise": (noise, adversarial), "methods": tuple(compared)})
    assert workload_of(study, prepared, loaded).repeats == 1
    assert workload_of(asked, prepared, loaded).repeats == (1 + 1 + 3 + 2 + 3) / 5


def test_copies_of_all_weights_that_the_disk_cannot_hold_are_refused_before_the_first_step(
    rows: Path, tmp_path: Path
) -> None:
    study, loaded = two_arms(rows, method="full"), load(tiny_settings())
    needed = disk_bytes(study, loaded)
    numbers = sum(weight.numel() for weight in loaded.model.parameters())
    assert needed == len(study.arms) * (24 + (2 * study.seeds + 1) * loaded.model.dtype.itemsize) * numbers
    record = create(study, "", folder=tmp_path / "runs")
    require_disk(study, loaded, record.folder, Limits(disk_gigabytes=1.1 * needed / 1e9))
    (tmp_path / "runs" / "another").write_bytes(bytes(needed // 5))
    tight = Limits(disk_gigabytes=1.1 * needed / 1e9)
    assert list(run_study(record, tight, lambda: False))[-1]["event"] == "failed"
    assert "is available: train adapters" in record.events()[-1]["message"]


def test_the_page_refuses_what_does_not_fit_before_it_is_started(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(Limits())
    require_fit(lab, two_arms(rows, seeds=3))
    words, fits = plan_text(lab, two_arms(rows, seeds=3, time_budget_seconds=30.0))
    assert words.startswith("3 seeds of about 30 seconds of training, 2 arms.")
    assert fits
    monkeypatch.setattr("neftune_core.models.device.available_memory", lambda device="cpu": 1000)
    with pytest.raises(DoesNotFit, match="No smaller study of this model would fit"):
        require_fit(lab, two_arms(rows))


@pytest.mark.parametrize(("more", "shown"), [(0, "1 epoch"), (1, "1 epoch"), (241, "2 epochs"), (23_761, "100 epochs")])
def test_the_number_of_epochs_agrees_with_its_noun(tmp_path: Path, more: int, shown: str) -> None:
    study = two_arms(short_rows(tmp_path, 300), batch_size=1)
    rows = len(prepare(study.data, load(tiny_settings()).tokenizer, Limits()).train)
    steps = two_arms(tmp_path / "rows.jsonl", batch_size=1, steps=rows + more)
    assert f" steps ({shown}), 2 arms." in plan_text(Lab(Limits()), steps)[0]


def test_the_plan_says_what_the_bundled_model_knows_and_is_taught(rows: Path) -> None:
    lab, known = Lab(Limits()), "The bundled model knows only one invented village."
    words, _ = plan_text(lab, EXAMPLE)
    assert words.endswith(
        f"{known} It is trained on “The bundled world: short answers in a format that the model has not seen”."
    )
    assert known not in plan_text(lab, two_arms(rows))[0]
