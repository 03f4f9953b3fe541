"""Noise: step time of each kind relative to strength 0, memory, previews of the Noise tab, and the length rules."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from neftune_core.bench.matrix import random_rows
from neftune_core.bench.table import ResultTable, seconds_of
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.evaluation.noise_propagation import measure_propagation
from neftune_core.models.architecture import attention
from neftune_core.models.device import choose_device, choose_precision
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.attach import noisy_embeddings
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.preview import Sentence, preview
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import noise_sites
from neftune_core.noise.strength import standard_deviation
from neftune_core.studies.settings import CONTROL, StudySettings

SENTENCE_TOKENS, PREVIEWS = 60, 20
VIEWED_TOKENS, VIEWS = 16, 5
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
    loaded = random_model(size)
    stack = AdapterStack(loaded, 1, rank=8, alpha=16)
    shape = f"{size.rows} rows of {size.length} tokens, {size.layers} layers of width {size.width}"
    table = ResultTable(f"Cost of noise: {shape}, {loaded.precision}")
    for passes in dict.fromkeys(entry.passes for entry in KINDS.values()):
        noises = [_noise_of_kind(kind) for kind, entry in KINDS.items() if entry.passes == passes]
        for noise, row in zip(noises, _relative_step_times(stack, noises, size), strict=True):
            words = f"{noise.kind}, K = {noise.ascent_steps}" if passes == "ascent" else noise.kind
            table.rows.append({"what": f"step with {words}, relative to the step without noise"} | row)
    found = {f"memory of the noise over the embeddings, {n} arms of one kind": _memory(loaded, size, n) for n in (1, 4)}
    previews, views = (
        1000 * seconds_of(_preview_function(size.width), PREVIEWS),
        1000 * seconds_of(_propagation_function(loaded), VIEWS),
    )
    found |= {
        f"the Noise tab's numbers for {SENTENCE_TOKENS} tokens, milliseconds": previews,
        f"Depth and Next word of {VIEWED_TOKENS} tokens, milliseconds": views,
    }
    table.rows += [{"what": what, "value": value} for what, value in found.items()]
    table.notes.append(
        "Ratios are Hodges-Lehmann medians over rounds of steps on the same rows, with 95% Wilcoxon intervals."
    )
    return table


def _noise_of_kind(kind: str) -> NoiseSettings:
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


def _relative_step_times(stack: AdapterStack, noises: Sequence[NoiseSettings], size: Size) -> list[dict[str, Any]]:
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
    ratios = (map(math.exp, hodges_lehmann(side - plain)) for side in noisy)
    return [dict(zip(("value", "95% from", "95% to"), ratio, strict=True)) | shared for ratio in ratios]


def hodges_lehmann(differences: NDArray[np.float64]) -> tuple[float, float, float]:
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
    prepared: Any = SimpleNamespace(train=random_rows(stack.loaded, size.rows, size.length), held_out=[])
    run = Lockstep(StudySettings(training=training), stack, prepared, arms={noise.name: noise})
    steps = run.steps()
    return lambda: run.step(next(steps), training.learning_rate, lambda: False)


def _memory(loaded: LoadedModel, size: Size, arms: int) -> float:
    """Return the memory allocated by adding noise, as a multiple of the float32 size of the vectors."""
    site = noise_sites(loaded.model)[0]
    no_tokens = torch.zeros(size.rows, size.length, dtype=torch.bool)
    keys = [(0, 0, row) for row in range(size.rows)]
    rows = Rows(keys, [size.length] * size.rows, size.length, no_tokens, no_tokens)
    added = [ArmNoise(NoiseSettings(strength=strength)) for strength in range(1, arms + 1)]
    noise = BatchNoise(added, {site.part: rows})
    vectors = torch.zeros(arms * size.rows, size.length, size.width)
    noise.add_to(site, vectors)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, profile_memory=True, acc_events=True) as profile:
        noise.add_to(site, vectors)
    taken: Sequence[int] = [event.self_cpu_memory_usage for event in profile.key_averages()]
    return sum(amount for amount in taken if amount > 0) / (4 * vectors.numel())


def _preview_function(width: int) -> Callable[[], object]:
    clean = np.random.default_rng(0).standard_normal((SENTENCE_TOKENS, width)).astype(np.float32)
    tokens = [str(number) for number in range(SENTENCE_TOKENS)]
    sentence = Sentence(tokens, clean, np.zeros(SENTENCE_TOKENS, dtype=np.bool_))
    return lambda: preview(sentence, seed=0)


def _propagation_function(loaded: LoadedModel) -> Callable[[], object]:
    """Warm up with one call, then return a function that measures the propagation of noise at six strengths."""
    strengths = [5.0, 10.0, 15.0, 30.0, 60.0, 100.0]
    ids = np.random.default_rng(0).integers(0, loaded.vocabulary, VIEWED_TOKENS).tolist()
    measure_propagation(loaded, ids, NoiseSettings(), strengths)
    return lambda: measure_propagation(loaded, ids, NoiseSettings(), strengths)


ALPHA, WIDTH = 5.0, 576
VOCABULARY, SEED = 256, 0


@dataclass(frozen=True)
class PackedBatch:
    """A batch that consists of one row of packed documents.

    Attributes:
        words: Description for the table.
        documents: Length of each document, in tokens.
        length: Length of the row with padding, in tokens.
    """

    words: str
    documents: tuple[int, ...]
    length: int


LAYOUTS = (
    PackedBatch("64 tokens padded to 512", (64,), 512),
    PackedBatch("8 documents of 256 tokens packed in one row", (256,) * 8, 2048),
)

CONSTANT = standard_deviation(ALPHA, "alpha", LAYOUTS[0].documents[0], WIDTH)
"""Constant standard deviation for comparison, as given by `ALPHA` at 64 tokens."""

Rule = tuple[Callable[[Any], AbstractContextManager[Any]], Callable[[PackedBatch], float]]
"""A context manager that adds noise to a model, and the formula of its standard deviation."""


def _ours(model: Any, **settings: Any) -> AbstractContextManager[Any]:
    return noisy_embeddings(model, NoiseSettings(**settings), seed=SEED)


@contextmanager
def trainer_hook(model: Any, alpha: float = 50.0) -> Iterator[None]:
    """Apply the noise hook that transformers' `Trainer` uses for `neftune_noise_alpha`.

    Args:
        model: A transformers model in training mode; its embedding gets the hook.
        alpha: Noise strength.

    Yields:
        Nothing; the hook is active inside the block.
    """
    from transformers.integrations.neftune import activate_neftune, deactivate_neftune

    handle = activate_neftune(model, neftune_noise_alpha=alpha)
    try:
        yield
    finally:
        deactivate_neftune(model, handle)


def _deviation(length: int) -> float:
    return standard_deviation(ALPHA, "alpha", length, WIDTH)


RULES: dict[str, Rule] = {
    "true length (the paper's code)": (partial(_ours, strength=ALPHA), lambda row: _deviation(row.documents[0])),
    "padded length": (partial(_ours, strength=ALPHA, length_rule="padded"), lambda row: _deviation(row.length)),
    "the common trainer hook itself": (partial(trainer_hook, alpha=ALPHA), lambda row: _deviation(row.length)),
    "constant standard deviation": (partial(_ours, strength=CONSTANT, unit="std"), lambda row: CONSTANT),
}


def length_rules_table() -> ResultTable:
    """Return the standard deviation of one noise coordinate under each rule, measured and by formula."""
    table = ResultTable(f"Length rules at alpha {ALPHA:g}, width {WIDTH}")
    size = Size(vocabulary=VOCABULARY, width=WIDTH, inner=WIDTH, layers=1, key_value_heads=9)
    model = random_model(size, torch.device("cpu"), "float32").model.train()  # only its embedding matters
    for layout in LAYOUTS:
        for words, (noise, formula) in RULES.items():
            on_tokens, on_padding = _measured_noise(model, layout, noise)
            table.rows.append(
                {
                    "batch": layout.words,
                    "rule": words,
                    "standard deviation of a coordinate": on_tokens,
                    "by the formula": formula(layout),
                    "on padding": on_padding,
                }
            )
    table.notes.append(f"The constant is the deviation of alpha {ALPHA:g} at {LAYOUTS[0].documents[0]} tokens.")
    return table


def _measured_noise(
    model: Any, layout: PackedBatch, noise: Callable[[Any], AbstractContextManager[Any]]
) -> tuple[float, float | str]:
    """Return the standard deviation of the noise that reaches the first layer, on tokens and on padding."""
    ids = torch.arange(layout.length)[None] % VOCABULARY
    true = torch.arange(layout.length)[None] < sum(layout.documents)
    padding = layout.length - sum(layout.documents)
    positions = torch.cat([torch.arange(length) for length in (*layout.documents, padding)])[None]
    seen: list[torch.Tensor] = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]), noise(model):
        torch.manual_seed(SEED)  # for the trainer's hook, which uses the global generator
        handle = model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        try:
            model(input_ids=ids, attention_mask=true.long(), position_ids=positions, use_cache=False)
        finally:
            handle.remove()
        added = seen[0] - torch.nn.functional.embedding(ids, model.get_input_embeddings().weight)
    return float(added[true].std()), float(added[~true].std()) if padding else "no padding"
