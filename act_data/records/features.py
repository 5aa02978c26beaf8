"""What every episode of a dataset has in common: its arrays, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from act_data.records.base import Record
from act_data.types import ClockPolicy, Role, SyncPolicy

FORMAT_NAME = "act-zarr"
FORMAT_VERSION = 1

Codec = Literal["none", "jpeg", "zstd", "blosc", "raw"]

# The sync arrays that every dataset carries beside those of its robot.
TIMESTAMP = "timestamp"  # (N,) int64 ns, time of the tick
SYNC_SKEW = "sync_skew"  # (N, K) int64 ns, sample stamp minus tick
SYNC_REASON = "sync_reason"  # (N, K) uint8, Reason
SYNC_INDEX = "sync_index"  # (N, K) int64, sample number in its stream


class StoredPicture(Record):
    """How pictures lay in a dataset."""

    height: int
    width: int
    codec: Codec
    quality: int = 95


class Feature(Record):
    """One array of a dataset.

    Attributes:
        name: "qpos", "action", "images/cam_high", "depth/cam_high", "timestamp", ...
        shape: Of one step, without time.
        codec: How it is stored: "none" for low-dimensional arrays (uncompressed).
        quality: JPEG quality, for "jpeg".
        columns: Sync columns (names) on whose validity a row of this array depends.
        original: How pictures lay in the dataset that they were copied from, when they do not lie
            so here. A policy on a robot must see what they went through.
    """

    name: str
    role: Role
    dtype: Literal["float32", "uint8", "uint16", "int64"]
    shape: tuple[int, ...]
    unit: str = ""
    names: tuple[str, ...] = ()
    codec: Codec = "none"
    quality: int = 95
    columns: tuple[str, ...] = ()
    original: StoredPicture | None = None


class SyncColumn(Record):
    """One column of the sync arrays: a stream in the role in which it is used.

    Attributes:
        name: The stream's name; with ":action" appended when the stream serves both roles.
    """

    name: str
    stream: str
    role: Role


class StreamSync(Record):
    """How one stream was picked: part of what a policy was trained to expect."""

    policy: SyncPolicy
    tolerance_ms: float
    required: bool = True


class DatasetSchema(Record):
    """What every episode of a dataset has in common.

    Attributes:
        robot: Preset name.
        action_shift: `action[t]` is the command at tick `t + action_shift`.
        latency_ms: How long a tick could wait for a late sample.
        stamps: "nominal": no stamp was recorded, row i is at i / fps after the episode's begin.
        simulated: Recorded in a simulator: the `sim` attribute of ALOHA files.
        features: All arrays, the four sync arrays included.
        columns: The K sync columns, in order.
        streams: By stream name.
        color_order: Always "rgb" in this format.
    """

    robot: str
    fps: float
    action_shift: int = 0
    clock: ClockPolicy = ClockPolicy.AUTO
    latency_ms: float = 250.0
    features: tuple[Feature, ...]
    columns: tuple[SyncColumn, ...] = ()
    streams: Mapping[str, StreamSync] = Field(default_factory=dict)
    color_order: Literal["rgb"] = "rgb"
    stamps: Literal["recorded", "nominal"] = "recorded"
    simulated: bool = False

    def feature(self, name: str) -> Feature:
        """The array called `name`; KeyError when there is none."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    def named(self, role: Role) -> tuple[Feature, ...]:
        """The arrays of `role`, in declaration order."""
        return tuple(f for f in self.features if f.role is role)
