"""Pictures of a world, drawn without a screen: through EGL, or OSMesa where there is no EGL.

Without shadows and multisampling: the scene is bound by its 60,000 triangles, of which shadows draw
each twice more. What a policy was trained on and what it sees later are drawn alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from ctypes.util import find_library
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_model.sim.world import World, mujoco

CAMERAS = (
    "top",
    "left_wrist",
    "right_wrist",
    "angle",
    "front_close",
    "left_pillar",
    "right_pillar",
)
_BACKENDS = {"egl": "EGL", "osmesa": "OSMesa"}  # and the library that each needs
_MAX_GEOMS = 1000
_INSTALL = "Debian: apt-get install libegl1 libgl1-mesa-dri libosmesa6. State needs none of it."


class Cameras:
    """Draws a world from any of its cameras, at one size."""

    def __init__(self, world: World, height: int, width: int) -> None:
        """Open a drawing context of its own.

        Raises:
            InputError: There is no OpenGL here, or the size is beyond what it draws.
        """
        self._world = world
        self.height, self.width = height, width
        world.model.vis.global_.offheight = height
        world.model.vis.global_.offwidth = width
        self._context = _context(height, width)
        self._context.make_current()
        self._drawer: Any = mujoco.MjrContext(
            world.model, mujoco.mjtFontScale.mjFONTSCALE_100.value
        )
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawer)
        self._scene: Any = mujoco.MjvScene(world.model, maxgeom=_MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._option: Any = mujoco.MjvOption()
        self._view: Any = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._rect: Any = mujoco.MjrRect(0, 0, width, height)

    def picture(self, name: str) -> NDArray[np.uint8]:
        """(H, W, 3) RGB as the camera called `name` sees the world now."""
        self._view.fixedcamid = mujoco.mj_name2id(
            self._world.model, mujoco.mjtObj.mjOBJ_CAMERA, name
        )
        self._context.make_current()
        mujoco.mjv_updateScene(
            self._world.model,
            self._world.data,
            self._option,
            None,
            self._view,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        mujoco.mjr_render(self._rect, self._scene, self._drawer)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._drawer)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL begins at the bottom

    def close(self) -> None:
        """Let go of the context."""
        self._drawer.free()
        self._context.free()


def check_cameras(names: tuple[str, ...]) -> None:
    """Refuse cameras that the scenes do not have.

    Raises:
        InputError: Names them, and those that there are.
    """
    if unknown := [name for name in names if name not in CAMERAS]:
        raise InputError(
            f"there is no camera {', '.join(map(repr, unknown))}",
            hint=f"The scenes have: {', '.join(CAMERAS)}.",
        )


def _context(height: int, width: int) -> Any:
    """A context of the first library that is there, or of the one that MUJOCO_GL names.

    PyOpenGL binds itself to one of them when it is imported, so there is no second try.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower()
    there = [name for name, library in _BACKENDS.items() if find_library(library)]
    name = asked if asked in _BACKENDS else next(iter(there), "")
    if not name:
        raise InputError("nothing can draw here: no EGL and no OSMesa", hint=_INSTALL)
    os.environ["PYOPENGL_PLATFORM"] = name
    try:
        make: Callable[[int, int], Any] = import_module(f"mujoco.{name}").GLContext
        return make(width, height)
    except (ImportError, RuntimeError, AttributeError, OSError) as e:
        others = [f"MUJOCO_GL={other}" for other in there if other != name]
        raise InputError(
            f"{name} cannot draw here: {' '.join(str(e).split()) or type(e).__name__}",
            hint=f"Set {others[0]}." if others else _INSTALL,
        ) from e
