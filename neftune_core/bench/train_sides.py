"""The measurements of `neftune bench train`, each run in its own process.

`python -m neftune_core.bench.train_sides SIDE SIZES` runs one measurement (side) and prints one line of JSON. SIZES is
the JSON of `Sizes`. `peer_sides` measures other libraries and is started in the same way.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiled

from neftune_core.bench.matrix import own_peak, random_rows, weights_of
from neftune_core.bench.plain_loop import peft_losses
from neftune_core.bench.table import seconds_of
from neftune_core.data.chat import prompt_ids
from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.data.settings import DataSettings
from neftune_core.engine.arm_factory import make_training_arms
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings, rate_at
from neftune_core.engine.stack import AdapterStack
from neftune_core.evaluation.answers import stream_answers
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.loading import LoadedModel, load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE, PRESETS, StudySettings, default_training
from neftune_core.studies.study import run_study

BATCH, LONGEST, RANK = 4, 512, 8
ALPHA: float = 5.0
FULL_RATE: float = 1e-5
LORA_RATE: float = 5e-4
MEMORY_TOKENS = 256
SHORTEST = 16
MANY_PROMPTS, MANY_TOKENS = 20, 64
ARMS: dict[str, NoiseSettings] = {"control": NoiseSettings(strength=0)} | {
    f"alpha-{n}": NoiseSettings(strength=n) for n in (5, 10, 15, 30)
}
Result = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """The model, the data and the amount of work.

    Attributes:
        rows: Path of a file with rows; "" for a starter set.
        first: Number of rows to read from the start of the data.
        steps: Number of steps in the comparison with a plain loop.
        new_tokens: Maximum length of an answer, in tokens.
    """

    model: str
    rows: str = ""
    first: int = 64
    steps: int = 20
    new_tokens: int = 32
    device: str = "auto"
    precision: str = "auto"


def _study(sizes: Sizes, **training: Any) -> StudySettings:
    usual = {"epochs": 1, "batch_size": BATCH, "lora_rank": RANK, "lora_alpha": 2 * RANK, "learning_rate": LORA_RATE}
    return StudySettings(
        model=ModelSettings(source=sizes.model, device=sizes.device, precision=sizes.precision),
        data=DataSettings(
            source=f"file:{sizes.rows}" if sizes.rows else "starter:open-ended",
            rows=sizes.first,
            held_out_share=0,
            maximum_length=LONGEST,
        ),
        training=TrainingSettings(**(usual | training)),
        noise=(NoiseSettings(strength=ALPHA),),
    )


def ready(sizes: Sizes, **training: Any) -> tuple[StudySettings, LoadedModel, PreparedData]:
    """Load the model and the rows of a benchmark.

    Args:
        sizes: The model, the data and the amount of work.
        **training: Training settings that replace those of the benchmark.

    Returns:
        The study, the loaded model, and the tokenised rows.

    Raises:
        LabError: If the model cannot be loaded, or the data cannot be read.
    """
    study = _study(sizes, **training)
    loaded = load(study.model)
    return study, loaded, prepare(study.data, loaded.tokenizer, Limits())


def lockstep(study: StudySettings, loaded: LoadedModel, prepared: Any, arms: Mapping[str, NoiseSettings]) -> Lockstep:
    """Create a run of several arms.

    Args:
        study: Settings of the study, such as rows per step and evaluations.
        loaded: The model.
        prepared: The tokenised rows.
        arms: Noise settings of the arms by name.

    Returns:
        The run, before its first step.

    Raises:
        InvalidSetting: If the model lacks a layer or an embedding table to which an arm adds noise.
        NotAvailable: If the settings select CUDA graphs but the device does not support them.
    """
    return Lockstep(study, make_training_arms(loaded, len(arms), study.training), prepared, arms=arms)


def train_seconds(run: Lockstep) -> float:
    """Train all steps of a run without evaluations, and return the duration in seconds."""
    started = time.perf_counter()
    for step in run.steps():
        event = run.step(step, run.study.training.learning_rate, _never)  # creating the event synchronises the device
    assert event["arms"], "all arms of the benchmark diverged"
    return time.perf_counter() - started


def _one_arm(sizes: Sizes, **training: Any) -> Result:
    """Train one noise arm for one epoch."""
    study, loaded, prepared = ready(sizes, **training)
    return {
        "tokens": sum(row.length for row in prepared.train),
        "trained": sum(int(row.trained[1:].sum()) for row in prepared.train),
        "seconds": train_seconds(lockstep(study, loaded, prepared, {"alpha-5": ARMS["alpha-5"]})),
        "precision": loaded.precision,
    }


def _peak(sizes: Sizes) -> Result:
    """Compare the speed of a LoRA epoch with the peak speed of matrix products of this model's shapes.

    Only products with frozen weights are counted, forward and backward to the inputs. Those of the layers are counted
    for all real tokens, and those of the head for response tokens.
    """
    found = _one_arm(sizes)
    _, loaded, _ = ready(sizes)
    layers, head = weights_of(loaded)
    reached = 4e-9 * (found["tokens"] * layers + found["trained"] * head) / found["seconds"]
    peak = own_peak(loaded) / 1e9
    return found | {"peak": peak, "reached": reached, "share": reached / peak}


def _arms(sizes: Sizes) -> Result:
    """Compare the time to train five arms at once with the time to train them one after another."""
    study, loaded, prepared = ready(sizes)
    train_seconds(lockstep(study, loaded, _first_batch(prepared), ARMS))  # warm-up
    alone = [train_seconds(lockstep(study, loaded, prepared, {name: ARMS[name]})) for name in ARMS]
    together = train_seconds(lockstep(study, loaded, prepared, ARMS))
    return {"alone": sum(alone), "together": together, "ratio": together / sum(alone)}


def _first_batch(prepared: PreparedData) -> Any:
    return SimpleNamespace(train=prepared.train[:BATCH], held_out=[])


def _answers(sizes: Sizes) -> Result:
    """Compare the time to generate answers with four arms and with one arm, for the same prompts and length."""
    _, loaded, prepared = ready(sizes)
    stack = AdapterStack(loaded, 4, rank=RANK, alpha=2 * RANK)
    stack.start(0)  # untrained arms equal the base, so that all answers end at the same token
    prompts = [prompt_ids(row.example.prompt, loaded.tokenizer) for row in prepared.train[:5]]
    settings = AnswerSettings(new_tokens=sizes.new_tokens)

    def timed(slots: list[int], prompts: list[list[int]], settings: AnswerSettings) -> float:
        """Return the time to generate the answers, in seconds.

        Args:
            slots: Slots that answer each prompt.
            prompts: Token ids of each prompt.
            settings: Decoding settings.

        Returns:
            The wall-clock time.
        """
        return seconds_of(lambda: deque(stream_answers(stack, slots, prompts, settings), maxlen=0))

    timed([1], prompts, settings)
    one, four = timed([1], prompts, settings), timed([1, 2, 3, 4], prompts, settings)
    many = [prompt_ids(row.example.prompt, loaded.tokenizer) for row in prepared.train[:MANY_PROMPTS]]
    long = AnswerSettings(new_tokens=MANY_TOKENS)
    return {"one": one, "four": four, "ratio": four / one, "many": timed([1, 2, 3, 4], many, long)}


def _peak_memory(sizes: Sizes, count: int, **training: Any) -> Result:
    """Return the peak memory of two steps with `count` arms, in bytes."""
    study = _study(sizes, steps=2, **training)
    loaded = load(study.model)
    prepared = SimpleNamespace(train=random_rows(loaded, 2 * BATCH, MEMORY_TOKENS), held_out=[])
    train_seconds(lockstep(study, loaded, prepared, dict(list(ARMS.items())[:count])))
    if loaded.device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(loaded.device)}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def _bundled_study(sizes: Sizes) -> Result:
    """Time a study of three arms on the bundled model."""
    changes = {
        "model": EXAMPLE.model.model_copy(update={"precision": sizes.precision}),
        "training": EXAMPLE.training.model_copy(update={"epochs": 8.0, "evaluations": 8}),
        "data": DataSettings(source="starter:world-format", rows=160, held_out_share=0.2),
        "noise": (NoiseSettings(strength=5), NoiseSettings(strength=15)),
    }
    return _time_study(EXAMPLE.model_copy(update=changes))


def _default_study(sizes: Sizes) -> Result:
    """Time the page's default study with one seed and two arms.

    The `share` of the time spent on measuring excludes loading, and answers to the user's own prompts.
    """
    found = _two_arms(sizes, default_training)
    parts = found["parts"]
    measuring = parts["held-out and training loss"] + parts["final measures"]
    return found | {"share": measuring / (found["seconds"] - parts["loading model and data"])}


def _quick_look(sizes: Sizes) -> Result:
    """Time the preset "quick look" with one seed and two arms."""
    return _two_arms(sizes, PRESETS["quick look"].training)


def _two_arms(sizes: Sizes, training: Callable[[ModelSettings], TrainingSettings]) -> Result:
    asked = _study(sizes)
    data = asked.data.model_copy(update={"held_out_share": 0.2})
    return _time_study(asked.model_copy(update={"data": data, "training": training(asked.model)}))


def _time_study(study: StudySettings) -> Result:
    """Run a study and return the duration in seconds, including loading, in total and by phase.

    Raises:
        AssertionError: If the study does not finish.
    """
    parts: Result = {}
    with tempfile.TemporaryDirectory() as folder:
        record = create(study, owner="", folder=Path(folder) / "study")
        began = before = time.perf_counter()
        for event in run_study(record, Limits(), _never):
            now = time.perf_counter()
            name = PHASES.get(event["event"], str(event["event"]))
            parts[name], before = parts.get(name, 0.0) + now - before, now
    if event["event"] != "finished":
        raise AssertionError(event["message"])
    return {"seconds": before - began, "parts": parts}


PHASES: dict[Any, str] = {
    "started": "loading model and data",
    "step": "training",
    "evaluated": "held-out and training loss",
    "saved": "saving",
    "measured": "final measures",
    "answered": "answers",
    "finished": "saving",
}
"""Phase of a study that ends with an event, by the kind of the event."""


def _control_difference(sizes: Sizes) -> Result:
    """Return the largest difference in loss between the control and a plain PEFT loop.

    Both train in float32 on the shortest rows. The lab trains a noise arm at the same time.
    """
    study, loaded, whole = ready(replace(sizes, precision="float32"), steps=sizes.steps)
    prepared: Any = SimpleNamespace(train=sorted(whole.train, key=lambda row: row.length)[:SHORTEST], held_out=[])
    run = lockstep(study, loaded, prepared, study.arms)
    initial = {name: module.down[1].detach().clone() for name, module in run.stack.adapted.items()}  # type: ignore[attr-defined]
    events = [run.step(step, rate_at(step.number, run.total, study.training), _never) for step in run.steps()]
    losses = [event["arms"]["control"]["loss"] for event in events]
    references = peft_losses(study, loaded, prepared, initial)
    largest = max(abs(loss - reference) for loss, reference in zip(losses, references, strict=True))
    return {"steps": len(losses), "largest": largest, "first": losses[0], "last": losses[-1]}


def _never() -> bool:
    return False


def _profile(sizes: Sizes) -> Result:
    """Return the shares of the 12 slowest operations in the time of a LoRA epoch, largest first."""
    study, loaded, prepared = ready(sizes)
    train_seconds(lockstep(study, loaded, _first_batch(prepared), {"alpha-5": ARMS["alpha-5"]}))
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if loaded.device.type == "cuda" else [])
    with profiled(activities=kinds) as trace:
        train_seconds(lockstep(study, loaded, prepared, {"alpha-5": ARMS["alpha-5"]}))
    averages: Any = trace.key_averages()
    times = {event.key: float(event.self_device_time_total or event.self_cpu_time_total) for event in averages}
    whole = sum(times.values())
    largest = sorted(times, key=lambda name: -times[name])[:12]
    return {"share": {name: times[name] / whole for name in largest}}


SIDES: dict[str, Callable[[Sizes], Result]] = {
    "lora": _one_arm,
    "full": partial(_one_arm, method="full", learning_rate=FULL_RATE),
    "peak": _peak,
    "arms": _arms,
    "answers": _answers,
    "memory_of_one": partial(_peak_memory, count=1),
    "memory_together": partial(_peak_memory, count=5),
    "memory_in_turn": partial(_peak_memory, count=5, arms_at_once="in-turn"),
    "study": _bundled_study,
    "usual": _default_study,
    "quick": _quick_look,
    "control": _control_difference,
    "profile": _profile,
}


def print_side(sides: Mapping[str, Callable[[Sizes], Result]]) -> None:
    """Run the measurement that is named on the command line, and print its results."""
    print(json.dumps(sides[sys.argv[1]](Sizes(**json.loads(sys.argv[2])))))


if __name__ == "__main__":
    from neftune_core.models.threads import YieldingWhenBusy

    with YieldingWhenBusy():  # as in a study
        print_side(SIDES)
