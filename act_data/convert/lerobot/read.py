"""LeRobot datasets as a source: rows and frames in step, each file from front to back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from act_data.convert.foreign import (
    Foreign,
    ForeignArray,
    ForeignEpisode,
    Origin,
    Row,
    Sync,
    digest_of_files,
)
from act_data.convert.lerobot import layout
from act_data.convert.lerobot.episodes import Episode, read_episodes, read_info, split_of, tasks_of
from act_data.convert.lerobot.features import STAMPS, Features, act_notes, features_of
from act_data.convert.lerobot.layout import ActNotes, Info
from act_data.convert.lerobot.table_reader import TableReader
from act_data.convert.lerobot.video import VideoReader
from act_data.convert.settings import ConvertSettings
from act_data.decode.compressed import picture_file
from act_data.errors import DataError
from act_data.records import DatasetFacts, SourceRecord
from act_data.types import Value

_NONE = np.zeros(0, np.int64)


def open_lerobot(path: Path, settings: ConvertSettings) -> Foreign:
    """The dataset at `path`.

    Raises:
        DataError: It is damaged, or not what its documents say.
    """
    root = os.path.realpath(path)
    info = read_info(root)
    notes = act_notes(root, info, info.total_episodes)
    features = features_of(info, notes, settings)
    episodes = read_episodes(root, info, list(features.videos))
    rows = _Rows(root, info, features, set(tasks_of(root, info)), notes)
    schema = notes.dataset_schema if notes else None
    exported = ", exported by this toolkit" if notes else ""
    return Foreign(
        kind="lerobot",
        variant=f"{info.codebase_version}{exported}",
        robot=info.robot_type or "lerobot",
        arrays=[rows.described(array, episodes[0]) for array in features.arrays],
        episodes=[_episode(episode, rows) for episode in episodes],
        fps=info.fps,
        simulated=schema.simulated if schema else None,
        stamps=schema.stamps if schema else "nominal",
        schema=schema,
        facts=notes.facts if notes else DatasetFacts(),
        left_out=features.left_out,
        close=rows.close,
    )


def _episode(episode: Episode, rows: _Rows) -> ForeignEpisode:
    return ForeignEpisode(
        name=f"episode {episode.index}",
        length=episode.length,
        origin=lambda: rows.origin(episode),
        rows=lambda: rows.read(episode),
        task=episode.task,
        split=split_of(rows.info, episode.index),
    )


class _Rows:
    """The files that are open, and the steps that they give. Episodes are best read in order."""

    def __init__(
        self, root: str, info: Info, features: Features, tasks: set[int], notes: ActNotes | None
    ) -> None:
        self.info = info
        self._root, self._features, self._tasks, self._notes = root, features, tasks, notes
        self._table: TableReader | None = None
        self._videos: dict[str, VideoReader] = {}
        self._digests: dict[str, str] = {}

    def described(self, array: ForeignArray, first: Episode) -> ForeignArray:
        """`array` with how its pictures are encoded: by the first file, or as `info.json` says."""
        if array.name in self._features.images:
            with closing(self._open(first, [array.name])) as table:
                data = next(table.take(first.start, first.start + 1))[array.name][0]
            if data.startswith(b"\xff\xd8"):
                return replace(array, encoding="jpeg", lossy=True, jpeg="standard")
        elif array.name in self._features.videos:
            feature = self.info.features[array.name]
            details = feature.info or feature.video_info
            codec = details.get("video.codec") if isinstance(details, dict) else None
            if isinstance(codec, str) and 0 < len(codec) < 20:
                return replace(array, encoding=codec)
        return array

    def origin(self, episode: Episode) -> Origin:
        """Where `episode` comes from; reads its files whole, each once."""
        keys = [episode.key, *(video.key for video in episode.videos.values())]
        for key in keys:
            if key not in self._digests:
                try:
                    self._digests[key] = digest_of_files([Path(self._root, key)])
                except FileNotFoundError as e:
                    raise DataError(f"{key!r} is missing in {self._root!r}") from e
        joined = "".join(self._digests[key] for key in keys)
        source = SourceRecord(
            name=f"{Path(self._root).name}/{episode.index}",
            kind="lerobot",
            sha256=hashlib.sha256(joined.encode()).hexdigest(),
            files=tuple(keys),
        )
        info = self._notes.episodes[episode.index] if self._notes else None
        known = info.imported.pictures if info and info.imported else {}
        return Origin(source=source, info=info, pictures=known)

    def read(self, episode: Episode) -> Iterator[Row]:
        """The steps of `episode`."""
        table, videos = self._table_of(episode), self._videos_of(episode)
        t = 0
        for block in table.take(episode.start, episode.start + episode.length):
            self._check(block, episode, t)
            for i in range(len(block["index"])):
                values = self._numbers(block, i)
                for name, video in videos.items():
                    due = episode.videos[name].start_s + t / self.info.fps
                    values[name] = video.at(due)
                for name, shape in self._features.images.items():
                    where = f"episode {episode.index}, step {t}: {name!r}"
                    values[name] = picture_file(block[name][i], where)
                    if values[name].shape != shape:
                        raise DataError(f"{where} has shape {values[name].shape}, not {shape}")
                yield Row(values=values, sync=self._sync(block, i))
                t += 1

    def close(self) -> None:
        """Close all files."""
        for file in (self._table, *self._videos.values()):
            if file is not None:
                file.close()

    def _numbers(self, block: Mapping[str, Any], i: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for name in self._features.columns:
            if name in layout.COUNTED or name in STAMPS or name in self._features.images:
                continue
            parts = self._features.parts.get(name)
            if parts is None:
                values[name] = block[name][i]
            else:
                values |= {own: block[name][i].reshape(-1)[part] for own, part in parts.items()}
        return values

    def _sync(self, block: Mapping[str, Any], i: int) -> Sync | None:
        if self._notes is None or layout.TICK not in block:
            return None
        skew, reason, index = (
            block[name][i] if name in block else _NONE
            for name in (layout.SKEW, layout.REASON, layout.INDEX)
        )
        return Sync(
            tick_ns=int(block[layout.TICK][i].reshape(-1)[0]),
            skew_ns=skew.astype(np.int64),
            reason=reason.astype(np.uint8),
            index=index.astype(np.int64),
        )

    def _check(self, block: Mapping[str, Any], episode: Episode, t: int) -> None:
        """Whether these are the rows that the documents promise."""
        count = len(block["index"])
        steps = np.arange(t, t + count)
        wanted = {
            "episode_index": np.full(count, episode.index),
            "frame_index": steps,
            "index": episode.first + steps,
        }
        for name, want in wanted.items():
            got = block[name].reshape(-1)
            if not np.array_equal(got, want):
                at = int((got != want).argmax())
                raise DataError(
                    f"table {episode.key!r}: {name} is {got[at]} in the row of episode "
                    f"{episode.index}, step {t + at}, where {want[at]} is due"
                )
        late = np.abs(block["timestamp"].reshape(-1) - steps / self.info.fps)
        if not (late <= 0.5 / self.info.fps).all():
            raise DataError(
                f"table {episode.key!r}: timestamps of episode {episode.index} are not "
                "frame_index / fps"
            )
        unknown = set(np.unique(block["task_index"]).tolist()) - self._tasks
        if unknown:
            raise DataError(f"table {episode.key!r} has the unknown task_index {sorted(unknown)}")

    def _table_of(self, episode: Episode) -> TableReader:
        table = self._table
        if table is None or table.key != episode.key or table.passed > episode.start:
            if table is not None:
                table.close()
            self._table = None
            table = self._table = self._open(episode, self._features.columns)
        return table

    def _open(self, episode: Episode, names: Iterable[str]) -> TableReader:
        columns = {name: self._features.columns[name] for name in names}
        return TableReader(self._root, episode.key, columns)

    def _videos_of(self, episode: Episode) -> dict[str, VideoReader]:
        for name, shape in self._features.videos.items():
            key = episode.videos[name].key
            reader = self._videos.get(name)
            if reader is None or reader.key != key:
                if reader is not None:
                    self._videos.pop(name).close()
                self._videos[name] = VideoReader(self._root, key, self.info.fps, shape)
        return dict(self._videos)
