"""Idle head and tail: steps before anything was commanded to move, and after it last was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.segments.waiting import Waiting
from act_data.types import RobotSpec, Role, StepType, Timestep, Value

Vector = NDArray[Any]


class IdleTrim:
    """Leaves out the steps of an episode before its first movement and after its last one.

    A number of an action moves when it differs by more than `threshold` from where it was when
    something last moved (or from the first step). Of an array whose unit is a rate ("rad/s"), when
    it is more than `threshold` away from zero. NaN does not move. So slow movements count as soon
    as they add up, noise below the threshold never does, and what is decided depends on the steps
    so far and on nothing else.

    An episode begins with the step before the first one that moved, and ends with the last one
    that did.
    """

    def __init__(self, robot: RobotSpec, threshold: float, folder: Path) -> None:
        """Args: folder: Where steps wait that are too many for the memory; nothing stays there."""
        self._threshold = threshold
        actions = [a for a in robot.arrays if a.role is Role.ACTION and a.dtype == "float32"]
        self._places = [a.name for a in actions if "/s" not in a.unit]
        self._rates = [a.name for a in actions if "/s" in a.unit]
        self._at: dict[str, Vector] = {}  # where everything was when something last moved
        self._open = self._moved = False
        self._waiting = Waiting(folder)

    def add(self, step: Timestep) -> Iterator[Timestep]:
        """The steps that are known to belong to the episode now; FIRST begins another one."""
        if step.step_type is StepType.FIRST or not self._open:
            self.end()
            self._open = True
        if not self._moves(step):
            if not self._moved:
                self._waiting.clear()  # of the head, only its last step may count
            self._waiting.put(step)
            return
        kind = StepType.MID if self._moved else StepType.FIRST
        self._moved = True
        for waited in self._waiting.taken():
            yield replace(waited, step_type=kind)
            kind = StepType.MID
        yield replace(step, step_type=kind)

    def end(self) -> None:
        """The episode has ended: what waits was its idle tail."""
        self._waiting.clear()
        self._at = {}
        self._open = self._moved = False

    def close(self) -> None:
        """No step will come any more."""
        self._waiting.close()

    def _moves(self, step: Timestep) -> bool:
        """Whether `step` moves; if so, places are compared with its own from now on."""
        now = {name: _vector(step.action[name]) for name in self._places if name in step.action}
        moves = any(
            self._exceeds(_vector(step.action[name])) for name in self._rates if name in step.action
        )
        for name, place in now.items():
            at = self._at.get(name, place)
            self._at[name] = at = np.where(np.isnan(at), place, at)
            moves = moves or self._exceeds(place - at)
        if moves:
            for name, place in now.items():
                self._at[name] = np.where(np.isnan(place), self._at[name], place)
        return moves

    def _exceeds(self, distance: Vector) -> bool:
        return bool((np.abs(distance) > self._threshold).any())


def _vector(value: Value) -> Vector:
    assert isinstance(value, np.ndarray)
    return value
