"""Whatever a robot is, the policy sees of it what it saw in its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from act_data.episodes import schema_of
from act_data.observe import Observation
from act_data.records import DatasetSchema, Feature
from act_data.store.jpeg import codec_round_trip
from act_data.types import RobotSpec, StreamSpec, Timestep, Value
from act_model.commands.topics import learned_joints
from act_model.config import CameraContract, Contract
from act_model.robot_io.offer import as_in_training, cameras_of


def as_trained(robot: RobotSpec, policy: Contract) -> RobotSpec:
    """`robot` read as the dataset of `policy` was: rate, clock, and how streams are taken."""

    def stream(spec: StreamSpec) -> StreamSpec:
        sync = policy.streams.get(spec.name)
        if sync is None:
            return spec
        return replace(
            spec, policy=sync.policy, tolerance_ms=sync.tolerance_ms, required=sync.required
        )

    read = replace(
        robot,
        fps=policy.rate_hz,
        clock=policy.clock,
        action_shift=policy.action_shift,
        streams=tuple(stream(spec) for spec in robot.streams),
    )
    # A preset may leave the joint order to the first recording: the policy knows which it was.
    return learned_joints(read, (*policy.state, *policy.action))


def schema_as_trained(view: Observation, first: Timestep, policy: Contract) -> DatasetSchema:
    """As a dataset of what `view` sees would have, with the codecs of the policy's dataset.

    Args:
        first: The first step of it.
    """
    cameras = {name: c.original or c for name, c in cameras_of(policy).items()}
    schema = schema_of(
        view.robot, first, view.observer.columns, codec="raw", depth_codec="raw", quality=95
    )
    features = tuple(
        f.model_copy(update={"codec": cameras[f.name].codec, "quality": cameras[f.name].quality})
        if f.name in cameras
        else f
        for f in schema.features
    )
    return schema.model_copy(update={"features": features})


def seen_as_trained(
    value: Value, feature: Feature, cameras: Mapping[str, CameraContract]
) -> NDArray[np.generic]:
    """`value` of the array `feature` as the policy's dataset would give it back.

    Args:
        cameras: The policy's, by name of the array.
    """
    if feature.dtype == "uint8":
        stored: NDArray[np.generic] = codec_round_trip(value, feature)
    else:
        stored = np.asarray(value, feature.dtype)
    camera = cameras.get(feature.name)
    return stored if camera is None else as_in_training(stored, feature, camera)
