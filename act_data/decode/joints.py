"""sensor_msgs/JointState as a vector in a fixed joint order, matched by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError


class JointDecoder:
    """Positions, velocities or efforts of the wanted joints, whatever order a message lists.

    Drivers disagree about the order, and some list more joints than an arm has. Without declared
    joints the names of the first message fix the order; a message without names is taken as it
    is, and must have as many values as there are joints.
    """

    def __init__(self, joints: tuple[str, ...], field: str) -> None:
        self.names = joints
        self._field = field
        self._count: int | None = len(joints) or None
        self._listed: list[str] | None = None  # names of the last message, and where ours are
        self._places: NDArray[np.intp] | None = None

    def __call__(self, message: Any, _type: str, where: str) -> NDArray[np.float32] | None:
        """(D,) float32; None when velocity or effort is empty, which drivers are free to do.

        Raises:
            DataError: Ragged lengths, a wanted joint that is not there, a joint listed twice.
        """
        listed = list(message.name)
        values = np.asarray(getattr(message, self._field), dtype=np.float64)
        count = len(listed)
        lengths = len(message.position), len(message.velocity), len(message.effort)
        if not count or lengths != (count, count, count):
            self._check_lengths(message, listed, where)
        if listed and listed != self._listed:
            self._places = self._find(listed, where)
            self._listed = listed
        if values.size == 0:
            return None
        if listed:
            values = values[self._places]
        elif self._count is None:
            self._count = values.size
        if values.size != self._count:
            raise DataError(
                f"{where}: {values.size} values of {self._field} without names, "
                f"{self._count} joints are wanted: {', '.join(self.names) or 'as first seen'}",
                hint="Correct the joints in the preset.",
            )
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # becomes infinite, which is found and masked later
            return values.astype(np.float32)

    def _find(self, listed: list[str], where: str) -> NDArray[np.intp]:
        twice = sorted({name for name in listed if listed.count(name) > 1})
        if twice:
            raise DataError(
                f"{where}: joints listed twice: {', '.join(map(repr, twice))}",
                hint="Give every joint of the driver a name of its own.",
            )
        if not self.names:
            if self._count is not None and self._count != len(listed):
                raise DataError(
                    f"{where}: {len(listed)} joints, the first message had {self._count}",
                    hint="Name the joints that you want in the preset.",
                )
            self.names = tuple(listed)
            self._count = len(listed)
        missing = [name for name in self.names if name not in listed]
        if missing:
            raise DataError(
                f"{where}: no joint {', '.join(map(repr, missing))}; "
                f"the message lists {', '.join(map(repr, listed))}",
                hint="Correct the joints in the preset. Where two nodes take turns on one topic, "
                "give each a topic of its own and record again.",
            )
        return np.array([listed.index(name) for name in self.names], dtype=np.intp)

    def _check_lengths(self, message: Any, listed: list[str], where: str) -> None:
        sizes = {f: len(getattr(message, f)) for f in ("position", "velocity", "effort")}
        wanted = len(listed) or max(sizes.values())
        ragged = any(size not in (0, wanted) for size in sizes.values())
        if ragged or (self._field == "position" and not sizes["position"]):
            lengths = ", ".join(f"{size} of {f}" for f, size in sizes.items())
            raise DataError(
                f"{where}: {len(listed)} names, {lengths}",
                hint="Every list must be as long as the names; velocity and effort may be empty.",
            )
