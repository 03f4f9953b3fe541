"""Load models by source, and cache those used last; loaded models are never modified.

`load` resolves a source to a folder (`sources`), checks it (`checks`) and reads it. The result is shared; use
`private_tree(loaded.model)` to add hooks or replace modules.
"""

from __future__ import annotations

import gc
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from neftune_core.errors import DoesNotFit, ModelError
from neftune_core.language import later, say
from neftune_core.models import checks
from neftune_core.models.architecture.anatomy import all_layers, dropout_rates, first_position, set_model_dropout
from neftune_core.models.architecture.caches import KEYS, memory_of
from neftune_core.models.architecture.module_trees import PublishedModel, private_tree, published_model, text_part
from neftune_core.models.architecture.reach import reach_of
from neftune_core.models.architecture.trials import DoesNotRun, require_supported
from neftune_core.models.device import BYTES, choose_precision, device_and_precision
from neftune_core.models.settings import ModelSettings
from neftune_core.models.silence_warnings import import_transformers, silence_transformers
from neftune_core.models.sources.download_progress import LoadProgress, ModelRequest, ProgressCallback, Watch
from neftune_core.models.sources.resolve import ModelFolder, resolve_source
from neftune_core.models.tokenizing import read_tokenizer
from neftune_core.noise.sites import is_encoder_decoder
from neftune_core.sentences import cause, is_disk_full, is_out_of_memory, sentence

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LoadProgress", "LoadedModel", "clear_cache", "evict_all", "load", "private_tree"]

CACHED_MODELS = 3
DEFAULT_CONTEXT = 1024


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A shared, read-only model in evaluation mode, without gradients and with all dropout rates 0.

    Attributes:
        tokenizer: Its tokenizer, adapted by `adapt_tokenizer`.
        source: Source of the model, as given in the request.
        parameters: Number of parameters; tied weights count once.
        layers: Number of layers, of encoder and decoder together.
        vocabulary: Number of rows of the embedding.
        context: Longest sequence in tokens.
        precision: dtype of the weights.
        note: Advice for users of the model; may be empty.
        revision: Commit on the hub or on ModelScope; empty if unknown, and for other sources.
        dropout: Original dropout rates in the configuration of the model, by name.
        memory: Kind of cache that the model uses; see `caches.memory_of`.
        reach: Sentences from `reach_of`, such as on components that noise or adapters do not reach.
        published: The published model that contains `model` as its text part; None if `model` is complete.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    name: str
    licence: str
    parameters: int
    width: int
    layers: int
    vocabulary: int
    context: int
    device: torch.device
    precision: str
    note: str = ""
    revision: str = ""
    dropout: Mapping[str, float] = field(default_factory=dict)
    memory: str = KEYS
    published: PublishedModel | None = None
    reach: tuple[str, ...] = ()

    @property
    def encoder_decoder(self) -> bool:
        """Whether the model is an encoder-decoder."""
        return is_encoder_decoder(self.model)


class _ModelCache:
    """An LRU cache of loaded models; one thread loads a model while others wait for it.

    Models are read one at a time, because two that fit separately may not fit together.
    """

    def __init__(self) -> None:
        self.models: OrderedDict[tuple[str, ...], LoadedModel] = OrderedDict()
        self.placed: dict[tuple[str, ...], LoadedModel] = {}
        self.create_locks()

    def get(self, key: tuple[str, ...]) -> LoadedModel | None:
        with self.lock:
            if key in self.models:
                self.models.move_to_end(key)
            return self.models.get(key) or self.placed.get(key)

    def put(self, key: tuple[str, ...], loaded: LoadedModel) -> None:
        """Add a model, and remove the least recently used ones beyond `CACHED_MODELS`.

        Args:
            key: Folder, stamp of its files, source, device and precision.
            loaded: The model.
        """
        with self.lock:
            self.models[key] = loaded
            while len(self.models) > CACHED_MODELS:
                self.models.popitem(last=False)

    def loading_lock(self, request: ModelRequest) -> threading.Lock:
        """Return the lock held while `request` is fetched and read; it is discarded when unused."""
        with self.lock:
            return self.request_locks.setdefault(request, threading.Lock())

    def create_locks(self) -> None:
        """Create the locks: initially, and again in a forked child, where threads that held them no longer exist."""
        self.lock = threading.Lock()
        self.request_locks: WeakValueDictionary[ModelRequest, threading.Lock] = WeakValueDictionary()
        self.reading_lock = threading.Lock()


@contextmanager
def _acquire(lock: threading.Lock, watch: Watch) -> Iterator[None]:
    """Acquire `lock`; raise `Cancelled` if cancelled while waiting."""
    while not lock.acquire(timeout=0.1):
        watch.check()
    try:
        yield
    finally:
        lock.release()


_cache = _ModelCache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_cache.create_locks)


def load(
    settings: ModelSettings, *, progress: ProgressCallback | None = None, cancelled: Callable[[], bool] | None = None
) -> LoadedModel:
    """Load a model, or return it from the cache of the three most recently used.

    Args:
        settings: Source, revision, device and precision.
        progress: Called with the progress of downloads and conversions.
        cancelled: Polled during the work.

    Returns:
        The model.

    Raises:
        ModelError: If there is no such model, or it cannot be read or used.
        NotAvailable: If the network, the device or a package for the tokenizer is not available.
        DoesNotFit: If memory or disk space is insufficient.
        Cancelled: If `cancelled()` returns true.
        InvalidSetting: If there is no device of this name.
    """
    import_transformers()
    watch = Watch(progress, cancelled)
    request = ModelRequest(settings.source.strip(), settings.revision.strip())
    device, precision = device_and_precision(settings)
    with _acquire(_cache.loading_lock(request), watch):
        location = resolve_source(request, watch)
        key = (str(location.folder), location.stamp(), request.source, str(device), precision)
        found = _cache.get(key)
        if found is None:
            watch.check()
            found = _read_in_precision(location, request.source, (device, settings.precision, precision), watch)
            _cache.put(key, found)
        return found


