"""Physics of two ViperX arms at a table: the only door to MuJoCo, and to the scenes of gym-aloha.

A world steps without drawing anything, so it needs no OpenGL; cameras are drawn by `camera.py`.
Commands, normalisation and contact tests are those of gym-aloha, whose stock environment draws
three 480x640 pictures at every step whatever is asked of it (332 ms; a step here is 0.5 ms).

Shape suffixes: A action dim (14), O numbers that say where the objects are (7 each).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_data.types import NS_PER_S
from act_model.sim.tasks import START_POSE, Task

# MuJoCo opens a window system's OpenGL when it is imported, unless it is told not to. Pictures are
# drawn through EGL or OSMesa, see `camera.py`.
os.environ.setdefault("MUJOCO_GL", "disable")

try:
    import mujoco
except ImportError as e:
    raise InputError(
        "the simulator is not installed", hint="pip install 'act-toolkit[sim]'."
    ) from e

__all__ = ["Kinematics", "World", "mujoco"]  # camera.py draws with the same library

RATE_HZ = 50.0  # of commands
STEP_NS = 2_000_000  # of the physics, 0.002 s in the scene files
STEPS_PER_TICK = round(NS_PER_S / RATE_HZ / STEP_NS)
JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
ACTION_DIM = 2 * len(JOINTS)

# A finger's way in metres, which is 0 to 1 in commands and observations.
GRIPPER_CLOSED, GRIPPER_OPEN = 0.01844, 0.05800
_SPAN = GRIPPER_OPEN - GRIPPER_CLOSED
_ARM, _RAW = 6, 8  # joints of an arm without its fingers, and with both

TOOL = 0.15  # metres from the gripper link to the point between the finger tips


class World:
    """One table, two arms and what lies there.

    Attributes:
        task: Which objects there are, and what is to be done with them.
        model: MuJoCo's model.
        data: Its state now.
        commanded: (A,) the newest command.
    """

    def __init__(self, task: Task) -> None:
        """Load the scene; `reset` before the first step.

        Raises:
            InputError: gym-aloha, whose scene files these are, is not installed.
        """
        self.task = task
        self.model: Any = mujoco.MjModel.from_xml_path(str(_scene(task)))
        # Shadows draw every mesh twice more, and multisampling costs as much again: 7 times in all.
        self.model.vis.quality.offsamples = 0
        self.model.vis.quality.shadowsize = 0
        self.data: Any = mujoco.MjData(self.model)
        self._names = [
            mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_GEOM, i) or ""
            for i in range(self.model.ngeom)
        ]
        self._steps = 0
        self.commanded = self._rest()

    def reset(self, seed: int) -> None:
        """Arms at rest, objects where `seed` puts them: the places that gym-aloha gives them."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[: 2 * _RAW] = START_POSE
        self.data.ctrl[:] = START_POSE
        self.data.qpos[2 * _RAW :] = self.task.place(seed)
        mujoco.mj_forward(self.model, self.data)
        self._steps = 0
        self.commanded = self._rest()

    @property
    def now_ns(self) -> int:
        """Simulated time since `reset`."""
        return self._steps * STEP_NS

    def command(self, action_A: NDArray[np.floating]) -> None:
        """Set where the joints are to go: radians, grippers 0 closed to 1 open."""
        ctrl = self.data.ctrl
        for arm in range(2):
            wanted = action_A[arm * 7 : arm * 7 + 7]
            finger = wanted[_ARM] * _SPAN + GRIPPER_CLOSED
            ctrl[arm * _RAW : arm * _RAW + _ARM] = wanted[:_ARM]
            ctrl[arm * _RAW + _ARM : (arm + 1) * _RAW] = finger, -finger
        self.commanded = np.array(action_A, np.float64)

    def advance(self, steps: int = STEPS_PER_TICK) -> None:
        """Let `steps` of the physics pass, 2 ms each.

        What is seen afterwards (contacts, poses) belongs to the new state: the first half of the
        next step is computed already, as dm_control does it.
        """
        mujoco.mj_step2(self.model, self.data)
        if steps > 1:
            mujoco.mj_step(self.model, self.data, steps - 1)
        mujoco.mj_step1(self.model, self.data)
        self._steps += steps

    @property
    def qpos(self) -> NDArray[np.float64]:
        """(A,) measured joints: radians, grippers 0 to 1."""
        raw = self.data.qpos
        arms = [[*raw[a : a + _ARM], (raw[a + _ARM] - GRIPPER_CLOSED) / _SPAN] for a in (0, _RAW)]
        return np.array([*arms[0], *arms[1]])

    @property
    def qvel(self) -> NDArray[np.float64]:
        """(A,) rad/s, grippers per second."""
        raw = self.data.qvel
        arms = [[*raw[a : a + _ARM], raw[a + _ARM] / _SPAN] for a in (0, _RAW)]
        return np.array([*arms[0], *arms[1]])

    @property
    def effort(self) -> NDArray[np.float64]:
        """(A,) what the actuators exert: N m, grippers N."""
        raw = self.data.actuator_force
        return np.array([*raw[: _ARM + 1], *raw[_RAW : _RAW + _ARM + 1]])

    @property
    def objects(self) -> NDArray[np.float64]:
        """(O,) position xyz in metres and quaternion wxyz of each object, in the task's order."""
        objects: NDArray[np.float64] = self.data.qpos[2 * _RAW :].copy()
        return objects

    @property
    def touching(self) -> frozenset[tuple[str, str]]:
        """The pairs of shapes that touch, in the order of the scene file."""
        contact = self.data.contact
        return frozenset(
            (self._names[a], self._names[b])
            for a, b in zip(contact.geom1.tolist(), contact.geom2.tolist(), strict=True)
        )

    @staticmethod
    def _rest() -> NDArray[np.float64]:
        arms = [
            [*START_POSE[a : a + _ARM], (START_POSE[a + _ARM] - GRIPPER_CLOSED) / _SPAN]
            for a in (0, _RAW)
        ]
        return np.array([*arms[0], *arms[1]])

    @property
    def reward(self) -> int:
        """0 to 4, as gym-aloha counts the stages of the task."""
        return self.task.reward(self.touching)


