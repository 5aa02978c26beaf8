"""What each feature of a LeRobot dataset becomes, and where its values are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from act_data.convert.foreign import ForeignArray
from act_data.convert.lerobot import layout
from act_data.convert.lerobot.column import Column, counted_columns
from act_data.convert.lerobot.layout import ActNotes, FeatureInfo, Info
from act_data.convert.settings import ConvertSettings
from act_data.errors import StoreError
from act_data.records import Feature
from act_data.store.files import read_whole
from act_data.types import Role

STAMPS = (layout.TICK, layout.SKEW, layout.REASON, layout.INDEX)
_NUMBERS = {"float16", "float32", "float64", "bool",
            *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """All features of a dataset.

    Attributes:
        columns: Of the tables, those that are read.
        videos, images: Picture features that are read, and their (H, W, 3).
        parts: Feature -> the arrays that were concatenated to it when it was exported, with the
            elements of each.
    """

    arrays: list[ForeignArray]
    left_out: dict[str, str]
    columns: dict[str, Column]
    videos: dict[str, tuple[int, ...]]
    images: dict[str, tuple[int, ...]]
    parts: dict[str, dict[str, slice]]


def features_of(info: Info, notes: ActNotes | None, settings: ConvertSettings) -> Features:
    """What there is, as `info` and, for a dataset that was exported here, `notes` say."""
    found = Features(
        arrays=[], left_out={}, columns=counted_columns(), videos={}, images={}, parts={}
    )
    for name, feature in info.features.items():
        if name in layout.COUNTED:
            continue
        wanted = settings.names.get(name) != ""
        if notes and name in STAMPS:
            found.columns[name] = Column(dtype=feature.dtype, shape=feature.shape)
        elif feature.dtype in ("video", "image"):
            _add_picture(found, name, feature, notes, wanted=wanted)
        elif feature.dtype not in _NUMBERS:
            found.left_out[name] = f"{feature.dtype} has no place here"
        elif name.startswith("next."):
            found.left_out[name] = "is known after the action only"
        else:
            _add_numbers(found, name, feature, notes)
            if wanted:
                found.columns[name] = Column(dtype=feature.dtype, shape=feature.shape)
    return found


def act_notes(root: str, info: Info, episodes: int) -> ActNotes | None:
    """`meta/act.json`, where it is there and still describes this dataset."""
    try:
        notes = ActNotes.model_validate_json(read_whole(root, layout.ACT, layout.DOCUMENT_BYTES))
        same = all(_fits(info.features[key], _specs(notes, key)) for key in notes.columns)
    except (FileNotFoundError, StoreError, ValidationError, KeyError):
        return None
    schema = notes.dataset_schema
    same &= (layout.TICK in info.features) == (schema.stamps == "recorded")
    return notes if same and schema.fps == info.fps and len(notes.episodes) == episodes else None


def _fits(feature: FeatureInfo, specs: list[Feature]) -> bool:
    if feature.dtype in ("video", "image"):
        return [spec.shape for spec in specs] == [layout.picture_shape(feature)]
    return sum(int(np.prod(spec.shape)) for spec in specs) == int(np.prod(feature.shape))


def _specs(notes: ActNotes | None, key: str) -> list[Feature]:
    names = notes.columns.get(key, ()) if notes else ()
    return [notes.dataset_schema.feature(name) for name in names] if notes else []


def _add_picture(
    found: Features, name: str, feature: FeatureInfo, notes: ActNotes | None, *, wanted: bool
) -> None:
    shape = layout.picture_shape(feature)
    if len(shape) != 3 or shape[2] != 3:
        found.left_out[name] = f"{feature.dtype} of shape {feature.shape} is no colour picture"
        return
    spec = next(iter(_specs(notes, name)), None)
    video = feature.dtype == "video"
    if wanted:
        (found.videos if video else found.images)[name] = shape
    if wanted and not video:
        found.columns[name] = Column(dtype="image", shape=shape)
    found.arrays.append(
        ForeignArray(
            name=name,
            target=spec.name if spec else layout.name_of(name, picture=True),
            role=Role.OBSERVATION,
            shape=shape,
            dtype=np.dtype(np.uint8),
            encoding="video" if video else "png",
            lossy=video,
            columns=spec.columns if spec else (),
        )
    )


def _add_numbers(found: Features, name: str, feature: FeatureInfo, notes: ActNotes | None) -> None:
    dtype, specs = np.dtype(feature.dtype), _specs(notes, name)
    if not specs:
        found.arrays.append(
            ForeignArray(
                name=name,
                target=layout.name_of(name, picture=False),
                role=Role.ACTION if name.startswith("action") else Role.OBSERVATION,
                shape=feature.shape,
                dtype=dtype,
                names=layout.element_names(feature),
            )
        )
        return
    parts: dict[str, slice] = {}
    start = 0
    for spec in specs:
        # Where one feature was one array it keeps its own name; parts take those of the arrays.
        own = name if len(specs) == 1 else spec.name
        stop = start + int(np.prod(spec.shape))
        parts[own] = slice(start, stop)
        start = stop
        found.arrays.append(
            ForeignArray(
                name=own,
                target=spec.name,
                role=spec.role,
                shape=spec.shape,
                dtype=dtype,
                unit=spec.unit,
                names=spec.names,
                columns=spec.columns,
            )
        )
    if len(specs) > 1:
        found.parts[name] = parts
