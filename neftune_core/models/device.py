"""What this machine can do: where a model runs, in which precision, how much memory is free, how fast it multiplies."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.language import later, say
from neftune_core.models.threads import usual_threads, waiting_words

if TYPE_CHECKING:
    import torch

# Processor flags of units that multiply bfloat16 itself; without one of them it is emulated, many times slower.
FAST_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
CGROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
PASS_NUMBERS = 2**21
"""Numbers of a hidden state, of all arms of a pass, beyond which a processor takes longer for each arm, not shorter."""
SLOW_SHARE = 0.5
"""Of the speed of float32: below it bfloat16 is not multiplied by the unit that the processor names."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
DEVICE_VARIABLE = "NEFTUNE_DEVICE"

_off_gpu = threading.Event()
LENT = later("The GPU of this lab is lent to one call at a time, by itself: leave the device at auto.")


def keep_off_gpu() -> None:
    """From now on this process uses no GPU: the platform lends one to other processes, which say `take_gpu()`."""
    _off_gpu.set()


def take_gpu() -> None:
    """This process has a GPU, whatever the one that it was forked from said."""
    _off_gpu.clear()


def choose_device(name: str) -> torch.device:
    """The device called `name`. Raises `NotAvailable` where it is not here.

    "auto" is what NEFTUNE_DEVICE names, else a CUDA GPU, else Apple's, else the processor.
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
        raise InvalidSetting(say("The lab does not run on {name!r}: choose auto, cpu, cuda, cuda:1 or mps.", name=name))
    _check_present(device)
    return device


def _best_device() -> str:
    import torch

    if _off_gpu.is_set():
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
    if _off_gpu.is_set():
        raise NotAvailable(say(LENT))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise NotAvailable(
            say(
                "The device {device} is not here (CUDA GPUs found: {count}): choose auto or cpu.",
                device=device,
                count=count,
            )
        )


def choose_precision(name: str, device: torch.device) -> str:
    """`name`, or for "auto" bfloat16 where `device` multiplies it fast, float16 on older CUDA GPUs, else float32."""
    if name != "auto":
        return name
    if fast_bfloat16(device):
        return "bfloat16"
    return "float16" if device.type == "cuda" else "float32"


def fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 faster than float32; asked once for each kind of device."""
    return _fast_bfloat16(device.type, device.index)


@cache
def _fast_bfloat16(kind: str, index: int | None) -> bool:
    import torch

    if kind == "cuda":
        with torch.cuda.device(index or 0):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    flags = _processor_flags()
    if flags and not flags & FAST_BFLOAT16_FLAGS:
        return False
    # One busy moment must not make two processes of a study choose differently: a processor that says it can is doubted
    # only if it is far slower three times over.
    tries, least = (3, SLOW_SHARE) if flags else (1, 1.0)
    return any(_measured_speed("bfloat16", 0.1) > least * _measured_speed("float32", 0.1) for _ in range(tries))


def _processor_flags() -> set[str]:
    """The flags of the first processor, where the system tells them; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if _lists_flags(line)), set())


def _lists_flags(line: str) -> bool:
    return line.startswith(("flags", "Features"))  # x86 and Arm


def _measured_speed(precision: str, seconds: float, device: str = "cpu") -> float:
    """Floating point operations a second of a matrix product shaped like a small model's, over about `seconds`."""
    import torch

    rows, width = 512, 576
    left = torch.ones(rows, width, dtype=getattr(torch, precision), device=device)
    right = torch.ones(width, width, dtype=left.dtype, device=device)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        with torch.no_grad():
            (left @ right)[0, 0].item()  # reading a value waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * rows * width * width / best


@cache
def matrix_speed(device: str, precision: str) -> float:
    """Floating point operations a second that `device` reaches in a matrix product; measured once, in 0.05 s."""
    return _measured_speed(precision, 0.05, device)


def positions_of_a_pass(device: torch.device, width: int) -> int:
    """How many tokens of several arms are best taken in one pass: on a GPU any number, on a processor as many as its
    caches hold, and always those of one arm."""
    return PASS_NUMBERS // width if device.type == "cpu" else sys.maxsize


def available_memory(device: str = "cpu") -> int:
    """Bytes of memory that a model on `device` could still take, the limit of a container included.

    Of main memory it is this process's part, where a launcher has started several of one study here.
    """
    import psutil

    if device.startswith("cuda"):
        import torch

        place = torch.device(device)
        kept = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(
            place
        )  # torch's own, free to be used again
        return int(torch.cuda.mem_get_info(place)[0]) + kept
    return min([psutil.virtual_memory().available, *_container_memory()]) // processes_here()


def processes_here() -> int:
    """How many processes of one study torchrun or accelerate has started on this machine, this one included."""
    said = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(said)) if said.isdecimal() else 1


def _container_memory() -> list[int]:
    for limit_file, used_file in CGROUP_LIMITS:
        try:
            limit, used = Path(limit_file).read_text().strip(), Path(used_file).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            return [max(0, int(limit) - int(used) + _reclaimable())]
    return []


def _reclaimable() -> int:
    """Bytes of cached files that count as used by the container but give way when memory is asked for."""
    for file in ("/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat"):
        try:
            lines = Path(file).read_text().splitlines()
        except OSError:
            continue
        stats = dict(line.split() for line in lines)
        return int(stats.get("inactive_file", stats.get("total_inactive_file", 0)))
    return 0


def describe_machine() -> dict[str, Any]:
    """What a record and `neftune doctor` say about this machine: plain JSON values, nothing that names its owner."""
    import psutil
    import torch
    import transformers

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": _processor_name(),
        "cores": usable_cores(),
        "threads": usual_threads(),
        "waiting": waiting_words(),
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


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
