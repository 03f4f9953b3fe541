"""How noise propagates through a base model, and how it changes the prediction of the next token.

A single batched pass runs the clean sentence, and the sentence with several draws of noise at every strength. After
each layer, a noisy hidden state `h'` is compared with the clean state `h` by `|h' - h| / |h|` and `cos(h', h)`. The
predictions of the next token are compared by `KL(clean || noisy)`, in nats. The draws are those of a study's first
epochs, without the noise schedule.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neftune_core.errors import ModelError
from neftune_core.language import say
from neftune_core.models.architecture.anatomy import body, encoded_source, head_logits
from neftune_core.models.architecture.module_trees import private_tree
from neftune_core.models.loading import LoadedModel
from neftune_core.models.tokenizing import decoding
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows
from neftune_core.noise.kinds import EMBEDDING_SITE
from neftune_core.noise.preview import PADDED_LENGTH
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import (
    DECODER,
    ENCODER,
    Site,
    chosen_sites,
    family_of,
    hooks_on,
    is_encoder_decoder,
    noise_sites,
)

DRAWS = 4
"""Draws per strength; the preview of the sentence shows the first."""

CANDIDATES = 10
"""Number of most probable next tokens reported per position."""

ANSWER_TOKENS = 12
"""Maximum length, in tokens, of the clean answer that an encoder-decoder generates to compare predictions."""

HEAD_ROWS = 256
"""Maximum number of hidden states passed to the head at once."""

Numbers = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Layer:
    """A layer of one component of a model.

    Attributes:
        part: `ENCODER` or `DECODER`.
        number: 0 for the embedding; layers are numbered from 1 in each component.
    """

    part: str
    number: int


@dataclass(frozen=True, eq=False)
class Depth:
    """The relative perturbation after every layer.

    Values are NaN if layer and token belong to different components of an encoder-decoder, or the clean vector is zero.

    Attributes:
        layers: The embedding and the layers of each component, in the order in which they run.
        sizes: `|h' - h| / |h|`, `[strengths, draws, layers, tokens]`.
        cosines: `cos(h', h)`, of the same shape.
    """

    layers: Sequence[Layer]
    sizes: Numbers
    cosines: Numbers


@dataclass(frozen=True, eq=False)
class Predictions:
    """Clean and noisy predictions of the next token; divergences and entropies are in nats.

    Attributes:
        first: Index of the first token with a prediction: 0, or the number of tokens of the encoder.
        divergences: `KL(clean || noisy)`, `[strengths, draws, positions]`.
        entropies: Entropy of the noisy prediction, of the same shape.
        clean_entropies: Entropy of the clean prediction, `[positions]`.
        kept: Whether the most probable token is the same as in the clean prediction, bool, shaped like `divergences`.
        candidates: Most probable ids: clean, then in the first draws, `[1 + strengths, positions, candidates]`.
        probabilities: Their probabilities, of the same shape.
    """

    first: int
    divergences: Numbers
    entropies: Numbers
    clean_entropies: Numbers
    kept: NDArray[np.bool_]
    candidates: Ids
    probabilities: Numbers


@dataclass(frozen=True, eq=False)
class Propagation:
    """How noise propagates through a model, at several strengths.

    Attributes:
        ids: Token ids, those of the encoder before those of the decoder.
        strengths: Strengths, in the order of the results.
        depth: The perturbation after every layer.
        predictions: The predictions of the next token.
    """

    ids: list[int]
    strengths: Sequence[float]
    depth: Depth
    predictions: Predictions


def measure_propagation(
    loaded: LoadedModel, ids: Sequence[int], noise: NoiseSettings, strengths: Sequence[float], seed: int = 0
) -> Propagation:
    """Run a sentence without noise and at every strength, in one batch.

    As in the preview, an adversarial kind uses its initial draw, and a symmetric pair its positive half. If only the
    prompt or the response gets noise, the whole sentence of a causal model is treated as that part.

    Args:
        loaded: The model.
        ids: Token ids of the sentence.
        noise: Kind, unit, tokens and sites of the noise.
        strengths: Strengths above 0, in the unit of `noise`.
        seed: Seed of the draws.

    Returns:
        The perturbations and the predictions.

    Raises:
        InvalidSetting: If the model lacks a site of `noise`.
        ModelError: If a layer does not output one vector per token.
    """
    tree = private_tree(loaded.model).eval()
    sites = noise_sites(tree)
    numbers = sorted({site.number for site in chosen_sites(tree, noise)})
    with torch.inference_mode():
        texts = _texts(tree, torch.tensor([list(ids)], device=loaded.device), loaded.tokenizer.eos_token_id)
        arms = [ArmNoise(noise.with_strength(strength), numbers) for strength in strengths]
        special = loaded.tokenizer.all_special_ids
        responses = {part: part == DECODER if ENCODER in texts else noise.tokens == "response" for part in texts}
        rows = {part: _rows(text, responses[part], special, seed) for part, text in texts.items()}
        batch = {part: text.expand(1 + len(arms) * DRAWS, -1) for part, text in texts.items()}
        probe = _PropagationProbe(tree, _NoiseAfterFirstRow(arms, rows), batch)
        with probe.attached(sites):
            source = _encoder_states(tree, batch[ENCODER]) if ENCODER in batch else {}
            hidden = body(tree)(input_ids=batch[DECODER], use_cache=False, **source).last_hidden_state
        lengths = {part: text.shape[1] for part, text in texts.items()}
        predictions = _predictions(tree, hidden, len(arms), first=sum(lengths.values()) - lengths[DECODER])
    tokens = [token for text in texts.values() for token in text[0].tolist()]
    return Propagation(tokens, list(strengths), _depth(sites, probe.seen, lengths, len(arms)), predictions)


class _NoiseAfterFirstRow(BatchNoise):
    """Noise on all rows of a batch except the first."""

    def add_to(self, site: Site, vectors: Tensor) -> Tensor:
        """Add the noise in place.

        Args:
            site: The site that outputs `vectors`.
            vectors: `[rows, length, width]`; the first row is clean.

        Returns:
            `vectors`.
        """
        super().add_to(site, vectors[1:])  # in place, since nothing here has a gradient
        return vectors


def _texts(tree: nn.Module, ids: Tensor, end: int | None) -> dict[str, Tensor]:
    """Return the tokens of each component, `[1, length]`; in an encoder-decoder, the decoder's are a greedy answer."""
    if not is_encoder_decoder(tree):
        return {DECODER: ids}
    source, habits = _encoder_states(tree, ids), decoding(tree)
    answer = ids.new_tensor([[token for token in (habits.start, habits.first) if token is not None]])
    while answer.shape[1] < ANSWER_TOKENS:
        hidden = body(tree)(input_ids=answer, use_cache=False, **source).last_hidden_state
        following = head_logits(tree, hidden[:, -1]).argmax(-1, keepdim=True)
        if int(following) == end:
            break
        answer = torch.cat([answer, following], dim=1)
    return {ENCODER: ids, DECODER: answer}


