"""Where everything lies in a LeRobot dataset, and what its documents say.

v3.0  meta/info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet
      data/chunk-000/file-000.parquet            many episodes per file
      videos/<key>/chunk-000/file-000.mp4        many episodes per file, one after the other
v2.1  meta/info.json, tasks.jsonl, episodes.jsonl
      data/chunk-000/episode_000000.parquet
      videos/chunk-000/<key>/episode_000000.mp4
ours  meta/act.json, which LeRobot does not look at
both  README.md, which the Hugging Face Hub shows
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from act_data.errors import DataError
from act_data.records import DatasetFacts, DatasetSchema, EpisodeInfo, Record
from act_data.types import Role

INFO, STATS, TASKS, ACT = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/act.json"
CARD = "README.md"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
TASKS_V21, EPISODES_V21 = "meta/tasks.jsonl", "meta/episodes.jsonl"

FILES_PER_CHUNK = 1000
DOCUMENT_BYTES = 1 << 28

COUNTED = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that every dataset has; `timestamp` is frame_index / fps."""

TICK, SKEW, REASON, INDEX = "sync.timestamp_ns", "sync.skew_ns", "sync.reason", "sync.index"
"""Where true stamps are kept. No policy takes what begins with neither observation nor action."""

_FIELD = re.compile(r"\{([a-z_]+)(?::0?(\d)d)?\}")


class FeatureInfo(BaseModel):
    """One feature in `info.json`; whatever else stands there is not needed."""

    model_config = ConfigDict(frozen=True)

    dtype: str
    shape: tuple[int, ...]
    names: Any = None
    info: Any = None
    video_info: Any = None


class Info(BaseModel):
    """`meta/info.json` as far as it is needed."""

    model_config = ConfigDict(frozen=True)

    codebase_version: str
    fps: float = Field(gt=0, le=10_000, allow_inf_nan=False)
    features: Mapping[str, FeatureInfo]
    total_episodes: int = Field(ge=0)
    total_frames: int = Field(ge=0)
    chunks_size: int = Field(FILES_PER_CHUNK, ge=1)
    data_path: str = DATA
    video_path: str | None = None
    robot_type: str | None = None
    splits: Mapping[str, str] = Field(default_factory=dict)


class ActNotes(Record):
    """`meta/act.json`: what this toolkit knows about a dataset that LeRobot has no room for.

    Attributes:
        dataset_schema: Of the source; arrays that were left out are not in it.
        columns: Feature of LeRobot -> the arrays that it is made of, concatenated.
        episodes: By `episode_index`.
        facts: What was said of the source.
    """

    format: Literal["act-lerobot"] = "act-lerobot"
    format_version: Literal[1] = 1
    dataset_schema: DatasetSchema
    columns: Mapping[str, tuple[str, ...]]
    episodes: tuple[EpisodeInfo, ...]
    facts: DatasetFacts = Field(default_factory=DatasetFacts)


def key_of(name: str, role: Role) -> str:
    """What the array `name` of this toolkit is called in a LeRobot dataset."""
    if role is Role.ACTION:
        return name.replace("/", ".")
    if name == "qpos":
        return "observation.state"
    return f"observation.{name.replace('/', '.')}"


def name_of(key: str, *, picture: bool) -> str:
    """What a feature of LeRobot is called here."""
    if picture:
        return "images/" + key.removeprefix("observation.").removeprefix("images.")
    return {"observation.state": "qpos"}.get(key, key.removeprefix("observation."))


def file_key(template: str, **values: int | str) -> str:
    """`template` of info.json with its fields filled in.

    Not `str.format`: the template comes out of a file, and may name attributes or climb.

    Raises:
        DataError: It has a field that is not known, or leads out of the dataset.
    """

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise DataError(f"the path {template!r} in {INFO} has an unknown field {match[1]!r}")
        value = values[match[1]]
        return f"{value:0{match[2] or 1}d}" if isinstance(value, int) else value

    key = _FIELD.sub(fill, template)
    parts = key.split("/")
    if "{" in key or any(part in ("", ".", "..") for part in parts) or "\0" in key:
        raise DataError(f"the path {template!r} in {INFO} is none that can be followed")
    return key


def element_names(info: FeatureInfo) -> tuple[str, ...]:
    """Names of the elements of a vector: a list, or a mapping of one list; () when they miss."""
    names = info.names
    if isinstance(names, Mapping) and len(names) == 1:
        names = next(iter(names.values()))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names) if info.shape == (len(names),) else ()


def picture_shape(info: FeatureInfo) -> tuple[int, ...]:
    """(H, W, 3) of a picture feature, whichever way round it is written."""
    shape = info.shape
    if len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3):
        return (*shape[1:], shape[0])
    return shape
