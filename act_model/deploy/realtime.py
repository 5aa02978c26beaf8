"""What the operating system can do for a control tick, as far as it is permitted."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_TIMERSLACK = 29
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PRIORITY = 50  # as ros2_control's controller manager has it


@contextmanager
def realtime(*, fifo: bool) -> Iterator[str]:
    """Let this thread keep time as well as it may; gives what was granted, for people.

    Always: timers to the microsecond, threads that give way after 0.2 ms instead of 5, and all
    objects of now left out of garbage collection. With `fifo`, where permitted (root, or rtprio
    and memlock in limits.conf): SCHED_FIFO for this thread alone, and memory that is not paged out.
    """
    granted = []
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(2e-4)
    if libc is not None:
        libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if fifo and libc is not None:
        try:  # other threads and processes that are started from here are ordinary ones
            os.sched_setscheduler(
                0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY)
            )
            granted.append("fifo")
        except OSError:
            granted.append("fifo refused")
        locked = libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0
        granted.append("memory locked" if locked else "memory lock refused")
    try:
        yield ", ".join(granted) or "normal"
    finally:
        if "fifo" in granted:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        if "memory locked" in granted and libc is not None:
            libc.munlockall()
        if libc is not None:
            libc.prctl(_PR_SET_TIMERSLACK, 0, 0, 0, 0)
        sys.setswitchinterval(interval)
        gc.unfreeze()
