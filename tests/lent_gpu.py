"""A simulation of ZeroGPU without a GPU: forked workers, pickling, a time limit and a quota."""

from __future__ import annotations

import multiprocessing
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

import torch

from neftune_core.models.threads import default_threads


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, as a worker does: sums over several threads are rounded differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    default_threads.cache_clear()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        default_threads.cache_clear()


class PlatformError(Exception):
    """An error of the platform, with a title and a message."""

    def __init__(self, title: str, message: str) -> None:
        super().__init__(message)
        self.title, self.message = title, message


class _Worker:
    """A forked process that runs one task repeatedly."""

    def __init__(self, task: Callable[..., Iterator[Any]]) -> None:
        context = multiprocessing.get_context("fork")
        self.here, there = context.Pipe()
        self.left = context.Event()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the platform also forks while threads run
            self.process = context.Process(target=_serve, args=(task, there, self.left), daemon=True)
            self.process.start()
        there.close()


def _serve(task: Callable[..., Iterator[Any]], connection: Connection, left: Any) -> None:
    while True:
        arguments = pickle.loads(connection.recv_bytes())
        left.clear()
        try:
            stream = task(*arguments)
            for item in stream:
                if left.is_set():
                    stream.close()  # type: ignore[attr-defined]
                    break
                connection.send_bytes(pickle.dumps(("item", item)))
        except Exception as error:
            connection.send_bytes(pickle.dumps(("error", type(error).__name__)))
        else:
            connection.send_bytes(pickle.dumps(("end", None)))


class Platform:
    """A platform that lends a GPU for a limited time.

    Attributes:
        quota: Maximum duration of a task in seconds.
        only: Number of items after which a task is aborted; None for no limit.
        durations: The requested durations in seconds.
        workers: Idle workers, by task.
        started: Workers of all tasks so far.
    """

    def __init__(self, quota: int = 10_000, only: int | None = None) -> None:
        self.quota, self.only = quota, only
        self.durations: list[int] = []
        self.workers: dict[Any, _Worker] = {}
        self.started: list[_Worker] = []

    def gpu(self, *, duration: Callable[..., int]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that runs a task in a worker."""

        def decorate(task: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def lent(*arguments: Any) -> Iterator[Any]:
                seconds = duration(*arguments)
                self.durations.append(seconds)
                if seconds > self.quota:
                    told = f"You have exceeded your GPU quota ({seconds}s requested vs. {self.quota}s left)."
                    raise PlatformError("ZeroGPU quota exceeded", f"{told} Try again in 3:25:01")
                yield from self._run(task, arguments, time.monotonic() + seconds)

            return lent

        return decorate

    def _run(self, task: Callable[..., Iterator[Any]], arguments: Any, end: float) -> Iterator[Any]:
        worker = self.workers.pop(task, None) or _Worker(task)
        self.started.append(worker)
        worker.here.send_bytes(pickle.dumps(arguments))
        for number in count():
            if number == self.only or not worker.here.poll(max(0, end - time.monotonic())):
                worker.process.kill()
                worker.process.join()
                raise PlatformError("ZeroGPU worker error", "GPU task aborted")
            kind, value = pickle.loads(worker.here.recv_bytes())
            if kind == "end":
                self.workers[task] = worker
                return
            if kind == "error":
                raise PlatformError("ZeroGPU worker error", value)
            try:
                yield value
            except GeneratorExit:
                worker.left.set()
                raise

    def close(self) -> None:
        """Kill all workers, including abandoned ones: a forked worker keeps all earlier pipes open."""
        for worker in self.started:
            worker.process.kill()
            worker.process.join()
