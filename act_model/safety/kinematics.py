"""Where an action would put the tips of a robot: forward kinematics, by Pinocchio.

Shape suffixes: A action dim, B boxes, V joints of the URDF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_model.commands import labels
from act_model.config import VectorContract
from act_model.safety.limits import Sent
from act_model.safety.records import Box
from act_model.safety.urdf import read_chain

try:
    import pinocchio
except ImportError as e:
    raise InputError(
        f"forward kinematics cannot be computed: {e}", hint="pip install 'act-toolkit[workspace]'"
    ) from None

_LISTED = 20


@dataclass(frozen=True, slots=True)
class _Arm:
    """The joints that move some of the boxes' frames.

    Attributes:
        index: Positions in the action.
        joints: Positions in the URDF's joint vector.
        frames: Pinocchio's number of each frame, by box.
    """

    index: NDArray[np.intp]
    joints: NDArray[np.intp]
    frames: dict[int, int]


class Workspace:
    """Boxes that tips stay in; it tells how far out of them an action puts each."""

    def __init__(
        self,
        urdf: Path,
        boxes: Sequence[Box],
        action: Sequence[VectorContract],
        sent: Sent | None = None,
    ) -> None:
        """The boxes of frames of one URDF.

        Args:
            action: The arrays that make up the action; "puppet_left/waist" moves the joint of that
                name, or "waist".
            sent: How an element becomes the position of its joint; None: as it is.

        Raises:
            NotFoundError: There is no such URDF.
            InputError: It is none, a frame is unknown, or a joint on the way to it is not
                commanded, or twice.
        """
        self._name = str(urdf)
        try:
            self._model = pinocchio.buildModelFromXML(read_chain(urdf))
        except (ValueError, RuntimeError) as e:
            raise InputError(
                f"{urdf}: is no URDF of one robot: {' '.join(str(e).split())[:200]}",
                hint="Its links must hang together as one tree, by joints with limits and axes.",
            ) from None
        self._data = self._model.createData()
        self._rest = pinocchio.neutral(self._model)
        self._joints_V = np.zeros(self._model.nv)
        self.boxes = tuple(boxes)
        self._min_B3 = np.array([box.min for box in boxes], np.float64)
        self._max_B3 = np.array([box.max for box in boxes], np.float64)
        self._tips_B3 = np.zeros((len(boxes), 3))
        elements = labels(action)
        self._sent = sent or Sent.as_it_is(len(elements))
        self._arms = self._moved_by(elements)

    def __deepcopy__(self, memo: object) -> Workspace:
        """Itself: it remembers nothing between two actions."""
        return self

    def tips(self, action_A: NDArray[np.floating]) -> NDArray[np.float64]:
        """(B, 3) where each box's frame is, in metres; the next call overwrites it."""
        position_A = action_A * self._sent.scale + self._sent.offset
        for arm in self._arms:
            self._joints_V[arm.joints] = position_A[arm.index]
            # Not the vector itself: a joint that turns without end is a cosine and a sine in it.
            place = pinocchio.integrate(self._model, self._rest, self._joints_V)
            pinocchio.framesForwardKinematics(self._model, self._data, place)
            for box, frame in arm.frames.items():
                self._tips_B3[box] = self._data.oMf[frame].translation
        return self._tips_B3

    def beyond(self, action_A: NDArray[np.floating]) -> NDArray[np.float64]:
        """(B,) how far each frame would be out of its box, in metres; 0 inside."""
        tips_B3 = self.tips(action_A)
        out_B3 = np.maximum(np.maximum(self._min_B3 - tips_B3, tips_B3 - self._max_B3), 0)
        return np.asarray(np.sqrt(np.einsum("bi,bi->b", out_B3, out_B3)))

    def _moved_by(self, elements: list[tuple[str, str]]) -> list[_Arm]:
        model = self._model
        links = {f.name: i for i, f in enumerate(model.frames) if f.type == pinocchio.BODY}
        arms: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
        for number, box in enumerate(self.boxes):
            if box.frame not in links:
                close = get_close_matches(box.frame, links, n=1)
                raise InputError(
                    f"{self._name} has no link {box.frame!r}",
                    hint=(f"Did you mean {close[0]!r}? " if close else "")
                    + f"It has: {', '.join(list(links)[:_LISTED])}.",
                )
            frame = links[box.frame]
            moved, frames = arms.setdefault(box.stream, ({}, {}))
            frames[number] = frame
            for joint in list(model.supports[model.frames[frame].parentJoint])[1:]:
                moved[model.joints[joint].idx_v] = self._element(joint, box, elements)
        return [
            _Arm(
                index=np.array(list(moved.values()), np.intp),
                joints=np.array(list(moved), np.intp),
                frames=frames,
            )
            for moved, frames in arms.values()
        ]

    def _element(self, joint: int, box: Box, elements: list[tuple[str, str]]) -> int:
        """The one element of the action that is the position of `joint`."""
        name = self._model.names[joint]
        of_stream = f"{box.stream}/" if box.stream else ""
        found = {
            i: element
            for i, (element, unit) in enumerate(elements)
            if name in (element, element.rpartition("/")[2])
            and element.startswith(of_stream)
            and "/s" not in unit
        }
        way = f"{self._name}: {box.frame!r} hangs on joint {name!r}, which"
        if len(found) > 1:
            streams = [element.rpartition("/")[0] for element in found.values()]
            raise InputError(
                f"{way} may be {' or '.join(found.values())}",
                hint=f"Say whose it is, in the box: `stream: {streams[0]}`.",
            )
        if not found or self._model.joints[joint].nv != 1:
            whose = f" of stream {box.stream!r}" if box.stream else ""
            raise InputError(
                f"{way} is no position that the action{whose} commands",
                hint=f"It commands: {', '.join(element for element, _ in elements)}. "
                "Name a link before that joint, or make the joint fixed.",
            )
        return next(iter(found))
