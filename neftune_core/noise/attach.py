"""Embedding noise for any model, in any training loop, and the check that it changes the output.

Example:
    with noisy_embeddings(trainer.model, NoiseSettings(strength=5)):
        trainer.train()
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neftune_core.errors import InvalidSetting, NoEffect
from neftune_core.language import later, say
from neftune_core.noise.hooks import Call, CallTracker, Documents
from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, STEP_MODES
from neftune_core.noise.schedules import SCHEDULES, multipliers
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import (
    Site,
    chosen_sites,
    family_of,
    hooks_on,
    is_encoder_decoder,
    require_one_stream,
    unwrap_model,
)
from neftune_core.noise.strength import standard_deviation
from neftune_core.randomness import Purpose, stream


@dataclass(frozen=True)
class LiveNoise:
    """Noise in a training loop that the lab does not control.

    A draw depends on `key`, the call number, the site, the row and the document within the row. If `names` is given,
    the draw depends on the name of the row, the site and the document instead, as in the lab's own engine.

    Attributes:
        key: Seed and rank.
        multipliers: Noise schedule, one value per training call; the last value applies to all later calls.
        names: Returns one `(study seed, epoch, example)` per row of the current call.
    """

    settings: NoiseSettings
    key: tuple[int, int]
    multipliers: Sequence[float]
    special: Sequence[int] = ()
    names: Callable[[], Sequence[tuple[int, int, int]]] | None = None

    def add_to(self, clean: Tensor, site: Site, call: Call) -> Tensor:
        """Return `clean` with noise, added in float32.

        Args:
            clean: Clean vectors, `[batch, length, width]`.
            site: The site that outputs `clean`.
            call: The current forward call.

        Returns:
            The noisy vectors, with the shape and dtype of `clean`.
        """
        multiplier = self.multipliers[min(call.number, len(self.multipliers)) - 1]
        if multiplier == 0:
            return clean
        require_one_stream(clean)
        batch, length, width = clean.shape
        is_padded = self.settings.length_rule == "padded"  # each row counts as one document
        rows = [[np.arange(length)]] * batch if is_padded else call.documents(site.part, batch, length)
        excluded = self._excluded(site, call, batch, length)
        if KINDS[self.settings.kind].drops:
            draws = np.full((batch, length, 1), math.inf, dtype=np.float32)
            self._draw(draws, rows, (site.key, call.number), factors=None)
            dropped = draws[..., 0] < min(1.0, self.settings.strength * multiplier)
            if excluded is not None:
                dropped &= ~excluded
            return clean.masked_fill(torch.from_numpy(dropped).unsqueeze(-1).to(clean.device), 0)
        noise = np.zeros((batch, length, width), dtype=np.float32)
        self._draw(noise, rows, (site.key, call.number), self._deviations(clean, rows, multiplier))
        if excluded is not None:
            noise[excluded] = 0
        wide = torch.promote_types(clean.dtype, torch.float32)
        return torch.from_numpy(noise).to(clean.device, wide).add_(clean).to(clean.dtype)

    def _excluded(self, site: Site, call: Call, batch: int, length: int) -> NDArray[np.bool_] | None:
        """Return a mask of the tokens excluded by the settings, `[batch, length]`; None if none are."""
        masks: list[NDArray[np.bool_]] = []
        if self.settings.tokens != "all":
            masks.append(~call.side(site.part, self.settings.tokens, batch, length))
        if self.special:
            masks.append(np.isin(call.ids(site.part, batch, length), self.special))
        return np.logical_or.reduce(masks) if masks else None

    def _deviations(self, clean: Tensor, rows: Documents, multiplier: float) -> list[list[float]]:
        """Return the standard deviation of the noise on every document, by row."""
        strength, unit, width = self.settings.strength, self.settings.unit, clean.shape[2]
        norms: NDArray[np.float32] | None = None
        if unit == "relative":
            norms = torch.linalg.vector_norm(clean.detach(), dim=-1, dtype=torch.float32).cpu().numpy()

        def deviation(row: int, positions: NDArray[np.intp]) -> float:
            signal = 1.0 if norms is None else math.sqrt(float(np.square(norms[row, positions]).mean()) / width)
            return multiplier * standard_deviation(strength, unit, len(positions), width, signal)

        return [[deviation(row, positions) for positions in documents] for row, documents in enumerate(rows)]

    def _draw(
        self, out: NDArray[np.float32], rows: Documents, key: tuple[int, int], factors: Sequence[Sequence[float]] | None
    ) -> None:
        """Write the draw of every document to its positions in `out`, multiplied by its factor if `factors` is given.

        `key` is the key of the site and the number of the call.
        """
        names = None if self.names is None else self.names()
        if names is not None and len(names) != len(rows):
            raise InvalidSetting(
                f"The number of names, {len(names)}, is not the batch size, {len(rows)}: return one name per row."
            )
        for row, documents in enumerate(rows):
            for number, positions in enumerate(documents):
                first, last = positions[0], positions[-1] + 1
                contiguous = last - first == len(positions)
                drawn = out[row, first:last] if contiguous else np.empty((len(positions), out.shape[2]), np.float32)
                if names is None:
                    generator = stream(Purpose.LIVE_NOISE, *self.key, *key, row, number)
                else:
                    generator = stream(Purpose.NOISE, *names[row], key[0], *([number] if number else []))
                KINDS[self.settings.kind].draw(generator, drawn)
                if factors is not None:
                    drawn *= np.float32(factors[row][number])
                if not contiguous:
                    out[row, positions] = drawn


# Prefixes of the `*_token_id` fields in model configurations.
SPECIAL_TOKENS = ("bos", "eos", "pad", "cls", "sep", "mask", "unk", "decoder_start", "forced_bos", "forced_eos")


@contextmanager
def noisy_embeddings(
    model: nn.Module,
    settings: NoiseSettings,
    seed: int = 0,
    calls: int | None = None,
    names: Callable[[], Sequence[tuple[int, int, int]]] | None = None,
) -> Iterator[nn.Module]:
    """Add noise at the sites of `settings` while `model` is in training mode.

    Hooks are registered on entry and removed on exit. The length of a sequence is taken from the attention mask of each
    call. If the decoder of an encoder-decoder has no mask, the length is taken from the labels; without either, all
    tokens are real. Packed documents are separated by position ids that restart, or by the boundaries passed to the
    attention. Padding gets noise only under the length rule "padded".

    Draws come from a private generator, so no global random state changes. Unless `names` is given, they differ between
    calls and between ranks. They are repeated exactly when a checkpointed block is recomputed. Each site allocates one
    float32 tensor of the size of its output per call.

    Args:
        model: The model to train.
        settings: Kind, strength, sites and schedule of the noise.
        seed: Seed of the draws.
        calls: Number of training calls of the run (optimizer steps times gradient accumulation steps); required by
            every schedule except "constant". Further calls use the last strength.
        names: Returns one `(study seed, epoch, example)` per row of the current call. Draws then depend on these names
            instead of the call number, as in the lab's own engine, so that a study can be reproduced.

    Yields:
        `model` itself.

    Raises:
        InvalidSetting: If the settings need more than one pass or the loss, `calls` is missing, or the model lacks a
            chosen layer or the special token ids to exclude. Also if `names` does not return one name per row.
        NoEffect: If the noise would not reach the model's output, a call lacks inputs that the settings need, or the
            training loop is not supported (`DataParallel`, activation offloading).
    """
    if settings.is_silent:
        yield model
        return
    _require_single_pass(settings, calls)
    chosen = chosen_sites(model, settings)
    special = () if settings.special_tokens else _special_ids(model)
    steps = 1 if settings.schedule == "constant" else calls or 1
    schedule = multipliers(settings.schedule, steps, point=settings.schedule_point, equal_energy=settings.equal_energy)
    noise = LiveNoise(settings, (seed, _rank()), schedule, special, names)
    require_effect(model, chosen)
    tracker = CallTracker(model, chosen)

    def after_site(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        found = tracker.locate(module, args, kwargs) if module.training else None
        return output if found is None else _with_vectors(output, lambda vectors: noise.add_to(vectors, *found))

    modules = {site.module: None for site in chosen}
    noisy = (module.register_forward_hook(after_site, with_kwargs=True) for module in modules)
    with hooks_on(chain(tracker.register(), noisy)):
        yield model


def _with_vectors(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the output of a module with its vectors (the output, or the first element of a tuple) changed."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def _require_single_pass(settings: NoiseSettings, calls: int | None) -> None:
    """Raise `InvalidSetting` if the settings need more than one pass or the loss, or if `calls` is missing."""
    if extra := STEP_MODES[KINDS[settings.kind].passes].extra:
        raise InvalidSetting(
            f"The kind {settings.kind} needs {extra}, which other training loops do not run: "
            "train with `neftune train`, or choose another kind."
        )
    if SCHEDULES[settings.schedule].multiplier is None:
        raise InvalidSetting(
            f"The schedule {settings.schedule} follows the loss, which is not available here: choose another schedule, "
            "or train with `neftune train`."
        )
    if settings.schedule != "constant" and (calls is None or calls < 1):
        raise InvalidSetting(
            f"The schedule {settings.schedule} needs the length of the run: pass `calls`, the number of training "
            "calls of the model (optimizer steps times gradient accumulation steps)."
        )


def _rank() -> int:
    """Return the rank of this process in distributed training; 0 if it is the only process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))


