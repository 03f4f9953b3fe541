"""The capabilities of this machine: devices, precisions, free memory and matrix multiplication speed."""

from __future__ import annotations

import os
import platform
import sys
import threading
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.language import later, say
from neftune_core.models.stopwatch import Measured, Timing, time_of
from neftune_core.models.threads import default_threads, waiting_text

if TYPE_CHECKING:
    import torch

    from neftune_core.models.settings import ModelSettings

# CPU flags for native bfloat16 multiplication; emulation is many times slower.
FAST_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""For versions 2 and 1 of cgroups: the folder, its files with the limit and the usage, and the key of the reclaimable
page cache in `memory.stat`."""
PROCESSORS = Path("/proc/cpuinfo")
CPU_PASS_ELEMENTS = 2**21
"""Maximum size of the hidden states in one pass over several arms on a CPU, in elements; larger passes are slower."""
SLOW_SHARE = 0.5
"""Speed of bfloat16 relative to float32 below which torch evidently uses no native bfloat16 instructions."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
DEVICE_VARIABLE = "NEFTUNE_DEVICE"
ROWS, WIDTH = 512, 576
"""Shapes of the measured matrix product: those of a small model."""
PRODUCT_OPERATIONS = 2 * ROWS * WIDTH * WIDTH
SMALL_OPERATIONS = 20
"""Number of pairs of small operations (a product and a sum) per measured repetition."""

_gpu_forbidden = threading.Event()
_measured = Measured()


def forbid_gpu() -> None:
    """Stop this process from using a GPU, on platforms that allocate GPUs only to child processes (see `allow_gpu`)."""
    _gpu_forbidden.set()


def allow_gpu() -> None:
    """Allow this process to use a GPU, even if `forbid_gpu` was called in its parent."""
    _gpu_forbidden.clear()


def choose_device(name: str) -> torch.device:
    """Return the device for a setting.

    Args:
        name: A torch device, or "auto": the value of NEFTUNE_DEVICE, else a CUDA GPU, else an Apple GPU, else the CPU.

    Raises:
        InvalidSetting: If there is no device of this name.
        NotAvailable: If this machine does not have the device.
    """
    import torch

    if name == "auto":
        name = os.environ.get(DEVICE_VARIABLE, "").strip() or "auto"
    if name == "auto":
        return torch.device(_best_device())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidSetting(
            say("There is no device called {name!r}: choose auto, cpu, cuda, cuda:1 or mps.", name=name)
        ) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise InvalidSetting(
            say("The device {name!r} is not supported: choose auto, cpu, cuda, cuda:1 or mps.", name=name)
        )
    _check_present(device)
    return device


def _best_device() -> str:
    import torch

    if _gpu_forbidden.is_set():
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_present(device: torch.device) -> None:
    import torch

    if device.type == "mps" and not torch.backends.mps.is_available():
        raise NotAvailable(say("This machine has no Apple GPU that torch can use: choose auto or cpu."))
    if device.type != "cuda":
        return
    if _gpu_forbidden.is_set():
        raise NotAvailable(
            say("This server gets its GPU automatically, for one call at a time: leave the device at auto.")
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        words = later("This machine has no device {device} (CUDA GPUs found: {count}): choose auto or cpu.")
        raise NotAvailable(say(words, device=device, count=count))


def choose_precision(name: str, device: torch.device) -> str:
    """Return the precision for a setting.

    Args:
        name: A precision, or "auto": bfloat16 if it is fast on `device`, else float16 on CUDA GPUs, else float32.
        device: Device that the model runs on.

    Returns:
        "float32", "bfloat16" or "float16".
    """
    if name != "auto":
        return name
    if fast_bfloat16(device):
        return "bfloat16"
    return "float16" if device.type == "cuda" else "float32"


def device_and_precision(settings: ModelSettings) -> tuple[torch.device, str]:
    """Return the device and the precision for a model's settings.

    Raises:
        InvalidSetting: If there is no device of this name.
        NotAvailable: If this machine does not have the device.
    """
    device = choose_device(settings.device)
    return device, choose_precision(settings.precision, device)


@cache
def fast_bfloat16(device: torch.device) -> bool:
    """Return whether `device` has native, fast bfloat16 multiplication; cached per device."""
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device.index or 0):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    flags = set(_processor_entry("flags", "Features").split())  # x86 and Arm
    if flags and not flags & FAST_BFLOAT16_FLAGS:
        return False
    # Processes of one study must choose the same precision even under load: a CPU that reports the feature is rejected
    # only if bfloat16 is far slower in five measurements.
    tries, seconds, least = (5, 0.03, SLOW_SHARE) if flags else (1, 0.1, 1.0)
    return any(measure_speed("bfloat16", seconds) > least * measure_speed("float32", seconds) for _ in range(tries))


