"""Cost of noise: step time of each kind relative to strength 0, memory, and previews of the Noise tab."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.bench.matrix import random_rows
from neftune_core.bench.table import ResultTable, seconds_of
from neftune_core.engine.settings import TrainingSettings
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.settings import CONTROL, StudySettings

if TYPE_CHECKING:
    import torch

    from neftune_core.engine.stack import AdapterStack
    from neftune_core.models.loading import LoadedModel

SENTENCE_TOKENS, PREVIEWS = 60, 20
FOLLOWED_TOKENS, FOLLOWED = 16, 5
WARM_ROUNDS, FEWEST_ROUNDS, MOST_ROUNDS = 2, 8, 500


@dataclass(frozen=True)
class Size:
    """Shape of a random Llama and of a batch, and the measuring time.

    Attributes:
        inner: Hidden width of the feed-forward layers.
        rows: Rows per batch.
        length: Tokens per row; the second half is trained on.
        seconds_per_kind: Target measuring time per kind of noise, in seconds.
    """

    vocabulary: int = 49_152
    width: int = 576
    inner: int = 1536
    layers: int = 30
    heads: int = 9
    key_value_heads: int = 3
    rows: int = 1
    length: int = 64
    seconds_per_kind: float = 100.0


SMOLLM2_135M = Size()
"""The shape of SmolLM2-135M, whose head is tied to the embeddings."""


def measure_noise(size: Size = SMOLLM2_135M) -> ResultTable:
    """Measure the relative step time of each kind of noise, the memory of noise, and the Noise tab's previews."""
    from neftune_core.engine.stack import AdapterStack

    loaded = random_model(size)
    stack = AdapterStack(loaded, 1, rank=8, alpha=16)
    shape = f"{size.rows} rows of {size.length} tokens, {size.layers} layers of width {size.width}"
    table = ResultTable(f"Cost of noise: {shape}, {loaded.precision}")
    for passes in dict.fromkeys(entry.passes for entry in KINDS.values()):
        noises = [_loud(kind) for kind, entry in KINDS.items() if entry.passes == passes]
        for noise, row in zip(noises, _ratios(stack, noises, size), strict=True):
            words = f"{noise.kind}, K = {noise.ascent_steps}" if passes == "ascent" else noise.kind
            table.rows.append({"what": f"step with {words}, relative to the step without noise"} | row)
    found = {f"memory of the noise over the embeddings, {n} arms of one kind": _memory(loaded, size, n) for n in (1, 4)}
    previews, views = (
        1000 * seconds_of(_previewing(size.width), PREVIEWS),
        1000 * seconds_of(_following(loaded), FOLLOWED),
    )
    found |= {
        f"the Noise tab's numbers for {SENTENCE_TOKENS} tokens, milliseconds": previews,
        f"Depth and Next word of {FOLLOWED_TOKENS} tokens, milliseconds": views,
    }
    table.rows += [{"what": what, "value": value} for what, value in found.items()]
    table.notes.append(
        "Ratios are Hodges-Lehmann medians over rounds of steps on the same rows, with 95% Wilcoxon intervals."
    )
    return table


def _loud(kind: str) -> NoiseSettings:
    unit, strength = ("share", 0.15) if KINDS[kind].drops else ("alpha", 5.0)
    return NoiseSettings(kind=kind, unit=unit, strength=strength, ascent_steps=2)