class Kinematics:
    """Where the tools of both arms are for given joints, and the joints for a given tool pose."""

    _DAMPING = 1e-4
    _ITERATIONS = 30
    _CLOSE = 1e-4  # metres and radians together

    def __init__(self, task: Task) -> None:
        self._model: Any = mujoco.MjModel.from_xml_path(str(_scene(task)))
        self._data: Any = mujoco.MjData(self._model)
        self._bodies = [
            mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_BODY, f"vx300s_{side}/gripper_link")
            for side in ("left", "right")
        ]
        self._range: NDArray[np.float64] = self._model.jnt_range[: 2 * _RAW].copy()

    def tool(
        self, arm: int, joints: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) and axes (3, 3) of the tool of `arm` (0 left, 1 right) at (6,) `joints`."""
        self._data.qpos[arm * _RAW : arm * _RAW + _ARM] = joints
        mujoco.mj_kinematics(self._model, self._data)
        body = self._bodies[arm]
        axes: NDArray[np.float64] = self._data.xmat[body].reshape(3, 3).copy()
        return self._data.xpos[body] + TOOL * axes[:, 0], axes

    def joints(
        self,
        arm: int,
        position: NDArray[np.float64],
        axes: NDArray[np.float64],
        near: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(6,) joints that bring the tool there, from those of `near` on (damped least squares)."""
        joints = np.array(near, np.float64)
        low, high = self._range[arm * _RAW : arm * _RAW + _ARM].T
        first = arm * _RAW
        linear, angular = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        for _ in range(self._ITERATIONS):
            here, now = self.tool(arm, joints)
            turn = _rotation_vector(axes @ now.T)
            error = np.concatenate([position - here, turn])
            if np.abs(error).max() < self._CLOSE:
                break
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jac(self._model, self._data, linear, angular, here, self._bodies[arm])
            jacobian = np.concatenate([linear, angular])[:, first : first + _ARM]
            square = jacobian @ jacobian.T + self._DAMPING * np.eye(6)
            joints = np.clip(joints + jacobian.T @ np.linalg.solve(square, error), low, high)
        return joints


def _rotation_vector(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis times angle of a rotation below half a turn."""
    skew = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    sine, cosine = np.linalg.norm(skew) / 2, (np.trace(matrix) - 1) / 2
    if sine < 1e-9:
        return np.zeros(3)
    vector: NDArray[np.float64] = skew / (2 * sine) * np.arctan2(sine, cosine)
    return vector


def _scene(task: Task) -> Path:
    found = find_spec("gym_aloha")  # its scene files only: importing it would import dm_control
    if found is None or found.origin is None:
        raise InputError(
            "the scenes of the simulator are not installed", hint="pip install 'act-toolkit[sim]'."
        )
    return Path(found.origin).parent / "assets" / task.scene


def versions() -> Mapping[str, str]:
    """Of what decides about the physics, for reports."""
    return {"mujoco": mujoco.__version__}
