"""Every tensor of training, measuring and answering is on the device of the model, followed on a pretended GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pretended_devices import GPU, DevicesMet, PretendedGpu, on_gpu
from tiny import family_rows, random_rows

from neftune_core.data.chat import EncodedExample
from neftune_core.engine.arm_factory import make_arms
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import MethodSettings, TrainingSettings
from neftune_core.evaluation.answers import stream_answers
from neftune_core.evaluation.noise_propagation import measure_propagation
from neftune_core.evaluation.sensitivity import measure_sensitivity
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.loading import LoadedModel, evict_all, load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies import checkpoint
from neftune_core.studies.measuring import measure_end
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import CONTROL, EXAMPLE, MeasuringSettings, StudySettings
from neftune_core.studies.study import run_study
from tests.stress.families.engine import loaded_family
from tests.stress.families.tiny import FAMILIES
from tests.weights import weights_hash

ARMS = {
    "control": CONTROL,
    **{kind: NoiseSettings(strength=5, kind=kind) for kind in KINDS if not KINDS[kind].drops},
    "token-dropout": NoiseSettings(strength=0.3, unit="share", kind="token-dropout"),
    "at layers": NoiseSettings(strength=0.3, unit="relative", kind="gaussian", sites="embedding, 1"),
    "prompt only": NoiseSettings(strength=5, tokens="prompt", special_tokens=False, schedule="cosine"),
    "adaptive": NoiseSettings(strength=5, schedule="adaptive", length_rule="padded"),
}
FEW = {name: ARMS[name] for name in ("control", "uniform", "at layers")}
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {"lora_dropout": 0.2, "accumulation": 2, "weight_decay": 0.1},
    "in turn": {"arms_at_once": "in-turn"},
    "full": {"method": "full", "weight_decay": 0.1, "model_dropout": 0.1, "steps": 3},  # two updates before a loss
}
SLOW_FAMILIES = ("GPT-2", "BERT", "BART", "RecurrentGemma", "Gemma 3n")  # the fast families are a selection
SOME_FAMILIES = ["Llama", "T5", "Mamba", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_FAMILIES)]


@pytest.fixture
def gpu() -> Iterator[PretendedGpu]:
    with PretendedGpu() as pretended:
        yield pretended


def made(loaded: LoadedModel, arms: dict[str, NoiseSettings], rows: list[EncodedExample], **training: Any) -> Lockstep:
    usual = {"steps": 4, "learning_rate": 2e-3, "evaluations": 2, "lora_rank": 4, "batch_size": 4}
    settings = TrainingSettings(**(usual | training))
    prepared = SimpleNamespace(train=rows[:-2], held_out=rows[-2:])
    return Lockstep(StudySettings(training=settings), make_arms(loaded, len(arms), settings), prepared, arms=arms)


def losses(run: Lockstep) -> list[float]:
    return [
        arm["loss"] for event in run.run(lambda: False) if event["event"] == "step" for arm in event["arms"].values()
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_stays_on_the_device_with_the_losses_of_the_processor(
    tiny: LoadedModel, gpu: PretendedGpu, variant: str
) -> None:
    training = {"steps": 2, "evaluations": 1} | VARIANTS[variant]
    there = losses(made(tiny, ARMS, random_rows(10), **training))
    here = losses(made(on_gpu(tiny), ARMS, random_rows(10), **training))
    assert here == pytest.approx(there, abs=1e-5)  # attention and the head in different pieces
    assert gpu.copies["to"] > 0


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_checkpoint_is_resumed_on_the_device(
    tiny: LoadedModel, gpu: PretendedGpu, tmp_path: Path, method: str
) -> None:
    options = {"method": method, "evaluations": 1}
    unbroken, broken_off, resumed = (made(on_gpu(tiny), FEW, random_rows(10), **options) for _ in range(3))
    expected = list(unbroken.run(lambda: False))
    for event in broken_off.run(lambda: False):
        if (event["event"], event["step"]) == ("step", 2):
            break
    checkpoint.save(broken_off, tmp_path)
    checkpoint.restore(resumed, tmp_path)
    assert list(resumed.run(lambda: False)) == [event for event in expected if event["step"] > 2]
    assert {gpu.device_of(block.values) for block in resumed.optimizer.blocks} == {GPU}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_arm_is_saved_loaded_and_merged_on_the_device(gpu: PretendedGpu, tmp_path: Path, method: str) -> None:
    loaded = on_gpu(loaded_family(FAMILIES["Llama"]))
    run = made(loaded, FEW, family_rows(loaded), method=method)
    losses(run)
    run.stack.save(1, tmp_path / "arm")
    run.stack.load(2, tmp_path / "arm")
    ids = torch.tensor([[3, 4, 5]], device="cuda")
    one, other = (run.stack.merged(slot)(input_ids=ids).logits for slot in (1, 2))
    assert gpu.device_of(one) == GPU
    assert torch.equal(one, other)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_every_kind_of_family_trains_measures_and_answers_on_the_device(gpu: PretendedGpu, family: str) -> None:
    loaded = loaded_family(FAMILIES[family])
    sites = "embedding, 1" if FAMILIES[family].layers_take_noise else "embedding"
    arms = {"control": CONTROL, "noise": NoiseSettings(strength=0.3, unit="relative", kind="gaussian", sites=sites)}
    found = []
    for place in (loaded, on_gpu(loaded)):
        run = made(place, arms, family_rows(loaded))
        trained = losses(run)
        prompts = [[5, 6, 7], [8, 9, 10, 11, 12]]
        *_, greedy = stream_answers(run.stack, [0, 1, 2], prompts, AnswerSettings(new_tokens=4))
        sampling = AnswerSettings(new_tokens=4, temperature=0.8, top_p=0.9, samples=2)
        *_, sampled = stream_answers(run.stack, [1, 2], prompts, sampling)
        found.append((trained, *([answer.ids for by_slot in all_ for answer in by_slot] for all_ in (greedy, sampled))))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-4)  # attention and the head in different pieces
    assert found[1][1:] == found[0][1:]


@pytest.mark.parametrize("family", ["Llama", "T5", "Mamba"])
def test_measures_of_a_seed_and_the_views_inside_a_model_stay_on_the_device(gpu: PretendedGpu, family: str) -> None:
    loaded = on_gpu(loaded_family(FAMILIES[family]))
    run = made(loaded, {name: ARMS[name] for name in ("control", "uniform")}, family_rows(loaded, 12))
    losses(run)
    measured = measure_end(run, [0, 1, 2], lambda: False)
    assert np.isfinite(measured.arms["uniform"]["noise_penalty"])
    noise = NoiseSettings(strength=5)
    propagation = measure_propagation(loaded, [3, 4, 5, 6], noise, [1.0, 5.0])
    assert np.isfinite(propagation.predictions.divergences).all()
    for kind in ("uniform", "symmetric", "adversarial"):
        noise = NoiseSettings(strength=5, kind=kind)
        *_, sensitivity = measure_sensitivity(loaded, family_rows(loaded, 2), noise, [5.0])
        assert np.isfinite(sensitivity.losses).all()


def studied(device: str, folder: Path) -> Record:
    """Return the record of a short study of the bundled model."""
    study = EXAMPLE.model_copy(
        update={
            "model": ModelSettings(device=device, precision="float32"),
            "training": EXAMPLE.training.model_copy(update={"steps": 2, "evaluations": 1, "evaluation_rows": 4}),
            "methods": (MethodSettings(lora_dropout=0.1),),
            "measuring": MeasuringSettings(prompts=2, new_tokens=4),
            "answers": AnswerSettings(new_tokens=4),
        }
    )
    record = create(study, owner="", folder=folder)
    last = list(run_study(record, Limits(), lambda: False))[-1]
    assert last["event"] == "finished", last
    return record


def test_a_study_from_settings_to_its_record_stays_on_the_device(gpu: PretendedGpu, tmp_path: Path) -> None:
    evict_all()
    there, here = studied("cpu", tmp_path / "there"), studied("cuda", tmp_path / "here")
    processor, pretended = (load(record.study.model).model for record in (there, here))
    evict_all()
    assert {gpu.device_of(one) for one in (*pretended.parameters(), *pretended.buffers())} == {GPU}
    assert weights_hash(pretended) == weights_hash(processor)
    for name, buffer in processor.named_buffers():  # such as the frequencies of rotations, which no file holds
        assert torch.equal(pretended.get_buffer(name).cpu(), buffer)
    expected, found = (
        [arm["loss"] for event in record.events() if event["event"] == "step" for arm in event["arms"].values()]
        for record in (there, here)
    )
    assert len(found) == 2 * len(here.study.arms)
    assert found == pytest.approx(expected, abs=1e-4)  # attention and the head in different pieces
    assert here.answers() == there.answers()


@pytest.mark.parametrize("name", ["empty_like", "full_like", "zeros_like"])
def test_a_tensor_like_one_without_memory_has_memory_on_the_device(gpu: PretendedGpu, name: str) -> None:
    values = {"fill_value": 0.0} if name == "full_like" else {}
    made = getattr(torch, name)(torch.empty(3, device="meta"), device="cuda", **values)
    assert (made.is_meta, gpu.device_of(made)) == (False, GPU)


@pytest.mark.parametrize(
    ("arms", "training", "passes"),
    [
        (FEW, {}, 1),
        (FEW, {"accumulation": 2, "lora_dropout": 0.2}, 2),
        (ARMS, {"weight_decay": 0.1}, 6),
        (FEW, {"method": "full"}, 3),
    ],
)
def test_a_step_waits_for_the_device_three_times_and_once_in_each_pass(
    tiny: LoadedModel, gpu: PretendedGpu, arms: dict[str, NoiseSettings], training: dict[str, Any], passes: int
) -> None:
    """For losses, norms of gradients and distances; in a pass, transformers looks whether rows are packed."""
    run = made(on_gpu(tiny), arms, random_rows(10), **training)
    step = next(run.steps())
    gpu.waits.clear()
    run.step(step, 1e-3, lambda: False)
    assert gpu.waits == {"to": 3, "aten._local_scalar_dense.default": passes}


def test_a_misplaced_tensor_is_caught(tiny: LoadedModel, gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.noise.batch._draw_units", lambda *_: torch.zeros(4, 1, 32))
    with pytest.raises(DevicesMet, match="Tensors of two devices meet in aten"):
        losses(made(on_gpu(tiny), FEW, random_rows(10)))
    gpu.faults.clear()
