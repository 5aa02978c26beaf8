"""What a robot offers to a policy, and which of it the policy looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from act_data.decode import resize
from act_data.records import DatasetSchema, Feature
from act_data.store.jpeg import codec_round_trip
from act_data.types import Role
from act_model.checkpoint import contract_of
from act_model.config import CameraContract, Contract, TrainConfig


def offered_by(schema: DatasetSchema, policy: Contract | None = None) -> Contract:
    """All that a robot with the arrays of `schema` offers: every vector, every camera.

    A camera whose pictures were copied to another size before `policy` was trained on them is
    offered in that size: see `as_in_training`.
    """

    def vectors(role: Role) -> tuple[str, ...]:
        return tuple(f.name for f in schema.named(role) if len(f.shape) == 1)

    everything = TrainConfig(state=vectors(Role.OBSERVATION), action=vectors(Role.ACTION))
    offered = contract_of(schema, everything, 1)
    if policy is None:
        return offered
    return offered.model_copy(
        update={
            "cameras": _travelling(offered.cameras, policy.cameras),
            "depth": _travelling(offered.depth, policy.depth),
        }
    )


def as_in_training(
    picture: NDArray[np.generic], stored: Feature, camera: CameraContract
) -> NDArray[np.generic]:
    """`picture`, which was stored as `stored` says, after what the training data went through.

    Only a policy that was trained on a copy (`act-data cache`, `act-data convert`) needs that.
    """
    own = (camera.height, camera.width)
    was = camera.original
    if was is None or (stored.shape[:2], stored.codec) == (own, camera.codec):
        return picture
    if stored.shape[:2] != (was.height, was.width):
        return picture
    if stored.shape[:2] != own:
        picture = resize.resized(picture, own)
    if stored.dtype != "uint8":
        return picture
    form = {"shape": (*own, 3), "codec": camera.codec, "quality": camera.quality}
    return codec_round_trip(np.asarray(picture, np.uint8), stored.model_copy(update=form))


def cameras_of(policy: Contract) -> dict[str, CameraContract]:
    """The cameras of `policy` by the names of their arrays."""
    images = {f"images/{camera.name}": camera for camera in policy.cameras}
    return images | {f"depth/{camera.name}": camera for camera in policy.depth}


def _travelling(
    offered: Sequence[CameraContract], wanted: Sequence[CameraContract]
) -> tuple[CameraContract, ...]:
    """`offered`, with those that can become what is wanted as they are wanted."""
    originals = {camera.name: camera for camera in wanted if camera.original is not None}

    def reached(camera: CameraContract) -> CameraContract:
        target = originals.get(camera.name)
        if target is None or target.original is None:
            return camera
        was = (target.original.height, target.original.width)
        return target if (camera.height, camera.width) == was else camera

    return tuple(reached(camera) for camera in offered)


def columns_of(schema: DatasetSchema, names: Sequence[str]) -> list[int]:
    """Positions of the sync columns on whose validity the arrays `names` depend."""
    needed = {column for name in names for column in schema.feature(name).columns}
    return [i for i, column in enumerate(schema.columns) if column.name in needed]


def observed(policy: Contract) -> list[str]:
    """The arrays that `policy` sees, by name."""
    return [
        *(v.name for v in policy.state),
        *(f"images/{c.name}" for c in policy.cameras),
        *(f"depth/{c.name}" for c in policy.depth),
    ]
