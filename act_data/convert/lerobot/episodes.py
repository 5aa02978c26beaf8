"""Which rows and which frames are which episode, in the three versions of the format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from act_data.convert.lerobot import layout
from act_data.convert.lerobot.layout import Info
from act_data.convert.lerobot.table_reader import names_in, read_columns
from act_data.errors import DataError, StoreError
from act_data.records import Split
from act_data.store.files import read_whole

_PLACE = re.compile(r"meta/episodes/chunk-\d+/file-\d+\.parquet")
_SPLITS: Mapping[str, Split] = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "val",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """The frames of an episode: a file, and when its first frame is due."""

    key: str
    start_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One episode.

    Attributes:
        index: Its number in the dataset.
        key: The file of its rows, which begin there at row `start`.
        first: Number of its first row in the dataset.
        videos: By feature.
    """

    index: int
    length: int
    task: str
    key: str
    start: int
    first: int
    videos: Mapping[str, Video]


def read_info(root: str) -> Info:
    """`meta/info.json`.

    Raises:
        DataError: It is missing or damaged, or of a version that is not read here.
    """
    try:
        info = Info.model_validate_json(_document(root, layout.INFO))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{layout.INFO} of {root!r}: {where}: {first['msg']}") from e
    if not re.fullmatch(r"v(2\.[01]|3\.\d+)", info.codebase_version):
        raise DataError(
            f"{root!r} is a LeRobot dataset of version {info.codebase_version!r}",
            hint="v2.0, v2.1 and v3.x are read; lerobot converts older ones.",
        )
    return info


def read_episodes(root: str, info: Info, videos: Sequence[str]) -> list[Episode]:
    """All episodes, in order.

    Args:
        videos: Features that are kept as video.

    Raises:
        DataError: What the documents say cannot be.
    """
    if info.codebase_version.startswith("v2"):
        episodes = _version_2(root, info, videos)
    else:
        episodes = _version_3(root, info, videos)
    for number, episode in enumerate(episodes):
        if episode.index != number or episode.length < 1:
            raise DataError(
                f"episode {episode.index} of {root!r}, {episode.length} steps long, stands where "
                f"episode {number} is due"
            )
    if not episodes:
        raise DataError(f"{root!r} holds no episode")
    if len(episodes) != info.total_episodes:
        raise DataError(
            f"{root!r} has {len(episodes)} episodes, {layout.INFO} says {info.total_episodes}"
        )
    total = sum(e.length for e in episodes)
    if total != info.total_frames:
        raise DataError(f"{root!r} has {total} steps, {layout.INFO} says {info.total_frames}")
    return episodes


def split_of(info: Info, index: int) -> Split | None:
    """The split of an episode; None when there are no two to tell apart."""
    ranges: list[tuple[Split, range]] = []
    for name, text in info.splits.items():
        match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
        if match and name in _SPLITS:
            ranges.append((_SPLITS[name], range(int(match[1]), int(match[2]))))
    if {split for split, _ in ranges} != {"train", "val"}:
        return None
    return next((split for split, indices in ranges if index in indices), None)


def _version_3(root: str, info: Info, videos: Sequence[str]) -> list[Episode]:
    columns: dict[str, Any] = {
        "episode_index": int, "length": int, "tasks": list, "data/chunk_index": int,
        "data/file_index": int, "dataset_from_index": int, "dataset_to_index": int,
    }  # fmt: skip
    for key in videos:
        columns |= dict.fromkeys((f"videos/{key}/chunk_index", f"videos/{key}/file_index"), int)
        columns[f"videos/{key}/from_timestamp"] = float
    rows: list[dict[str, Any]] = []
    for path in sorted((Path(root) / "meta" / "episodes").glob("*/*.parquet")):
        key = str(path.relative_to(root))
        if _PLACE.fullmatch(key):
            rows += read_columns(root, key, columns)
    rows.sort(key=lambda row: int(row["episode_index"]))
    begins: dict[str, int] = {}
    for row in rows:
        begins.setdefault(_file(info.data_path, row, "data"), row["dataset_from_index"])
    return [
        Episode(
            index=row["episode_index"],
            length=row["dataset_to_index"] - row["dataset_from_index"],
            task=_text(row["tasks"]),
            key=(key := _file(info.data_path, row, "data")),
            start=row["dataset_from_index"] - begins[key],
            first=row["dataset_from_index"],
            videos={
                video: Video(
                    key=_file(info.video_path or layout.VIDEO, row, f"videos/{video}", video),
                    start_s=row[f"videos/{video}/from_timestamp"],
                )
                for video in videos
            },
        )
        for row in rows
    ]


def _version_2(root: str, info: Info, videos: Sequence[str]) -> list[Episode]:
    episodes = []
    first = 0
    for row in _lines(root, layout.EPISODES_V21):
        index, length, tasks = (row.get(k) for k in ("episode_index", "length", "tasks"))
        if not (isinstance(index, int) and isinstance(length, int) and index >= 0):
            raise DataError(f"{layout.EPISODES_V21} of {root!r} has the line {row!r}")
        values: dict[str, int | str] = {
            "episode_chunk": index // info.chunks_size,
            "episode_index": index,
        }
        episodes.append(
            Episode(
                index=index,
                length=length,
                task=_text(tasks),
                key=layout.file_key(info.data_path, **values),
                start=0,
                first=first,
                videos={
                    video: Video(
                        key=layout.file_key(info.video_path or "", **values, video_key=video),
                        start_s=0.0,
                    )
                    for video in videos
                },
            )
        )
        first += length
    return episodes


def tasks_of(root: str, info: Info) -> dict[int, str]:
    """Tasks by `task_index`."""
    if info.codebase_version.startswith("v2"):
        rows = list(_lines(root, layout.TASKS_V21))
    else:
        names = names_in(root, layout.TASKS)
        name = next((n for n in ("task", "__index_level_0__") if n in names), "task")
        found = read_columns(root, layout.TASKS, {"task_index": int, name: str})
        rows = [{"task_index": row["task_index"], "task": row[name]} for row in found]
    try:
        return {int(row["task_index"]): str(row["task"]) for row in rows}
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(f"the tasks of {root!r} are damaged: {e!r}") from e


def _file(template: str, row: Mapping[str, Any], what: str, video: str = "") -> str:
    return layout.file_key(
        template,
        chunk_index=row[f"{what}/chunk_index"],
        file_index=row[f"{what}/file_index"],
        **({"video_key": video} if video else {}),
    )


def _text(tasks: Any) -> str:
    texts = [task for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []
    return "; ".join(texts)


def _lines(root: str, key: str) -> list[dict[str, Any]]:
    lines = []
    for number, line in enumerate(_document(root, key).splitlines(), 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise DataError(f"{key} of {root!r}, line {number}: {e}") from e
        if not isinstance(found, dict):
            raise DataError(f"{key} of {root!r}, line {number} is no JSON object")
        lines.append(found)
    return lines


def _document(root: str, key: str) -> bytes:
    try:
        return read_whole(root, key, layout.DOCUMENT_BYTES)
    except FileNotFoundError as e:
        raise DataError(f"{root!r} has no {key}") from e
    except StoreError as e:
        raise DataError(str(e), hint=e.hint) from e
