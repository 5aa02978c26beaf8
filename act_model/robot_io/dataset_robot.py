"""A stored episode that plays the robot. It delivers what training saw, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_REASON, TIMESTAMP
from act_data.types import Reason
from act_model.config import Contract
from act_model.robot_io.interface import RobotObservation
from act_model.robot_io.offer import (
    as_in_training,
    cameras_of,
    columns_of,
    observed,
    offered_by,
)


class DatasetRobot:
    """One stored episode, row by row."""

    def __init__(self, reader: DatasetReader, episode: int, policy: Contract) -> None:
        """Row 0 is next.

        Args:
            reader: Where the episode is stored.
            episode: Position in `reader.episodes`.
            policy: Only the arrays that it names are read.

        Raises:
            InputError: There is no such episode.
        """
        if not 0 <= episode < len(reader.episodes):
            raise InputError(
                f"{reader.path} has no episode {episode!r}",
                hint=f"It has episodes 0 to {len(reader.episodes) - 1}.",
            )
        self._reader = reader
        self._episode = episode
        self._policy = policy
        self._cameras = cameras_of(policy)
        self._observed = observed(policy)
        self._acted = [v.name for v in policy.action]
        self._length = reader.episodes[episode].length
        self._row = 0
        self._track: _Track | None = None

    keeps_time = False

    @property
    def contract(self) -> Contract:
        """All that the dataset holds."""
        return offered_by(self._reader.schema, self._policy)

    def observe(self) -> RobotObservation | None:
        """The next row; None after the last."""
        if self._track is None:
            self._track = _Track.read(self._reader, self._episode, self._observed, self._acted)
        if self._row >= self._length:
            return None
        row = self._row
        self._row += 1
        track = self._track
        return RobotObservation(
            tick=row,
            tick_ns=int(track.tick_ns[row]),
            first=row == 0,
            valid=bool(track.seen[row]),
            arrays=lambda: {name: self._seen(name, row) for name in self._observed},
            demonstrated=track.action[row].copy() if track.acted[row] else None,
        )

    def _seen(self, name: str, row: int) -> NDArray[np.generic]:
        value: NDArray[np.generic] = self._reader.read(name, self._episode, row, row + 1)[0]
        camera = self._cameras.get(name)
        if camera is None:
            return value
        return as_in_training(value, self._reader.schema.feature(name), camera)

    def close(self) -> None:
        """Nothing is held open."""
        self._row = self._length


@dataclass(frozen=True, slots=True)
class _Track:
    """What is known of all rows of an episode before a picture is read."""

    tick_ns: NDArray[np.int64]
    seen: NDArray[np.bool_]
    acted: NDArray[np.bool_]
    action: NDArray[np.float32]

    @staticmethod
    def read(
        reader: DatasetReader, episode: int, observed: Sequence[str], acted: Sequence[str]
    ) -> _Track:
        action = np.concatenate([reader.read(name, episode) for name in acted], axis=1)
        return _Track(
            reader.read(TIMESTAMP, episode).astype(np.int64),
            _all_ok(reader, episode, observed),
            _all_ok(reader, episode, acted) & np.isfinite(action).all(axis=1),
            action.astype(np.float32),
        )


def _all_ok(reader: DatasetReader, episode: int, names: Sequence[str]) -> NDArray[np.bool_]:
    """(T,) whether every stream behind the arrays `names` was validly synchronised."""
    columns = columns_of(reader.schema, names)
    if not columns:
        return np.ones(reader.episodes[episode].length, np.bool_)
    ok: NDArray[np.bool_] = (reader.read(SYNC_REASON, episode)[:, columns] == Reason.OK).all(axis=1)
    return ok
