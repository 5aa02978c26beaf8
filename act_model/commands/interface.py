"""What a robot is told: the seam through which commands leave deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from act_model.config import VectorContract


@runtime_checkable
class Sink(Protocol):
    """Where commands go: a robot's controllers, a simulator, a file.

    Every method but `close` returns at once: the control tick calls it, and a sink that waits
    for a network makes the robot late. It is used by one thread at a time, and opened once more
    in the watchdog's process, which calls `hold` and `stop` when the control tick has fallen
    silent, and `PlanSink.recall` before. After `stop` nothing is sent any more.
    """

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        """Command `action_A`, which is checked and safe.

        Args:
            action_A: (A,), in the order and units of `Contract.action`. Reused by the caller
                after the call: copy what is kept.
            valid_ns: When it is meant to hold, on the rollout's clock (`time.monotonic_ns`, or
                simulated time); this tick's deadline.

        Raises:
            DataError: The robot can no longer be reached.
        """

    def hold(self) -> None:
        """Keep the robot where it is: positions as last commanded, velocities zero."""

    def stop(self) -> None:
        """Bring it to rest and leave it so: base to zero, arms where they are.

        Called on every way out, at least once, also before anything was sent and after an error
        of `send`. Must not raise for a robot that is gone.
        """

    def close(self) -> None:
        """Let go of it. Calling it again does nothing."""


class Plan(NamedTuple):
    """What a controller was told ahead.

    Attributes:
        path: (H, A) in the order of an action.
        begin_ns: Of the first one, on the monotonic clock; a controller reaches it a period later.
        period_ns: From one to the next.
    """

    path: NDArray[np.floating]
    begin_ns: int
    period_ns: int


@runtime_checkable
class PlanSink(Sink, Protocol):
    """A sink that may be told what is to come, as a controller that interpolates wants it."""

    @property
    def plans(self) -> bool:
        """Whether it has a use for plans."""

    def plan(self, path_HA: NDArray[np.floating], valid_ns: int, period_ns: int) -> None:
        """What the following calls of `send` are going to be, unless something happens.

        Args:
            path_HA: (H, A) checked and safe; it ends at rest.
            valid_ns: Of the first action, as in `send`; the others follow every `period_ns`.
        """

    @property
    def planned(self) -> Plan | None:
        """The plan that a controller follows now; None once another command has ended it."""

    def recall(self, plan: Plan) -> None:
        """Bring a controller to rest that was told `plan` by a process which is no more."""


def velocities(action: Sequence[VectorContract]) -> NDArray[np.bool_]:
    """(A,) which elements of an action are velocities, by their unit: zero is at rest for them."""
    return np.array(["/s" in unit for _, unit in labels(action)], np.bool_)


def labels(action: Sequence[VectorContract]) -> list[tuple[str, str]]:
    """Name and unit of each element; "m/s, rad/s" on two elements is one unit each."""
    found = []
    for vector in action:
        units = vector.unit.split(", ")
        if len(units) != len(vector.names):
            units = [vector.unit] * len(vector.names)
        found += list(zip(vector.names, units, strict=True))
    return found
