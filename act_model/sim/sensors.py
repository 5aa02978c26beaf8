"""Sensors of the simulated robot: when each looks, what its clock says, when it is heard.

The three levels of realism are not measurements of one robot. `none` is a simulator as papers use
it: all sensors look at every tick, stamp exactly and are heard at once. `lab` has rates and delays
of a well-kept rig (cameras 60 Hz free-running, joints 250 Hz, clocks within 2 ms); `bad` what
recordings of one that is not show: 30 Hz cameras 40 ms late with a long tail, drops, clocks tens of
milliseconds apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_data.sources.outgoing import (
    COMPRESSED_IMAGE,
    IMAGE,
    JOINT_STATE,
    POSE,
    Outgoing,
)
from act_data.store.jpeg import encode
from act_data.types import NS_PER_MS, NS_PER_S
from act_model.sim.camera import Cameras
from act_model.sim.records import Kind, Realism, SensorTiming
from act_model.sim.tasks import Task
from act_model.sim.world import JOINTS, STEP_NS, World

Timing = Mapping[Kind, SensorTiming]

REALISM: Mapping[Realism, Timing] = {
    "none": {"camera": SensorTiming(), "joints": SensorTiming(), "objects": SensorTiming()},
    "lab": {
        "camera": SensorTiming(
            rate_hz=60, free=True, jitter_ms=0.5, latency_ms=12, tail_ms=4, drops=0.001, offset_ms=2
        ),
        "joints": SensorTiming(
            rate_hz=250, free=True, jitter_ms=0.2, latency_ms=0.7, tail_ms=0.3, offset_ms=1
        ),
        "objects": SensorTiming(
            rate_hz=100, free=True, jitter_ms=0.2, latency_ms=5, tail_ms=1, offset_ms=2
        ),
    },
    "bad": {
        "camera": SensorTiming(
            rate_hz=30,
            free=True,
            jitter_ms=4,
            latency_ms=40,
            tail_ms=25,
            drops=0.03,
            offset_ms=30,
            stamp_noise_ms=3,
        ),
        "joints": SensorTiming(
            rate_hz=100,
            free=True,
            jitter_ms=2,
            latency_ms=5,
            tail_ms=5,
            drops=0.01,
            offset_ms=20,
            stamp_noise_ms=1,
        ),
        "objects": SensorTiming(
            rate_hz=30,
            free=True,
            jitter_ms=4,
            latency_ms=30,
            tail_ms=15,
            drops=0.02,
            offset_ms=30,
            stamp_noise_ms=2,
        ),
    },
}

Look = Callable[[int, int], bytes]  # stamp_ns and seq to a payload
Joints = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Position, velocity and effort of both arms; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One topic of the robot.

    Attributes:
        look: Makes a message of the world as it is now.
    """

    topic: str
    type: str
    kind: Kind
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How the cameras draw.

    Attributes:
        cameras: Names in the scene; none means that nothing is drawn, and no OpenGL is needed.
        jpeg: Quality of compressed pictures; None for raw ones.
    """

    cameras: tuple[str, ...] = ()
    height: int = 480
    width: int = 640
    jpeg: int | None = None


class Beat:
    """The times of one sensor, drawn from a seed."""

    def __init__(self, timing: SensorTiming, rng: np.random.Generator) -> None:
        self._timing = timing
        self._rng = rng
        self._period_ns = NS_PER_S / timing.rate_hz
        phase_ns = rng.uniform(0, self._period_ns)
        self._phase_ns = phase_ns if timing.free else 0.0
        self._offset_ns = round(rng.uniform(-1, 1) * timing.offset_ms * NS_PER_MS)
        self._number = 0
        self._heard_ns = -1
        self.due_ns = self._due()

    def take(self, now_ns: int) -> tuple[int, int, int] | None:
        """(stamp, arrival, seq) of the sample taken `now_ns`; None for one that is lost."""
        timing, rng = self._timing, self._rng
        seq = self._number
        self._number += 1
        while (due_ns := self._due()) <= now_ns:  # jitter larger than a period
            self._number += 1
        self.due_ns = due_ns
        noise_ms = rng.normal(0, timing.stamp_noise_ms) if timing.stamp_noise_ms else 0.0
        tail_ms = rng.exponential(timing.tail_ms) if timing.tail_ms else 0.0
        if timing.drops and rng.random() < timing.drops:
            return None
        arrival_ns = now_ns + round((timing.latency_ms + tail_ms) * NS_PER_MS)
        # One connection delivers in order: a late message holds up the next one.
        self._heard_ns = max(self._heard_ns + 1, arrival_ns)
        stamp_ns = now_ns + self._offset_ns + round(noise_ms * NS_PER_MS)
        return stamp_ns, self._heard_ns, seq

    def _due(self) -> int:
        """When it looks next, on the grid of the physics."""
        jitter_ms = self._rng.normal(0, self._timing.jitter_ms) if self._timing.jitter_ms else 0.0
        at_ns = self._phase_ns + self._number * self._period_ns + jitter_ms * NS_PER_MS
        return max(0, round(at_ns / STEP_NS)) * STEP_NS


def sensors_of(
    world: World, out: Outgoing, pictures: Pictures, cameras: Cameras | None
) -> list[Sensor]:
    """The sensors of the robot and, for what is not seen through a camera, of its objects."""

    nothing = np.zeros(0)

    def measured() -> Joints:
        return world.qpos, world.qvel, world.effort

    def commanded() -> Joints:
        return world.commanded, nothing, nothing

    def joints(arm: int, values: Callable[[], Joints]) -> Look:
        part = slice(arm * 7, arm * 7 + 7)
        return lambda stamp_ns, seq: out.joint_state(
            stamp_ns, seq, JOINTS, *(each[part] for each in values())
        )

    def pose(number: int) -> Look:
        part = slice(number * 7, number * 7 + 7)
        return lambda stamp_ns, seq: out.pose(
            stamp_ns, seq, "world", world.objects[part][:3], world.objects[part][3:]
        )

    def camera(name: str) -> Look:
        assert cameras is not None
        if pictures.jpeg is None:
            return lambda stamp_ns, seq: out.image(stamp_ns, seq, name, cameras.picture(name))
        quality = pictures.jpeg
        return lambda stamp_ns, seq: out.compressed_image(
            stamp_ns, seq, name, encode(cameras.picture(name), quality)
        )

    jpeg = pictures.jpeg is not None
    return [
        *(
            Sensor(
                topic=f"/sim/{name}/image_raw{'/compressed' if jpeg else ''}",
                type=COMPRESSED_IMAGE if jpeg else IMAGE,
                kind="camera",
                look=camera(name),
            )
            for name in pictures.cameras
        ),
        *(
            Sensor(
                topic=f"/sim/{role}_{side}/joint_states",
                type=JOINT_STATE,
                kind="joints",
                look=joints(arm, values),
            )
            for role, values in (("puppet", measured), ("master", commanded))
            for arm, side in enumerate(("left", "right"))
        ),
        *(
            Sensor(topic=f"/sim/{name}/pose", type=POSE, kind="objects", look=pose(number))
            for number, name in enumerate(world.task.objects)
        ),
    ]


def timing_of(realism: Realism, changes: tuple[str, ...] = ()) -> Timing:
    """The timing of a level, with single values changed: "camera.offset_ms=30".

    Raises:
        InputError: A change names nothing that there is, or a value that cannot be.
    """
    timing = dict(REALISM[realism])
    for change in changes:
        path, _, text = change.partition("=")
        kind, _, field = path.partition(".")
        known = SensorTiming.model_fields
        if kind not in timing or field not in known:
            raise InputError(
                f"timing {change!r} names no sensor's value",
                hint=f"Write KIND.VALUE=NUMBER; kinds: {', '.join(timing)}; "
                f"values: {', '.join(known)}.",
            )
        try:
            values = timing[kind].model_dump() | {field: text}
            timing[kind] = SensorTiming.model_validate(values)
        except ValueError as e:
            problem = str(e).splitlines()[2].strip().split(" [type=")[0]
            raise InputError(f"timing {change!r}: {problem}", hint="Use another number.") from None
    return timing


def beats(sensors: list[Sensor], timing: Timing, task: Task, seed: int) -> list[Beat]:
    """The times of each of `sensors`, from `seed`."""
    name = int.from_bytes(task.name.encode()[:4], "little")
    return [
        Beat(timing[sensor.kind], np.random.default_rng([name, seed, number]))
        for number, sensor in enumerate(sensors)
    ]