def _special_ids(model: nn.Module) -> list[int]:
    """Return the special token ids named in the model's configurations.

    Raises:
        InvalidSetting: If there are none.
    """
    inner = unwrap_model(model)
    found: set[int] = set()
    config: Any = getattr(inner, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else None
    for source in (config, text, getattr(inner, "generation_config", None)):
        for name in SPECIAL_TOKENS:
            value = getattr(source, f"{name}_token_id", None)
            found |= set(value if isinstance(value, list | tuple) else [] if value is None else [value])
    if not found:
        raise InvalidSetting(
            f"The configuration of {family_of(inner)} has no special token ids, so they cannot be excluded: "
            "set special_tokens to true."
        )
    return sorted(found)


FIRST_ID, TOKENS = 3, 4
"""First token id and number of tokens: small ids that every vocabulary has, after the usual special tokens."""


def require_effect(model: nn.Module, sites: Sequence[Site]) -> None:
    """Check that noise at the sites changes the output of the model.

    The model runs on four tokens: without noise, with strong noise at each embedding, and with strong noise at all
    layers together.

    Args:
        model: Model to run; the modes of its modules are restored.
        sites: The sites to check.

    Raises:
        NoEffect: If a site is never run or its noise does not change the output; the message names the module.
    """
    embeddings = [[site] for site in sites if site.number <= EMBEDDING_SITE]
    layers = [site for site in sites if site.number > EMBEDDING_SITE]
    clean = _output(model)
    for group in [*embeddings, layers] if layers else embeddings:
        reached: set[nn.Module] = set()
        add, modules = _strong_noise(reached), {site.module: None for site in group}
        with hooks_on(module.register_forward_hook(add) for module in modules):
            noisy = _output(model)
        not_run = [site for site in group if site.module not in reached]
        if not_run or torch.equal(clean, noisy):
            site = (not_run or group)[0]
            words = later(
                "Noise on the {module} of the {part} would not reach the output of {model}: its forward pass does not "
                "use this module. Choose another model."
            )
            module = say("embedding") if site.number <= EMBEDDING_SITE else say("layers")
            raise NoEffect(say(words, module=module, part=site.part, model=family_of(model)))


def _strong_noise(reached: set[nn.Module]) -> Callable[[nn.Module, Any, Any], Any]:
    """Return a hook that adds noise with standard deviation 1 to outputs, and records modules that run in `reached`."""
    generator = torch.Generator().manual_seed(0)

    def add(module: nn.Module, args: Any, output: Any) -> Any:
        """Record the module and add noise to its output; a forward hook.

        Args:
            module: The module that has run.
            args: Its positional arguments.
            output: Its output.

        Returns:
            The noisy output.
        """
        reached.add(module)
        return _with_vectors(output, lambda clean: clean + torch.randn(clean.shape, generator=generator).to(clean))

    return add


def _output(model: nn.Module) -> Tensor:
    """Return the output for four tokens in evaluation mode; the mode of each module is restored."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    ids = torch.arange(FIRST_ID, FIRST_ID + TOKENS, device=device).unsqueeze(0)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if is_encoder_decoder(model):
        inputs["decoder_input_ids"] = ids
    try:
        with torch.no_grad():
            output = model(**inputs)
        return (output if isinstance(output, Tensor) else output[0]).float()
    finally:
        for module, mode in modes.items():
            module.training = mode
