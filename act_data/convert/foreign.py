"""What a dataset in another format looks like to `convert`: arrays, and episodes that give rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from act_data.records import (
    DatasetFacts,
    DatasetSchema,
    EpisodeInfo,
    PictureOrigin,
    SourceRecord,
    Split,
    StoredPicture,
)
from act_data.types import NS_PER_S, Role, Value

Format = Literal[
    "act_zarr", "act_hdf5", "aloha_hdf5", "lerobot", "replay_buffer", "robomimic"
]  # fmt: skip

_BLOCK_ROWS = 256  # of low-dimensional arrays, read at once
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignArray:
    """One array as the other format has it.

    Attributes:
        name: As the format calls it.
        target: What it becomes here when nobody says otherwise.
        shape: Of one step.
        dtype: As `Row.values` holds it; of pictures, decoded.
        encoding: How pictures lie there: "raw", "png", "jpeg", "av1", ...; "" for numbers.
        lossy: Whether that encoding has lost something.
        jpeg: Whether rows are JPEG files: "swapped" has red and blue exchanged.
        columns: Sync columns that its validity depends on, in a dataset of this toolkit.
        quality: Of JPEG files, in a dataset of this toolkit.
        original: As in `Feature`; of a dataset of this toolkit, also of pictures that lie there as
            they were recorded.
    """

    name: str
    target: str
    role: Role
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    unit: str = ""
    names: tuple[str, ...] = ()
    encoding: str = ""
    lossy: bool = False
    jpeg: Literal["", "standard", "swapped"] = ""
    columns: tuple[str, ...] = ()
    quality: int = 95
    original: StoredPicture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """The true stamps of one row, where the format keeps them; as in `Timestep`."""

    tick_ns: int
    skew_ns: NDArray[np.int64]
    reason: NDArray[np.uint8]
    index: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step: the arrays by their foreign names, and when it was, where that is known."""

    values: Mapping[str, Value]
    sync: Sync | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an episode comes from.

    Attributes:
        info: What a dataset of this toolkit says about it.
        pictures: What is known of earlier encodings, by foreign name.
    """

    source: SourceRecord
    info: EpisodeInfo | None = None
    pictures: Mapping[str, PictureOrigin] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignEpisode:
    """One episode that has not been read yet.

    Attributes:
        name: For people: a file, or its name in the file.
        origin: Says where it comes from; may read whole files to hash them.
        rows: Reads it, front to back, in bounded memory. Raises DataError or StoreError.
        split: Where the format has splits.
    """

    name: str
    length: int
    origin: Callable[[], Origin]
    rows: Callable[[], Iterator[Row]]
    task: str = ""
    split: Split | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A dataset in another format, opened.

    Attributes:
        variant: The kind of files, in the format's own words.
        fps: None where the format does not say.
        simulated: None where the format does not say.
        schema: Of a dataset of this toolkit, also where another format kept it for us.
        left_out: Arrays that have no place here, and why.
        broken: Episodes that cannot be read, and why.
        notes: Sentences for people.
        facts: What is said of it, where the format keeps that.
    """

    kind: Format
    variant: str
    robot: str
    arrays: Sequence[ForeignArray]
    episodes: Sequence[ForeignEpisode]
    fps: float | None = None
    simulated: bool | None = None
    stamps: Literal["recorded", "nominal"] = "nominal"
    schema: DatasetSchema | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    facts: DatasetFacts = field(default_factory=DatasetFacts)
    notes: Sequence[str] = ()
    close: Callable[[], None] = lambda: None


def blocks(length: int, step_bytes: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of rows that together are [0, length), each small enough to hold."""
    rows = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(step_bytes, 1)))
    for start in range(0, length, rows):
        yield start, min(start + rows, length)


def nominal_ns(row: int, fps: float) -> int:
    """When row `row` is by its number alone: exact, so that nothing drifts."""
    return round(Fraction(row * NS_PER_S) / Fraction(str(fps)))


def digest_of_files(files: Sequence[Path]) -> str:
    """sha256 over the bytes of `files`, in order."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while block := file.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()
