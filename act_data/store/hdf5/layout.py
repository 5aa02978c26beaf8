"""Where everything lies in an episode file: the layout of the original ALOHA recordings.

    attributes                  sim: whether simulated, compress: whether images are JPEG
    /observations/qpos          (T, D) float32; qvel, effort and all other observations alike
    /observations/images/<cam>  (T, H, W, 3) uint8, one frame per chunk; with `compress`
                                (T, P) uint8, JPEG files padded with zeros to the longest, P
    /observations/images_depth/<cam>  (T, H, W) uint16, one frame per chunk
    /action, /base_action       (T, A) float32
    /compress_len               (cameras, T) float32, length of each JPEG file; with `compress`
    /act                        what the original does not have: timestamp, sync_skew,
                                sync_reason, sync_index; schema and record as JSON attributes

The original encodes RGB pictures with `cv2.imencode`, which takes them for BGR, and decodes them
with `cv2.imdecode`, which undoes it. So a JPEG file in here shows red and blue swapped in any
other viewer, and a camera's own JPEG cannot pass through: it is decoded and encoded again. One
that comes from another compressed ALOHA file can.
"""

from __future__ import annotations

import re
from typing import Literal

from act_data.errors import InputError
from act_data.records import (
    SYNC_INDEX,
    SYNC_REASON,
    SYNC_SKEW,
    TIMESTAMP,
    DatasetSchema,
    EpisodeRecord,
    Feature,
    Record,
)
from act_data.store import frames
from act_data.types import Role

FORMAT_NAME = "act-hdf5"
FORMAT_VERSION = 1

ACT = "act"
COMMIT = "act/commit"
COMMIT_BYTES = 4096
COMPRESS_LEN = "compress_len"
SYNC = (TIMESTAMP, SYNC_SKEW, SYNC_REASON, SYNC_INDEX)

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


class Commit(Record):
    """The version in which an episode became visible.

    It is decided when the file is finished, so it has a place of fixed size in the file: the
    array `/act/commit`, JSON padded with zeros, overwritten by one plain write. HDF5 itself
    cannot change a file without a moment in which a crash would lose all of it.

    Attributes:
        version: Its number.
        first: Number of its first new episode.
        count: New episodes in it.
        split: Of this episode.
    """

    version: int
    first: int
    count: int
    created: str
    message: str
    split: Literal["train", "val"]


class Header(Record):
    """What an episode file says about itself; `commit` is None before it is visible."""

    dataset_uid: str
    dataset_schema: DatasetSchema
    record: EpisodeRecord
    commit: Commit | None


def location(feature: Feature) -> str:
    """Where `feature` lies in the file."""
    kind, _, camera = feature.name.partition("/")
    if feature.role is Role.SYNC:
        return f"{ACT}/{feature.name}"
    if feature.role is Role.ACTION:
        return feature.name
    if kind == "depth" and camera:
        return f"observations/images_depth/{camera}"
    return f"observations/{feature.name}"


def jpeg_cameras(schema: DatasetSchema) -> list[str]:
    """The JPEG arrays in the order of the rows of `compress_len`.

    By name, since the original's readers number the cameras as HDF5 lists them.
    """
    return sorted(f.name for f in schema.features if f.codec == "jpeg")


def chunk_rows(feature: Feature) -> int:
    """Steps per chunk: one frame of a picture, up to 256 rows or 1 MiB of other arrays."""
    if feature.codec != "none":
        return 1
    return max(1, min(256, (1 << 20) // frames.step_bytes(feature)))


def check_schema(schema: DatasetSchema) -> None:
    """Whether the ALOHA layout can hold `schema`.

    Raises:
        InputError: Names the array, the value and what is possible.
    """
    taken = {"observations/images": "", "observations/images_depth": "", COMPRESS_LEN: ""}
    for feature in schema.features:
        frames.check_feature(feature)
        where = location(feature)
        parts = feature.name.split("/")
        wrong = (
            not all(_PART.fullmatch(part) for part in parts)
            or (feature.role is Role.ACTION and parts[0] in ("observations", ACT))
            or (feature.role is Role.SYNC and feature.name not in SYNC)
        )
        # One array inside another, or two in one place.
        nested = [n for at, n in taken.items() if at.startswith(f"{where}/") or at == where]
        nested += [n for at, n in taken.items() if n and where.startswith(f"{at}/")]
        if wrong or nested:
            raise InputError(
                f"array {feature.name!r} cannot lie at {where!r} of an ALOHA file",
                hint="Give it another name in the robot's preset.",
            )
        taken[where] = feature.name
        if feature.codec not in ("none", "raw", "jpeg"):
            raise InputError(
                f"array {feature.name!r} has the codec {feature.codec!r}, which the ALOHA layout "
                "does not have",
                hint="Use raw (images, depth) or jpeg (images), or write a *.zarr dataset.",
            )
    pictures = [f for f in schema.features if f.dtype == "uint8" and f.codec != "none"]
    if len({f.codec for f in pictures}) > 1:
        raise InputError(
            f"some images are JPEG and some are not: { {f.name: f.codec for f in pictures} }",
            hint="An ALOHA file has one `compress` attribute: use one codec for all cameras.",
        )
