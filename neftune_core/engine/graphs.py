"""CUDA graphs of uncompiled layers, with one launch each for the forward and the backward pass of a layer.

A layer is recorded at its second call with inputs of a given shape; the first call is the warm-up. A recording reads
its inputs from fixed tensors, so every call copies its inputs there. Hooks (noise, cancellation) run between the layers
and are not recorded. If a layer cannot be recorded, it runs eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from neftune_core.engine.armset import ArmSet, Pass

Result = TypeVar("Result")
Key = tuple[object, ...]

MOST_SHAPES = 24
"""Maximum number of recordings per layer. Each stores its inputs and outputs; inputs of further shapes run eagerly."""


class Recorder(Protocol):
    """Interface that records the operations of one layer and repeats them on the same memory."""

    def record(self, run: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """Record the operations of `run`, a function of tensors with fixed memory addresses.

        Return the result of `run`, and a function that repeats the operations and overwrites the tensors of the result.
        Before the first repetition, the values of these tensors are undefined. Raise `RuntimeError` if an operation
        cannot be recorded.
        """


class CudaRecorder:
    """A recorder of CUDA graphs.

    All recordings of a layer share one memory pool, since only one is in use at a time.
    """

    def __init__(self) -> None:
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def record(self, run: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """Record a CUDA graph; see `Recorder.record`.

        This does not use `torch.cuda.graph`, which collects garbage and empties the cache for every graph.
        """
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                result = run()
            except BaseException:
                with suppress(RuntimeError):  # the first error is more informative
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result, graph.replay


def capture_layers(arms: ArmSet, make_recorder: Callable[[], Recorder] = CudaRecorder) -> list[CapturedLayer]:
    """Run every layer of a set of arms from recordings.

    Args:
        arms: The set of arms, changed in place.
        make_recorder: Returns a new recorder for one layer.

    Returns:
        The captured layers.
    """
    captured = [CapturedLayer(layer, arms.running_pass, make_recorder()) for layer in arms.layers]
    for one in captured:
        one.layer.forward = one
        arms.before_training.append(one.end_pass)
    arms.fallback = lambda: next((one.refused for one in captured if one.refused), "")
    return captured


@dataclass(frozen=True)
class _Recording:
    """A layer recorded for inputs of one shape.

    Attributes:
        inputs: Fixed tensors for the arguments and for the weights that are computed in each pass.
        outputs: Fixed output tensors.
        spec: Structure of the output.
        gradients_in: Fixed gradients of the outputs, by index; outputs without a gradient are omitted.
        gradients_out: Fixed gradients of the tensors in `differentiated`; None for a tensor without a gradient.
        differentiated: Indices into the list of inputs and weights (inputs first).
        forward: Repeats the forward pass.
        backward: Repeats the backward pass.
    """

    inputs: list[Tensor]
    outputs: list[Any]
    spec: TreeSpec
    gradients_in: dict[int, Tensor]
    gradients_out: list[Tensor | None]
    differentiated: list[int]
    forward: Callable[[], None]
    backward: Callable[[], None]


class CapturedLayer:
    """The forward method of a layer, run from recordings if possible.

    Attributes:
        refused: Why the layer cannot be recorded; "" if it can be recorded or no attempt was made.
        replays: Number of passes run from a recording.

    Args:
        layer: A layer of the module tree; its forward method is replaced.
        now: The pass that is running.
        recorder: Records the operations of the layer.
    """

    def __init__(self, layer: nn.Module, now: Pass, recorder: Recorder) -> None:
        self.layer, self.refused, self.replays = layer, "", 0
        self._eager, self._now, self._recorder = layer.forward, now, recorder
        self._recordings: dict[Key, _Recording | None] = {}
        self._is_pending = False

    def end_pass(self) -> None:
        """Allow the next replay, because the backward pass of the last one has run or will not run."""
        self._is_pending = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer.

        If a layer is used at several depths, its second call before the backward pass runs eagerly. A replay would
        overwrite the tensors that the first call needs for its gradient.
        """
        leaves, spec = tree_flatten((args, kwargs))
        own = self._computed_weights()
        key = self._key(leaves, spec, own)
        if key is None or self.refused or self._is_pending:
            return self._eager(*args, **kwargs)
        if key not in self._recordings:
            if len(self._recordings) < MOST_SHAPES:
                self._recordings[key] = None  # this call is the warm-up
            return self._eager(*args, **kwargs)
        recording = self._recordings[key] or self._try_recording(key, leaves, spec, own)
        if recording is None:
            return self._eager(*args, **kwargs)
        self._is_pending, self.replays = True, self.replays + 1
        given = [leaf for leaf in leaves if isinstance(leaf, Tensor)] + [tensor for _, _, tensor in own]
        results = _Replayed.apply(self, recording, *given, *self._fixed_weights())
        outputs = list(recording.outputs)
        for index, result in zip(_tensor_indices(outputs), results, strict=True):
            outputs[index] = result
        return tree_unflatten(outputs, recording.spec)

    def _key(self, leaves: Sequence[Any], spec: TreeSpec, own: Sequence[tuple[nn.Module, str, Tensor]]) -> Key | None:
        """Return the key of the recording for this call; None if the call must run eagerly."""
        if not (torch.is_grad_enabled() and self.layer.training) or self._now.draws_masks:
            return None
        if not all(leaf is None or isinstance(leaf, Tensor | bool | int | float | str) for leaf in leaves):
            return None
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)] + [tensor for _, _, tensor in own]
        if not any(tensor.requires_grad for tensor in (*tensors, *self._fixed_weights())):
            return None
        shapes = [(tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in tensors]
        others = [leaf for leaf in leaves if not isinstance(leaf, Tensor)]
        return (self._now.active, str(spec), *shapes, *others)

    def _computed_weights(self) -> list[tuple[nn.Module, str, Tensor]]:
        """Return the weights that are computed for this pass, such as full copies rounded to bfloat16."""
        return [
            (module, name, tensor)
            for module in self.layer.modules()
            for name, tensor in module._parameters.items()
            if tensor is not None and not tensor.is_leaf
        ]

    def _fixed_weights(self) -> list[Tensor]:
        """Return the trained weights that are stored and thus have fixed memory addresses."""
        weights = {id(tensor): tensor for tensor in self.layer.parameters() if tensor.is_leaf and tensor.requires_grad}
        return list(weights.values())

    def _try_recording(
        self, key: Key, leaves: Sequence[Any], spec: TreeSpec, own: Sequence[tuple[nn.Module, str, Tensor]]
    ) -> _Recording | None:
        """Record the layer for these inputs; if that fails, set `refused` to the reason and return None."""
        try:
            self._recordings[key] = self._record(leaves, spec, own)
        except (RuntimeError, NotImplementedError) as error:  # including out-of-memory errors
            self.refused = str(error).partition("\n")[0]
            self._recordings.clear()
            return None
        return self._recordings[key]

    def _record(
        self, leaves: Sequence[Any], spec: TreeSpec, own: Sequence[tuple[nn.Module, str, Tensor]]
    ) -> _Recording:
        fixed: list[Any] = [_copy_of(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        weights = [_copy_of(tensor) for _, _, tensor in own]
        inputs = [leaf for leaf in fixed if isinstance(leaf, Tensor)] + weights

        def forward() -> Any:
            args, kwargs = tree_unflatten(fixed, spec)
            with _replaced_weights(own, weights):
                return self._eager(*args, **kwargs)

        result, repeat_forward = self._recorder.record(forward)
        outputs, out_spec = tree_flatten(result)
        gradients_in = {
            index: torch.empty_like(outputs[index])
            for index in _tensor_indices(outputs)
            if outputs[index].requires_grad
        }
        sources = [*inputs, *self._fixed_weights()]
        differentiated = [index for index, tensor in enumerate(sources) if tensor.requires_grad]

        def backward() -> Sequence[Tensor | None]:
            return torch.autograd.grad(
                [outputs[index] for index in gradients_in],
                [sources[index] for index in differentiated],
                list(gradients_in.values()),
                allow_unused=True,
            )

        gradients_out, repeat_backward = self._recorder.record(backward)
        detached = [output.detach() if isinstance(output, Tensor) else output for output in outputs]
        return _Recording(
            [tensor.detach() for tensor in inputs],
            detached,
            out_spec,
            gradients_in,
            list(gradients_out),
            differentiated,
            repeat_forward,
            repeat_backward,
        )


class _Replayed(torch.autograd.Function):
    """A recorded layer as one autograd operation."""

    @staticmethod
    def forward(ctx: Any, layer: CapturedLayer, recording: _Recording, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Copy the inputs to the fixed tensors of a recording, and repeat its forward pass.

        Args:
            ctx: Context of the autograd operation.
            layer: The captured layer; its next replay is allowed after the backward pass.
            recording: The recording of the layer for these shapes.
            *tensors: The inputs of the layer, then the trained weights, which receive gradients.

        Returns:
            The output tensors of the layer, which share memory with the recording.
        """
        ctx.layer, ctx.recording, ctx.weights = layer, recording, tensors[len(recording.inputs) :]
        for fixed, given in zip(recording.inputs, tensors[: len(recording.inputs)], strict=True):
            fixed.copy_(given)
        recording.forward()
        results = {index: recording.outputs[index].detach() for index in _tensor_indices(recording.outputs)}
        ctx.places = list(results)
        ctx.mark_non_differentiable(*(one for index, one in results.items() if index not in recording.gradients_in))
        return tuple(results.values())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Copy the output gradients to the fixed tensors of the recording, and repeat its backward pass.

        Args:
            ctx: Context of the autograd operation.
            *gradients: Gradients of the outputs of `forward`; None counts as zero.

        Returns:
            One gradient per argument of `forward`; None for the layer, the recording, and tensors without a gradient.
        """
        recording: _Recording = ctx.recording
        given = dict(zip(ctx.places, gradients, strict=True))
        for index, fixed in recording.gradients_in.items():
            gradient = given[index]
            fixed.zero_() if gradient is None else fixed.copy_(gradient)
        _free_gradients(ctx.weights, recording.gradients_out)
        recording.backward()
        ctx.layer.end_pass()
        found: list[Tensor | None] = [None] * (len(recording.inputs) + len(ctx.weights))
        for index, gradient in zip(recording.differentiated, recording.gradients_out, strict=True):
            found[index] = None if gradient is None else gradient.detach()
        return (None, None, *found)


def _free_gradients(weights: Sequence[Tensor], fixed: Sequence[Tensor | None]) -> None:
    """Copy weight gradients that share memory with a recording, before a replay overwrites them."""
    memory = {gradient.data_ptr() for gradient in fixed if gradient is not None}
    for weight in weights:
        if weight.grad is not None and weight.grad.data_ptr() in memory:
            weight.grad = weight.grad.clone()


def _copy_of(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _tensor_indices(values: Sequence[Any]) -> list[int]:
    return [index for index, value in enumerate(values) if isinstance(value, Tensor)]


@contextmanager
def _replaced_weights(places: Sequence[tuple[nn.Module, str, Tensor]], weights: Sequence[Tensor]) -> Iterator[None]:
    """Replace weights of modules for the duration of the block."""
    for (module, name, _), weight in zip(places, weights, strict=True):
        module._parameters[name] = cast(nn.Parameter, weight)
    try:
        yield
    finally:
        for module, name, before in places:
            module._parameters[name] = cast(nn.Parameter, before)
