"""The schema of a dataset, from the robot and the first timestep that was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from act_data.records import (
    SYNC_INDEX,
    SYNC_REASON,
    SYNC_SKEW,
    TIMESTAMP,
    Codec,
    DatasetSchema,
    Feature,
    StreamSync,
    SyncColumn,
)
from act_data.types import ArraySpec, RobotSpec, Role, Timestep


def schema_of(
    robot: RobotSpec,
    first: Timestep,
    columns: Sequence[SyncColumn],
    *,
    codec: Codec,
    depth_codec: Codec,
    quality: int,
    names: Mapping[str, tuple[str, ...]] | None = None,
) -> DatasetSchema:
    """What every episode of a dataset has in common with the one that `first` opens.

    Args:
        first: Its shapes are those of the dataset; arrays that it lacks are not in it.
        columns: The observer's.
        codec: Of uint8 pictures; `depth_codec` of uint16 ones.
        names: Element names that only the recording could tell, by array.
    """
    features = [
        _feature(spec, first, columns, codec, depth_codec, quality, (names or {}).get(spec.name))
        for spec in robot.arrays
        if spec.name in first.observation or spec.name in first.action
    ]
    k = len(columns)
    every = tuple(c.name for c in columns)
    sync = {"role": Role.SYNC, "shape": (k,), "names": every}
    features += [
        Feature(name=TIMESTAMP, role=Role.SYNC, dtype="int64", shape=(), unit="ns"),
        Feature.model_validate({**sync, "name": SYNC_SKEW, "dtype": "int64", "unit": "ns"}),
        Feature.model_validate({**sync, "name": SYNC_REASON, "dtype": "uint8"}),
        Feature.model_validate({**sync, "name": SYNC_INDEX, "dtype": "int64"}),
    ]
    used = {column.stream for column in columns}
    return DatasetSchema(
        robot=robot.name,
        fps=robot.fps,
        action_shift=robot.action_shift,
        clock=robot.clock,
        features=tuple(features),
        columns=tuple(columns),
        streams={
            s.name: StreamSync(policy=s.policy, tolerance_ms=s.tolerance_ms, required=s.required)
            for s in robot.streams
            if s.name in used
        },
    )


def _feature(
    spec: ArraySpec,
    first: Timestep,
    columns: Sequence[SyncColumn],
    codec: Codec,
    depth_codec: Codec,
    quality: int,
    learned: tuple[str, ...] | None,
) -> Feature:
    arrays = first.observation if spec.role is Role.OBSERVATION else first.action
    shape = tuple(arrays[spec.name].shape)
    names = spec.names or learned or ()
    streams = {part.stream for part in spec.parts}
    return Feature(
        name=spec.name,
        role=spec.role,
        dtype=spec.dtype,
        shape=shape,
        unit=spec.unit,
        names=names if shape == (len(names),) else (),
        codec={"uint8": codec, "uint16": depth_codec}.get(spec.dtype, "none"),
        quality=quality,
        columns=tuple(c.name for c in columns if c.stream in streams and c.role is spec.role),
    )