def _rows(text: Tensor, is_response: bool, special: Sequence[int], seed: int) -> Rows:
    """Return the batch rows of one strength: the same text, with the draws of a study's first epochs."""
    repeated = text.expand(DRAWS, -1)
    length = text.shape[1]
    return Rows(
        keys=[(seed, epoch, 0) for epoch in range(DRAWS)],
        lengths=[length] * DRAWS,
        longest=max(length, PADDED_LENGTH),
        response=torch.full_like(repeated, is_response, dtype=torch.bool),
        special=torch.isin(repeated, repeated.new_tensor(list(special))),
    )


def _encoder_states(tree: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """Return the decoder's extra inputs, for texts without padding."""
    return encoded_source(tree, ids, torch.ones_like(ids))


# ---------------------------------------------------------------------------------------------- hidden states
@dataclass(frozen=True, eq=False)
class _PropagationProbe:
    """Hooks that add noise at every site of a tree, and store the result of `_compare` by site key in `seen`."""

    tree: nn.Module
    noise: BatchNoise
    batch: Mapping[str, Tensor]
    seen: dict[int, Tensor] = field(default_factory=dict)

    @contextmanager
    def attached(self, sites: Sequence[Site]) -> Iterator[None]:
        """Register the hooks of these sites for the duration of the block."""
        by_module: dict[nn.Module, list[Site]] = {}
        for site in sites:  # of a shared embedding, the encoder runs first
            by_module.setdefault(site.module, []).append(site)
        hooks = {module: functools.partial(self._after, iter(here)) for module, here in by_module.items()}
        with hooks_on(module.register_forward_hook(hook) for module, hook in hooks.items()):
            yield

    def _after(self, here: Iterator[Site], module: nn.Module, args: Any, output: Any) -> Any:
        site = next(here)
        vectors = output[0] if isinstance(output, tuple) else output
        if vectors.dim() != 3 or vectors.shape[:2] != self.batch[site.part].shape:
            raise ModelError(
                say(
                    "The effect of noise inside {model} cannot be measured: one of its layers does not output one "
                    "vector per token. Choose another model.",
                    model=family_of(self.tree),
                )
            )
        noisy = self.noise.add_to(site, vectors)
        self.seen[site.key] = _compare(noisy)
        return (noisy, *output[1:]) if isinstance(output, tuple) else noisy


def _compare(vectors: Tensor) -> Tensor:
    """Return the relative difference and the cosine between each later row and the first, `[2, rows - 1, length]`."""
    clean, noisy = vectors[:1].float(), vectors[1:].float()
    before, after = (torch.linalg.vector_norm(each, dim=-1) for each in (clean, noisy))
    sizes = torch.linalg.vector_norm(noisy - clean, dim=-1) / before
    cosines = (noisy * clean).sum(-1) / (before * after)
    return torch.stack([sizes, cosines.clamp(-1, 1)])


def _depth(sites: Sequence[Site], seen: dict[int, Tensor], lengths: dict[str, int], strengths: int) -> Depth:
    """Arrange the comparisons by layer and token; encoder tokens come first.

    Sites before the embedding (per-layer tables) are omitted: their noise shows in the layers that use them.
    """
    sites = [site for site in sites if site.number >= EMBEDDING_SITE]
    total = sum(lengths.values())
    found = np.full((2, strengths, DRAWS, len(sites), total), np.nan, dtype=np.float32)
    for index, site in enumerate(sites):
        start = total - lengths[DECODER] if site.part == DECODER else 0
        numbers = seen[site.key].unflatten(1, (strengths, DRAWS)).cpu().numpy()
        found[:, :, :, index, start : start + lengths[site.part]] = numbers
    found[~np.isfinite(found)] = np.nan
    first = {part: min(site.number for site in sites if site.part == part and site.number) - 1 for part in lengths}
    layers = [Layer(site.part, site.number and site.number - first[site.part]) for site in sites]
    return Depth(layers, found[0], found[1])


# ---------------------------------------------------------------------------------------------- next token
def _predictions(tree: nn.Module, hidden: Tensor, strengths: int, first: int) -> Predictions:
    """Compare the predictions at every position, running the head on a few positions at a time."""
    rows = len(hidden)
    pieces = hidden.transpose(0, 1).split(max(1, HEAD_ROWS // rows))
    by_position = [
        _compare_predictions(logits)
        for piece in pieces
        for logits in head_logits(tree, piece.flatten(0, 1)).unflatten(0, (-1, rows))  # 2-D input: far faster
    ]
    divergences, entropies, kept, candidates, probabilities = (
        torch.stack(values, dim=1).cpu().numpy() for values in zip(*by_position, strict=True)
    )
    shape = (strengths, DRAWS, hidden.shape[1])
    return Predictions(
        first=first,
        divergences=divergences[1:].reshape(shape),
        entropies=entropies[1:].reshape(shape),
        clean_entropies=entropies[0],
        kept=kept[1:].reshape(shape),
        candidates=candidates,
        probabilities=probabilities,
    )


def _compare_predictions(logits: Tensor) -> tuple[Tensor, ...]:
    """Compare each row's prediction at one position with the first row's; logits are `[rows, vocabulary]`.

    Return the divergence, the entropy, and whether the most probable token is the same, `[rows]` each; then the ids and
    probabilities of the most probable tokens of the first row and of the first draw of each strength.
    """
    scores = torch.log_softmax(logits.float(), dim=-1)
    chances = scores.exp()
    gains = scores @ chances[0]
    entropies = -(chances * scores).sum(-1)
    best = scores.argmax(-1)
    shown = [0, *range(1, len(scores), DRAWS)]
    most, ids = chances[shown].topk(min(CANDIDATES, scores.shape[1]))
    return (gains[0] - gains).clamp(min=0), entropies, best == best[0], ids, most


# ---------------------------------------------------------------------------------------------- for the browser
def payload(found: Propagation, texts: Sequence[str], word: Callable[[int], str]) -> dict[str, Any]:
    """Convert the result to numbers for the browser. Sizes, cosines and entropies are averaged over the draws.

    Args:
        found: The result.
        texts: Text of each token of `found.ids`.
        word: Returns the text of a token id.

    Returns:
        `strengths`, `draws`, `tokens`, `layers` (part and number), and

        * `depth`: `sizes` and `cosines`, `[strengths][layers][tokens]`, and `lines`: their means over the tokens,
          `[strengths][layers]`, as `mean`, `low` and `high` over the draws.
        * `next`: `first` (see `Predictions`), `divergence` (`mean`, `low`, `high`), `entropy`, `clean_entropy`, `kept`
          (number of draws in which the most probable token is the same as without noise), `words`, and `candidates`
          of the first draw: for each strength (0 first) and position, a flat list of indices in `words`, each followed
          by its probability.
    """
    depth, predictions = found.depth, found.predictions
    words: dict[int, int] = {}
    candidates = [
        [_flat(words, *position) for position in zip(ids.tolist(), chances.tolist(), strict=True)]
        for ids, chances in zip(predictions.candidates, predictions.probabilities, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # cells without a value
        sizes, cosines = (np.nanmean(numbers, axis=1) for numbers in (depth.sizes, depth.cosines))
        lines = {name: _spread(np.nanmean(getattr(depth, name), axis=3)) for name in ("sizes", "cosines")}
    return {
        "strengths": list(found.strengths),
        "draws": DRAWS,
        "tokens": list(texts),
        "layers": [[layer.part, layer.number] for layer in depth.layers],
        "depth": {"sizes": _digits(sizes), "cosines": _digits(cosines), "lines": lines},
        "next": {
            "first": predictions.first,
            "divergence": _spread(predictions.divergences),
            "entropy": _digits(predictions.entropies.mean(axis=1)),
            "clean_entropy": _digits(predictions.clean_entropies),
            "kept": predictions.kept.sum(axis=1).tolist(),
            "words": [word(number) for number in words],
            "candidates": candidates,
        },
    }


def _flat(words: dict[int, int], ids: list[int], chances: list[float]) -> list[float]:
    """Return the index in `words` and the probability of each candidate, in one list; add new ids to `words`."""
    return [
        number
        for token, chance in zip(ids, chances, strict=True)
        for number in (words.setdefault(token, len(words)), _round(chance))
    ]


def _spread(numbers: Numbers) -> dict[str, Any]:
    """Return the mean, minimum and maximum over the draws (the second axis)."""
    return {
        "mean": _digits(numbers.mean(axis=1)),
        "low": _digits(numbers.min(axis=1)),
        "high": _digits(numbers.max(axis=1)),
    }


def _digits(numbers: Numbers) -> Any:
    """Return nested lists of numbers with four significant digits; None for NaN."""
    if numbers.ndim:
        return [_digits(part) for part in numbers]
    return None if np.isnan(numbers) else _round(float(numbers))


def _round(number: float) -> float:
    return float(f"{number:.4g}")