def random_model(size: Size, device: torch.device | None = None, precision: str = "auto") -> LoadedModel:
    """Build a Llama with random weights.

    Args:
        size: Shape of the model.
        device: The device; None chooses one automatically.
        precision: Number format, as in the model settings.

    Returns:
        The model.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from neftune_core.models.architecture import attention
    from neftune_core.models.device import choose_device, choose_precision
    from neftune_core.models.loading import LoadedModel

    device = device or choose_device("auto")
    precision = choose_precision(precision, device)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(device, getattr(torch, precision)).eval().requires_grad_(False)
    attention.install(model)
    tokenizer: Any = SimpleNamespace(pad_token_id=0, eos_token_id=None, all_special_ids=[])
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="random",
        name="random weights",
        licence="none",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        width=size.width,
        layers=size.layers,
        vocabulary=size.vocabulary,
        context=config.max_position_embeddings,
        device=device,
        precision=precision,
    )


def _ratios(stack: AdapterStack, noises: Sequence[NoiseSettings], size: Size) -> list[dict[str, Any]]:
    """Return the relative step time of each of `noises`; every round has one step of each, in random order."""
    training = TrainingSettings(steps=MOST_ROUNDS, batch_size=size.rows, learning_rate=1e-5)
    sides = [_stepper(stack, training, size, arm) for arm in (CONTROL, *noises)]
    rounds: list[NDArray[np.float64]] = []
    shuffling, started = np.random.default_rng(0), time.perf_counter()
    while len(rounds) < MOST_ROUNDS:
        seconds = np.empty(len(sides))
        for side in shuffling.permutation(len(sides)):
            seconds[side] = seconds_of(sides[side])
        rounds.append(np.log(seconds))
        over = time.perf_counter() - started > size.seconds_per_kind * len(noises)
        if over and len(rounds) >= WARM_ROUNDS + FEWEST_ROUNDS:
            break
    plain, *noisy = np.array(rounds[WARM_ROUNDS:]).T
    shared = {"rounds": len(plain), "seconds without": math.exp(np.median(plain))}
    ratios = (map(math.exp, middle_of(side - plain)) for side in noisy)
    return [dict(zip(("value", "95% from", "95% to"), ratio, strict=True)) | shared for ratio in ratios]


def middle_of(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the Hodges-Lehmann estimate of the median of `differences`, and its 95% Wilcoxon signed-rank interval.

    The estimate is robust against a few disturbed measurements. The ranks of the interval come from the normal
    approximation, which is adequate from about eight differences (Hollander and Wolfe, Nonparametric Statistical
    Methods, chapter 3).
    """
    count = len(differences)
    first, second = np.triu_indices(count)
    means = np.sort((differences[first] + differences[second]) / 2)
    spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    rank = max(0, math.floor(count * (count + 1) / 4 - 1.96 * spread))
    return float(np.median(means)), float(means[rank]), float(means[-1 - rank])


def _stepper(stack: AdapterStack, training: TrainingSettings, size: Size, noise: NoiseSettings) -> Callable[[], object]:
    """Return a function that runs the next step of one arm."""
    from neftune_core.engine.lockstep import Lockstep

    prepared: Any = SimpleNamespace(train=random_rows(stack.loaded, size.rows, size.length), held_out=[])
    run = Lockstep(StudySettings(training=training), stack, prepared, arms={noise.name: noise})
    steps = run.steps()
    return lambda: run.step(next(steps), training.learning_rate, lambda: False)


def _memory(loaded: LoadedModel, size: Size, arms: int) -> float:
    """Return the memory allocated by adding noise, as a multiple of the float32 size of the vectors."""
    import torch

    from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows
    from neftune_core.noise.sites import noise_sites

    site = noise_sites(loaded.model)[0]
    nowhere = torch.zeros(size.rows, size.length, dtype=torch.bool)
    keys = [(0, 0, row) for row in range(size.rows)]
    rows = Rows(keys, [size.length] * size.rows, size.length, nowhere, nowhere)
    added = [ArmNoise(NoiseSettings(strength=strength)) for strength in range(1, arms + 1)]
    noise = BatchNoise(added, {site.part: rows})
    vectors = torch.zeros(arms * size.rows, size.length, size.width)
    noise.add_to(site, vectors)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, profile_memory=True, acc_events=True) as profile:
        noise.add_to(site, vectors)
    taken: Sequence[int] = [event.self_cpu_memory_usage for event in profile.key_averages()]
    return sum(amount for amount in taken if amount > 0) / (4 * vectors.numel())


def _previewing(width: int) -> Callable[[], object]:
    from neftune_core.noise.preview import Sentence, preview

    clean = np.random.default_rng(0).standard_normal((SENTENCE_TOKENS, width)).astype(np.float32)
    tokens = [str(number) for number in range(SENTENCE_TOKENS)]
    sentence = Sentence(tokens, clean, np.zeros(SENTENCE_TOKENS, dtype=np.bool_))
    return lambda: preview(sentence, seed=0)


def _following(loaded: LoadedModel) -> Callable[[], object]:
    """Return a function that measures the propagation of noise at six strengths, after a warm-up call."""
    from neftune_core.evaluation.noise_propagation import measure_propagation

    strengths = [5.0, 10.0, 15.0, 30.0, 60.0, 100.0]
    ids = np.random.default_rng(0).integers(0, loaded.vocabulary, FOLLOWED_TOKENS).tolist()
    measure_propagation(loaded, ids, NoiseSettings(), strengths)
    return lambda: measure_propagation(loaded, ids, NoiseSettings(), strengths)
