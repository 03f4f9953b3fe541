"""Embedding noise for any model, in any training loop.

Example:
    with noisy_embeddings(trainer.model, NoiseSettings(strength=5)):
        trainer.train()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from neftune_core.errors import InvalidSetting
from neftune_core.noise.hooks import CallTracker
from neftune_core.noise.kinds import KINDS, STEP_MODES
from neftune_core.noise.live import LiveNoise
from neftune_core.noise.probe import require_effect
from neftune_core.noise.schedules import SCHEDULES, multipliers
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import chosen_sites, family_of, hooks_on, unwrap_model

# Prefixes of the `*_token_id` fields in model configurations.
SPECIAL = ("bos", "eos", "pad", "cls", "sep", "mask", "unk", "decoder_start", "forced_bos", "forced_eos")


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
    tokens count. Packed documents are separated by position ids that restart, or by the boundaries passed to the
    attention. Padding gets noise only under the length rule "padded".

    Draws come from a private generator, so no global random state changes. They differ between calls and between ranks,
    and are repeated exactly when a checkpointed block is recomputed. Each site allocates one float32 tensor of the size
    of its output per call.

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
            chosen layer or the special token ids to exclude.
        NoEffect: If the noise would not reach the model's output, or a call lacks the inputs that the settings need.
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
        if found is None:
            return output
        if isinstance(output, tuple):
            return (noise.add_to(output[0], *found), *output[1:])
        return noise.add_to(output, *found)

    modules = {site.module: None for site in chosen}
    noisy = (module.register_forward_hook(after_site, with_kwargs=True) for module in modules)
    with hooks_on(chain(tracker.register(), noisy)):
        yield model


def _require_single_pass(settings: NoiseSettings, calls: int | None) -> None:
    kind = KINDS[settings.kind]
    if extra := STEP_MODES[kind.passes].extra:
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
    """Return the special token ids named in the model's configurations."""
    inner = unwrap_model(model)
    found: set[int] = set()
    config: Any = getattr(inner, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else None
    for holder in (config, text, getattr(inner, "generation_config", None)):
        for name in SPECIAL:
            value = getattr(holder, f"{name}_token_id", None)
            found |= set(value if isinstance(value, list | tuple) else [] if value is None else [value])
    if not found:
        raise InvalidSetting(
            f"The configuration of {family_of(inner)} has no special token ids, so they cannot be excluded: "
            "set special_tokens to true."
        )
    return sorted(found)