def _processor_entry(*names: str) -> str:
    """Return the first entry with one of these names in the system's list of CPUs; empty if there is none."""
    try:
        lines = PROCESSORS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")


def measure_speed(precision: str, seconds: float) -> float:
    """Measure the speed of a matrix product on the CPU.

    Args:
        precision: dtype of the operands.
        seconds: Minimum duration of the measurement.

    Returns:
        Floating point operations per second.
    """
    return PRODUCT_OPERATIONS / _time_of_product(precision, seconds, "cpu").seconds


def _time_of_product(precision: str, seconds: float, device: str) -> Timing:
    import torch

    left = torch.ones(ROWS, WIDTH, dtype=getattr(torch, precision), device=device)
    right = torch.ones(WIDTH, WIDTH, dtype=left.dtype, device=device)

    def multiply() -> None:
        with torch.no_grad():
            (left @ right)[0, 0].item()  # synchronise

    return time_of(multiply, seconds, on_cpu=left.device.type == "cpu")


def matrix_speed(device: str, precision: str) -> float:
    """Measure the speed of a matrix product in 0.05 s; the result is cached as described in `stopwatch.Measured`.

    Args:
        device: torch device.
        precision: dtype of the operands.

    Returns:
        Floating point operations per second.
    """
    measure = partial(_time_of_product, precision, 0.05, device)
    return PRODUCT_OPERATIONS / _measured.seconds((device, precision), measure)


def operation_seconds(device: str) -> float:
    """Measure the fixed cost of a small operation and its gradient in 0.02 s; the result is cached like `matrix_speed`.

    Returns:
        Seconds per operation, averaged over the forward and the backward pass.
    """
    return _measured.seconds(device, partial(_time_of_operations, device)) / (4 * SMALL_OPERATIONS)


def _time_of_operations(device: str) -> Timing:
    import torch

    value, factor = torch.ones(64, 64, requires_grad=True, device=device), torch.full((64,), 0.5, device=device)

    def compute() -> None:
        found = value
        for _ in range(SMALL_OPERATIONS):
            found = found * factor + factor
        torch.autograd.grad(found.sum(), value)[0][0, 0].item()  # synchronise

    return time_of(compute, 0.02, on_cpu=value.device.type == "cpu")


def tokens_per_pass(device: torch.device, width: int) -> int:
    """Return the maximum number of tokens, over all arms, for which one pass is faster than several.

    Args:
        device: Device that the model runs on.
        width: Embedding width.

    Returns:
        `sys.maxsize` on a GPU; on a CPU, as many as fit in its caches.
    """
    return CPU_PASS_ELEMENTS // width if device.type == "cpu" else sys.maxsize


def available_memory(device: str = "cpu") -> int:
    """Return the bytes of memory still available to a model on `device`, within the limits of a container.

    Main memory is divided among the processes of one study on this machine.
    """
    import psutil

    if device.startswith("cuda"):
        import torch

        target = torch.device(device)
        cached = torch.cuda.memory_reserved(target) - torch.cuda.memory_allocated(target)
        return int(torch.cuda.mem_get_info(target)[0]) + cached
    return min([psutil.virtual_memory().available, *_container_memory()]) // processes_here()


def used_memory(device: torch.device) -> int:
    """Return the bytes that this process has in use on `device`."""
    import psutil

    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def processes_here() -> int:
    """Return the number of processes of one study that torchrun or accelerate started on this machine."""
    value = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(value)) if value.isdecimal() else 1


def _container_memory() -> list[int]:
    """Return the bytes available in this container, including reclaimable page cache; empty without a limit."""
    for folder, *files, reclaimable in CGROUPS:
        try:
            limit, used = ((Path(folder) / file).read_text().strip() for file in files)
        except OSError:
            continue
        if limit.isdigit():
            cached = _cgroup_statistics(Path(folder)).get(reclaimable, "0")
            return [max(0, int(limit) - int(used) + int(cached))]
    return []


def _cgroup_statistics(folder: Path) -> dict[str, str]:
    """Return the entries of `memory.stat`; empty if there is no such file, which some sandboxes lack."""
    try:
        return dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return {}


def describe_machine() -> dict[str, Any]:
    """Describe this machine for records and `neftune doctor`, as JSON values that do not identify its owner."""
    import psutil
    import torch
    import transformers

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": _processor_entry("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": default_threads(),
        "waiting": waiting_text(),
        "memory_bytes": psutil.virtual_memory().total,
        "available_bytes": available_memory(),
        "gpus": gpus,
        "device": str(choose_device("auto")),
        "fast_bfloat16": fast_bfloat16(choose_device("auto")),
        "precision": choose_precision("auto", choose_device("auto")),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
