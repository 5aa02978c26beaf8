"""May the robot move: is the first command near enough to it, and does it follow those after?

Shape suffixes: A action dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from act_data.types import NS_PER_S
from act_model.commands import labels, velocities
from act_model.config import Contract, VectorContract
from act_model.deploy.operator import Halt
from act_model.deploy.settings import Rules, Stop
from act_model.safety import Limits


class Gates:
    """Compares where the robot is with where it is told to be; positions only.

    Attributes:
        shape: (A,), of everything that is compared.
    """

    def __init__(self, contract: Contract, rules: Rules, limits: Limits) -> None:
        self._rules = rules
        self._limits = limits
        self._names = [name for vector in contract.action for name in vector.names]
        self._span_A = _spans(limits.high - limits.low, contract.action)
        self._positions_A = ~velocities(contract.action)
        self._away_ns: int | None = None
        self.shape = self._span_A.shape

    def first(self, wanted_A: NDArray[np.float32], at_A: NDArray[np.float32]) -> Halt | None:
        """Why a robot at `at_A` must not be told `wanted_A` as the first thing."""
        rules, limits = self._rules, self._limits
        worst, share = self._farthest(np.abs(wanted_A - at_A))
        if rules.first_command == "refuse" and share > rules.first_tolerance:
            return Halt(
                Stop.FIRST_COMMAND,
                f"the first command for {self._names[worst]} is {wanted_A[worst]:.3f}, the robot "
                f"is at {at_A[worst]:.3f}: {share:.0%} of its range away, "
                f"{rules.first_tolerance:.0%} are allowed",
            )
        worst, share = self._farthest(np.maximum(limits.low - at_A, at_A - limits.high))
        if share <= rules.first_tolerance:
            return None
        return Halt(  # no way leads in from there that is known
            Stop.FIRST_COMMAND,
            f"the robot is at {at_A[worst]:.3f} with {self._names[worst]}, whose limits "
            f"are {limits.low[worst]:.3f} to {limits.high[worst]:.3f}",
            "The training data holds it there: bring it to that place."
            if limits.low[worst] == limits.high[worst]
            else "Bring it within them, or widen them by a larger share of its "
            "demonstrated range: --margin.",
        )

    def following(
        self, sent_A: NDArray[np.float32], at_A: NDArray[np.float32], now_ns: int
    ) -> Halt | None:
        """Why to give up a robot at `at_A` that was told `sent_A`, asked at every tick."""
        rules = self._rules
        worst, share = self._farthest(np.abs(sent_A - at_A))
        if not rules.tracking_tolerance or share <= rules.tracking_tolerance:
            self._away_ns = None
            return None
        if self._away_ns is None:
            self._away_ns = now_ns
        if now_ns - self._away_ns <= rules.tracking_s * NS_PER_S:
            return None
        return Halt(
            Stop.TRACKING,
            f"the robot does not follow: {self._names[worst]} was sent to {sent_A[worst]:.3f} and "
            f"is at {at_A[worst]:.3f}",
        )

    def _farthest(self, away_A: NDArray[np.float32]) -> tuple[int, float]:
        """The position that is farthest away, and by which share of its range."""
        share_A = np.nan_to_num(away_A / self._span_A)  # infinity stays very large
        share_A = np.where(self._positions_A, share_A, 0.0)
        worst = int(share_A.argmax())
        return worst, float(share_A[worst])


def _spans(range_A: NDArray[np.float32], action: Sequence[VectorContract]) -> NDArray[np.float64]:
    """(A,) what a tolerance is a share of: the range of each element.

    A joint that hardly moved in any demonstration has next to none, and rests a little beside it:
    for such a one it is a tenth of the largest range of those with its unit.
    """
    units = np.array([unit for _, unit in labels(action)])
    span_A = np.maximum(range_A, 1e-6).astype(np.float64)
    largest_A = np.array([span_A[units == unit].max() for unit in units])
    return np.maximum(span_A, 0.1 * largest_A)
