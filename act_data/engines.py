"""Where many equal tasks run: here, one after the other, or on processes of this machine.

The only place that knows. A task is a plain function of what all tasks share, of its own item and
of a way to tell how far it is; it gives back something small. Shared things, items and results
travel by pickle. Other executors fit behind `run` as long as they can do that.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, TypeVar

from act_data.errors import ActError

S = TypeVar("S")
I = TypeVar("I")  # noqa: E741  # an item
R = TypeVar("R")

Advance = Callable[[int], None]
"""Tells how much of its item a task has done so far, in whatever unit the caller counts."""
Progress = Callable[[int, int], None]
"""Hears the number of an item, and how much of it is done."""
Task = Callable[[S, I, Advance], R]

_POLL_S = 0.2

# Set in a worker when it begins.
_shared: Any = None
_amounts: Any = ()


class LostWorkerError(ActError):
    """A process of a run died; what it and the others were doing is not known."""


def run(
    task: Task[S, I, R],
    shared: S,
    items: Sequence[I],
    *,
    jobs: int,
    progress: Progress = lambda number, amount: None,
) -> Generator[tuple[int, R]]:
    """The number of each item and what `task` gave for it, as they become ready.

    With one job, everything happens in this process, in order. An exception of a task ends the
    run. When the generator is closed, or is interrupted, the processes end at once; so they do
    when this one dies. An interrupt from the keyboard reaches this process only.

    Args:
        task: A function of a module, not a closure.
        jobs: Processes, at least one.
        progress: Called with what the tasks have told; from processes now and then.

    Raises:
        LostWorkerError: A process was killed.
    """
    if jobs == 1 or len(items) < 2:
        for number, item in enumerate(items):
            yield number, task(shared, item, partial(progress, number))
        return
    yield from _on_processes(task, shared, items, min(jobs, len(items)), progress)


def _on_processes(
    task: Task[S, I, R],
    shared: S,
    items: Sequence[I],
    jobs: int,
    progress: Progress,
) -> Generator[tuple[int, R]]:
    context = multiprocessing.get_context("spawn")  # threads and locks do not survive a fork
    amounts = context.RawArray("q", len(items))
    told = [0] * len(items)
    end, leash = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(shared, amounts, end)
    )
    try:
        with _interrupts_blocked():  # workers inherit it: Ctrl-C is this process's business
            waiting: dict[Future[R], int] = {
                pool.submit(_call, task, item, number): number for number, item in enumerate(items)
            }
        while waiting:
            done, _ = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            for number, amount in enumerate(amounts):
                if amount != told[number]:
                    told[number] = amount
                    progress(number, amount)
            # First what has succeeded: a broken pool breaks all other futures at once.
            for future in sorted(done, key=lambda f: (f.exception() is not None, waiting[f])):
                yield waiting.pop(future), future.result()
        pool.shutdown()
    except BrokenProcessPool as e:
        raise LostWorkerError(
            "a process was killed while it worked, most likely by the system for want of memory",
            hint="Use fewer --jobs.",
        ) from e
    finally:
        leash.close()  # before the pool, which would wait for what runs
        pool.shutdown(wait=True, cancel_futures=True)
        end.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(shared: Any, amounts: Any, end: Connection) -> None:
    """What every worker does first."""
    global _shared, _amounts
    _shared, _amounts = shared, amounts
    Thread(target=_end_with, args=(end,), daemon=True).start()


def _end_with(end: Connection) -> None:
    """End this process at once when the other end of its leash is gone."""
    end.poll(None)
    os._exit(1)


def _call(task: Task[Any, I, R], item: I, number: int) -> R:
    def advance(amount: int) -> None:
        _amounts[number] = amount

    return task(_shared, item, advance)