def place_on_gpu(settings: ModelSettings) -> LoadedModel:
    """Load a model on the CPU, and move it to CUDA for the lifetime of the process, even after `forbid_gpu`.

    On platforms that emulate CUDA in the serving process, forked processes have the model on their GPU, and their
    `load` returns it.

    Args:
        settings: Source, revision and precision.

    Raises:
        LabError: For the same reasons as in `load`.
    """
    import torch

    import_transformers()
    watch = Watch(None, None)
    location = resolve_source(ModelRequest(settings.source.strip(), settings.revision.strip()), watch)
    gpu = torch.device("cuda")
    precision = choose_precision(settings.precision, gpu)
    where = (torch.device("cpu"), settings.precision, precision)
    loaded = _read_in_precision(location, settings.source.strip(), where, watch)
    placed = replace(loaded, model=loaded.model.to(gpu), device=gpu)
    _cache.placed[str(location.folder), location.stamp(), placed.source, str(gpu), precision] = placed
    return placed


def clear_cache() -> None:
    """Remove all models from the cache; their memory is freed when they are garbage-collected."""
    with _cache.lock:
        _cache.models.clear()


def evict_all() -> None:
    """Clear the cache and free its memory; a model in use is freed when its users release it."""
    clear_cache()
    release_memory()


def release_memory() -> None:
    """Free unused memory, also of the GPU; adapters and hooks of finished studies form reference cycles."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _read_in_precision(
    location: ModelFolder, source: str, where: tuple[torch.device, str, str], watch: Watch
) -> LoadedModel:
    """Read the model. If it does not run in an automatically chosen precision, read it in float32.

    `where` is the device, the precision in the settings, and the precision chosen for it.
    """
    device, setting, precision = where
    try:
        return _read(location, source, (device, precision), watch)
    except DoesNotRun:
        if setting != "auto" or precision == "float32":
            raise
    return _read(location, source, (device, "float32"), watch)


def _read(location: ModelFolder, source: str, where: tuple[torch.device, str], watch: Watch) -> LoadedModel:
    from neftune_core.models.architecture import attention

    device, precision = where
    config = checks.read_configuration(location.folder)
    with _acquire(_cache.reading_lock, watch):  # the free memory must not change between check and use
        _require_memory(location, device, precision)
        watch.report(0, 0, say("Reading {what}", what=location.name))
        model = _weights(location, config, precision)
        tokenizer = read_tokenizer(location.folder, model)
        watch.check()
        model = model.to(device).eval().requires_grad_(False)
    require_finite(model, location)
    rates = dropout_rates(model.config)
    set_model_dropout(model, 0.0)
    attention.install(model)
    require_supported(model, location.name, precision)
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    embedding = model.get_input_embeddings().weight
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        name=location.name,
        licence=location.licence,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        width=embedding.shape[1],
        layers=len(all_layers(model)),
        vocabulary=embedding.shape[0],
        context=longest - first_position(model) if longest else DEFAULT_CONTEXT,
        device=device,
        precision=precision,
        memory=memory_of(model, tokenizer.pad_token_id),
        published=published_model(model),
        reach=reach_of(model),
        note=location.note or (checks.NOT_PRETRAINED if checks.is_masked_language_model(config) else ""),
        revision=location.revision,
        dropout=rates,
    )


def require_finite(model: Any, location: ModelFolder) -> None:
    """Check that all weights are finite.

    Args:
        model: Model to check.
        location: Its folder, for the error message.

    Raises:
        ModelError: If a weight is NaN or infinite; the message names the tensor.
    """
    for name, weight in model.named_parameters():
        low, high = (float(end) for end in weight.aminmax()) if weight.numel() else (0.0, 0.0)
        if not (math.isfinite(low) and math.isfinite(high)):
            words = later(
                "The weights of {model} in {folder} are not all finite: {tensor} contains {value}. Choose another "
                "precision or another model."
            )
            value = say("NaN") if math.isnan(low) else say("infinity")
            raise ModelError(say(words, model=location.name, tensor=name, value=value, folder=location.folder))


def _require_memory(location: ModelFolder, device: torch.device, precision: str) -> None:
    """Raise `DoesNotFit` if the model does not fit in memory even after cached models are evicted."""
    needed = checks.parameter_count(location.folder) * BYTES[precision]
    try:
        checks.require_memory(needed, location.name, device)
    except DoesNotFit:
        evict_all()
        checks.require_memory(needed, location.name, device)


def _weights(location: ModelFolder, config: Any, precision: str) -> Any:
    import torch

    kind = checks.auto_class(config)
    options = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    try:
        with silence_transformers():
            model, report = kind.from_pretrained(
                location.folder, config=config, dtype=getattr(torch, precision), output_loading_info=True, **options
            )
    except Exception as error:
        if is_out_of_memory(error):
            words = later("Loading {model} ran out of memory: choose a smaller model.")
            raise DoesNotFit(say(words, model=location.name)) from None
        if is_disk_full(error):
            raise DoesNotFit(sentence(error)) from None
        words = later(
            "The files of {model} cannot be read as a model ({fault}): they are damaged or incomplete, so download "
            "them again."
        )
        raise ModelError(say(words, model=location.name, fault=cause(error))) from error
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        words = later(
            "The files of {model} lack {count} of the model's weights ({weight}): they are damaged or incomplete, so "
            "download them again."
        )
        raise ModelError(say(words, model=location.name, count=len(missing), weight=missing[0]))
    return text_part(model)
