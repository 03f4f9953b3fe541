"""Following the forward calls of a live model: when one begins and ends, and at which site it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from neftune_core.errors import NoEffect
from neftune_core.noise.call_reader import Call, arguments_of
from neftune_core.noise.kinds import EMBEDDING_SITE
from neftune_core.noise.sites import Site, is_encoder_decoder, model_parts, noise_sites, unwrapped


class Listener:
    """What the hooks on a model hear of its calls; `chosen` are the sites that get noise."""

    def __init__(self, model: nn.Module, chosen: Sequence[Site]) -> None:
        parts = model_parts(model)
        self._model = unwrapped(model)
        self._paired = is_encoder_decoder(model)
        self._parts = {inner: part for part, owner in parts.items() for inner in owner.modules()}
        self._first_part = next(iter(parts))
        self._sites: dict[nn.Module, dict[str, Site]] = {}
        for site in noise_sites(model):
            self._sites.setdefault(site.module, {})[site.part] = site
        self._chosen = [(site.part, site.number) for site in chosen]
        self._entries = _entry_points(model)
        self._count = 0
        self._call: Call | None = None
        self._running: list[nn.Module] = []
        self._remembered: dict[tuple[int, int], tuple[StorageWeakRef, Site, Call]] = {}
        self._recomputed: tuple[Site, Call] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy made of a model while it is listened to has hooks that know none of its modules, and do nothing."""
        return self

    def handles(self) -> list[Any]:
        """Put the hooks on; each handle takes one off."""
        handles: list[Any] = []
        for module in self._entries:
            handles.append(module.register_forward_pre_hook(self._before_forward, with_kwargs=True))
            handles.append(module.register_forward_hook(self._after_forward))
        for module, by_part in self._sites.items():
            if any(site.number == EMBEDDING_SITE for site in by_part.values()):
                handles.append(module.register_forward_pre_hook(self._before_embedding, with_kwargs=True))
        return handles

    def at(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Site, Call] | None:
        """The site whose `module` has just run, and the training call that it belongs to; None where there is none.

        In the second run of a checkpointed block it is the call of the first one. Raises `NoEffect` where that
        cannot be told.
        """
        given = _first_tensor(args, kwargs)
        if module not in self._sites or given is None:
            return None
        key = (id(module), given.data_ptr())
        if recomputing():
            site, call = self._recomputed = self._first_run(module, key)
        elif self._call is None or not self._call.number:
            return None
        else:
            site, call = self._site(module, self._call), self._call
            self._remembered[key] = (StorageWeakRef(given.untyped_storage()), site, call)
        return (site, call) if (site.part, site.number) in self._chosen else None

    def _first_run(self, module: nn.Module, key: tuple[int, int]) -> tuple[Site, Call]:
        """Where `module`, which is being recomputed, first ran.

        A checkpointed block begins anew from the very tensor it began from. The sites further on in it are given new
        ones, and follow the site before them.
        """
        remembered = self._remembered.get(key)
        if remembered is not None and not remembered[0].expired():
            return remembered[1:]
        if self._recomputed is not None:
            before, call = self._recomputed
            places = [(site.part, site.number) for site in self._sites[module].values()]
            next_place = self._chosen[self._chosen.index((before.part, before.number)) + 1 :][:1]
            if next_place and next_place[0] in places:
                return self._sites[module][next_place[0][0]], call
        raise NoEffect(
            f"A {type(module).__name__} is recomputed from vectors that were moved after its first run, so that its "
            "noise cannot be told: leave them in place, without offloading of activations."
        )

    def _site(self, module: nn.Module, call: Call) -> Site:
        """An embedding that both parts share belongs to the part that runs."""
        by_part = self._sites[module]
        return by_part.get(call.running) or next(iter(by_part.values()))

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if getattr(module, "_is_replica", False):
            raise NoEffect(
                "Noise cannot follow the copies that torch.nn.DataParallel makes in every call: train on one device, "
                "or with one process a device."
            )
        if recomputing() or module not in self._entries:
            return
        if module in self._running:  # the call before was broken off
            del self._running[self._running.index(module) :]
        if not self._running or self._call is None:
            self._call = self._new_call()
        self._running.append(module)
        self._call.hear(self._parts.get(module, self._first_part), arguments_of(module, args, kwargs))
        if module in self._parts:
            self._call.running = self._parts[module]
            self._call.ran.add(self._call.running)

    def _new_call(self) -> Call:
        """A call that begins; what can no longer be recomputed, because what it began from is gone, is forgotten."""
        self._remembered = {key: found for key, found in self._remembered.items() if not found[0].expired()}
        self._recomputed = None
        training = self._model.training
        self._count += training
        return Call(number=self._count if training else 0, paired=self._paired)

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if recomputing() or module not in self._running:
            return
        del self._running[self._running.index(module) :]
        if self._running or self._call is None:
            return
        call, self._call = self._call, None
        for part in sorted(call.ran - call.reached):
            if call.number and (part, EMBEDDING_SITE) in self._chosen:
                raise NoEffect(
                    f"A training call of {type(module).__name__} went past the embedding of its {part}, so that noise "
                    "could not be added: give the model input_ids, not vectors."
                )

    def _before_embedding(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        ids = _first_tensor(args, kwargs)
        if self._call is None or module not in self._sites or ids is None or recomputing():
            return
        part = self._site(module, self._call).part
        self._call.reached.add(part)
        self._call.hear_ids(part, ids)


def recomputing() -> bool:
    """Whether a backward pass is under way in this thread: then a forward pass is a checkpointed block's second run."""
    return bool(torch._C._current_graph_task_id() != -1)  # what torch.utils.checkpoint itself asks


def _first_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)


def _entry_points(model: nn.Module) -> dict[nn.Module, None]:
    """The modules that a loop may call with rows of tokens, from the outermost: those around a token embedding."""
    embeddings = {site.module for site in noise_sites(model) if site.number == EMBEDDING_SITE}
    return {
        module: None
        for module in model.modules()
        if module is model or (hasattr(module, "get_input_embeddings") and embeddings & set(module.modules()))
    }
