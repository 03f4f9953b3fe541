"""Trials of a loaded model: short runs that check the assumptions of the engine, regardless of the model's class.

The engine applies the adapters of all arms in one pass, computes the logits itself, and pads on the right without a
mask. A model for which one of these would give wrong results is refused before training.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from neftune_core.errors import ModelError
from neftune_core.language import later, say
from neftune_core.models.architecture import anatomy
from neftune_core.models.architecture.module_trees import private_tree
from neftune_core.noise.kinds import EMBEDDING_SITE
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import family_of, hooks_on, noise_sites
from neftune_core.sentences import cause

if TYPE_CHECKING:
    import torch
    from torch import nn

CHANGES = later("{name} ({kind}) changes its weights while it runs: choose another model.")
FAULTS = (AttributeError, TypeError, RuntimeError, ValueError, NotImplementedError, IndexError)
"""Exceptions that a model raises if it cannot run the way the engine calls it."""


class DoesNotRun(ModelError):
    """Raised if a model fails in a trial run."""


def require_supported(model: nn.Module, name: str, precision: str) -> None:
    """Check that the engine supports a model, and exclude the linear modules that adapters cannot reach.

    Args:
        model: The model, in evaluation mode.
        name: Its name, for error messages.
        precision: dtype of its weights, for error messages.

    Raises:
        DoesNotRun: If a trial run failed.
        ModelError: If the results of the engine would be wrong.
        NoEffect: If noise would not reach its output.
    """
    from neftune_core.noise.attach import noisy_embeddings

    kind = family_of(model)
    versions = [parameter._version for parameter in model.parameters()]

    def changed() -> bool:
        return versions != [parameter._version for parameter in model.parameters()]

    try:
        refused = _refusal(model)
    except FAULTS as error:
        if changed():
            raise ModelError(say(CHANGES, name=name, kind=kind)) from error
        words = later(
            "{name} ({kind}) fails when it is run in {precision} ({fault}): choose another precision or another model."
        )
        raise DoesNotRun(say(words, name=name, kind=kind, precision=precision, fault=cause(error))) from error
    if changed():
        refused = CHANGES
    if refused is not None:
        raise ModelError(say(refused, name=name, kind=kind))
    with noisy_embeddings(private_tree(model), NoiseSettings(strength=1.0, unit="std")):
        pass


def _refusal(model: nn.Module) -> str | None:
    """Return an error message with placeholders `name` and `kind` if the engine cannot use `model`, otherwise None."""
    if not (anatomy.linear_maps(model, "all") and anatomy.all_layers(model) and anatomy.head_matches(model)):
        return later("The lab does not support how {name} ({kind}) computes its logits: choose another model.")
    unreached = unreached_maps(model)
    if len(unreached) == len(anatomy.linear_maps(model, "all")) or not keeps_rows_separate(model):
        return later(
            "{name} ({kind}) does not process the rows of a batch independently of each other: choose another model."
        )
    anatomy.leave_out(model, unreached)
    if anatomy.reads_ahead(model):
        return later("{name} ({kind}) attends to later tokens: choose a causal model.")
    if not has_gradient(private_tree(model)):
        return later(
            "{name} ({kind}) passes no gradient to its embedding, so it cannot be trained: choose another model."
        )
    return None


def unreached_maps(model: nn.Module) -> list[str]:
    """Return the linear modules that an adapter cannot reach.

    Stacked adapters identify arms by their position on the first axis. A module that is never called, because the
    model uses its weights directly (Mamba), has no input to adapt. A module that receives another layout (LED) or only
    some of the tokens (experts as modules) would apply the adapter of the wrong arm. This is tested on one row in
    evaluation mode, and on two in training mode.

    Raises:
        ModelError: If the layers have no linear modules.
    """
    import torch

    tree = private_tree(model)
    with anatomy.trial_ids(tree) as ids:
        alone = _map_inputs(tree, ids)
        tree.train()
        both = _map_inputs(tree, torch.cat([ids, ids.flip(1)]))
    return [
        name
        for name in anatomy.linear_maps(tree, "all")
        if _is_fused(tree, name) or name not in alone or name not in both or not _begins_with(both[name], alone[name])
    ]


def _is_fused(tree: nn.Module, name: str) -> bool:
    """Return whether Mamba's GPU kernels use the weights of a module without calling it; PEFT refuses such modules."""
    parent, _, leaf = name.rpartition(".")
    mixer = tree.get_submodule(parent)
    return leaf == "out_proj" and hasattr(mixer, "conv1d") and hasattr(mixer, "D")


def _map_inputs(tree: nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the input of every linear module in a pass over `ids`, as rows `[..., inputs]`, by name."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Store the input of a module; a forward pre-hook.

        Args:
            name: Name of the module.
            module: The module.
            args: Its positional arguments.
        """
        found[name] = args[0].reshape(-1, args[0].shape[-1]).float()

    names = anatomy.linear_maps(tree, "all")
    with hooks_on(tree.get_submodule(name).register_forward_pre_hook(partial(keep, name)) for name in names):
        anatomy.trial_logits(tree, ids)
    return found


def _begins_with(both: torch.Tensor, alone: torch.Tensor) -> bool:
    """Return whether the first of two rows equals the same row run alone, within 1% of its largest entry."""
    if len(both) != 2 * len(alone):
        return False
    return bool((both[: len(alone)] - alone).abs().max() <= 0.01 * alone.abs().max())


def keeps_rows_separate(model: nn.Module) -> bool:
    """Return whether the logits of a row are independent of other rows in the batch, within 1% of the largest."""
    import torch

    with anatomy.trial_ids(model) as ids:
        alone = anatomy.trial_logits(model, ids)
        both = anatomy.trial_logits(model, torch.cat([ids, ids.flip(1)]))
    return _begins_with(both, alone)


def has_gradient(tree: nn.Module) -> bool:
    """Return whether a finite, non-zero gradient reaches every embedding of `tree`; hooks are left on `tree`."""
    import torch

    reached: list[torch.Tensor] = []

    def begin(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        """Begin the computation of gradients at an output; a forward hook.

        Args:
            module: The module that has run.
            args: Its positional arguments.
            output: Its output.

        Returns:
            The output as a leaf that requires a gradient.
        """
        reached.append(output.detach().requires_grad_())
        return reached[-1]

    embeddings = {site.module: None for site in noise_sites(tree) if site.number == EMBEDDING_SITE}
    for module in embeddings:
        module.register_forward_hook(begin)
    with anatomy.trial_ids(tree) as ids, torch.enable_grad():
        tree.train()
        anatomy.trial_logits(tree, ids).logsumexp(-1).sum().backward()
    found = [vectors.grad for vectors in reached]
    return bool(found) and all(one is not None and bool(one.isfinite().all()) and bool(one.any()) for one in found)
