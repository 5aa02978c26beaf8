"""A LeRobot dataset being written: rows and pictures, then the documents that describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.convert.foreign import Row, Sync
from act_data.convert.lerobot import layout, png
from act_data.convert.lerobot.card import page
from act_data.convert.lerobot.column import Column, Held, counted_columns
from act_data.convert.lerobot.describe import Stats, flattened, of_pictures, of_rows
from act_data.convert.lerobot.files import DataFiles, Place, VideoFiles, new_file
from act_data.convert.lerobot.table_writer import EpisodesWriter, column_of, write_tasks
from act_data.convert.lerobot.video import VideoCodec
from act_data.convert.mapping import Planned, value_of
from act_data.convert.settings import ConvertSettings
from act_data.errors import DataError
from act_data.records import DatasetFacts, DatasetSchema, EpisodeInfo, Split
from act_data.stats import Histogram
from act_data.store import jpeg
from act_data.store.files import writing

Values = Mapping[str, NDArray[np.generic]]
_PICTURE_NAMES = ["height", "width", "channels"]


class Recorder:
    """Writes episodes one after the other into `root`. Holds the numbers of one episode.

    Args:
        planned: By feature of LeRobot.
        schema: Of the same arrays under the names of this toolkit.
        names: Of those arrays, by their names in the source.
        codec: Of videos; None for one PNG file per frame inside the tables.
    """

    def __init__(
        self,
        root: Path,
        planned: Sequence[Planned],
        schema: DatasetSchema,
        names: Mapping[str, str],
        settings: ConvertSettings,
        codec: VideoCodec | None,
    ) -> None:
        self._root, self._schema, self._settings, self._codec = root, schema, settings, codec
        self._planned, self._names = planned, names
        self._fps = int(schema.fps)
        self._vectors = _vectors(planned, schema)
        columns = {**self._vectors, **counted_columns()}
        pictures = [p for p in planned if p.picture]
        if codec is None:
            columns |= {p.name: Column(dtype="image", shape=p.shape) for p in pictures}
        self._data = DataFiles(root, columns, settings.data_file_mb)
        self._videos = {
            p.name: VideoFiles(
                root, p.name, p.shape, fps=self._fps, codec=codec, limit_mb=settings.video_file_mb
            )
            for p in (pictures if codec is not None else ())
            if codec is not None
        }
        self._episodes = EpisodesWriter(new_file(root, layout.EPISODES, Place(0, 0)))
        self._infos: list[EpisodeInfo] = []
        self._splits: list[Split | None] = []
        self._tasks: dict[str, int] = {}
        self._index = 0
        self._seen = {p.name: Histogram.empty(3, "uint8") for p in pictures}
        self._piece: _Piece | None = None

    def checked(self, row: Row, where: str, *, masked: bool) -> Values:
        """The values of a step by feature, pictures decoded.

        Raises:
            DataError: One does not fit, or is not finite although the step is not `masked`.
        """
        values = {}
        for p in self._planned:
            value = jpeg.pixels(value_of(p, row.values, where))
            if value.shape != p.shape:
                raise DataError(f"{where}: {p.name!r} has shape {value.shape}, not {p.shape}")
            if not masked and value.dtype == np.float32 and not np.isfinite(value).all():
                raise DataError(
                    f"{where}: {p.name!r} is not finite, and LeRobot has no mask",
                    hint="Leave masked steps out with --masked cut.",
                )
            values[p.name] = value
        return values

    def record(self, values: Values, sync: Sync | None, task: str, length: int) -> None:
        """Append a step; it begins an episode of about `length` steps if none is open."""
        if self._piece is None:
            number = self._tasks.setdefault(task, len(self._tasks))
            self._piece = _Piece(number, self._vectors, self._seen)
            self._data.begin(length)
            for files in self._videos.values():
                files.begin(length)
        piece = self._piece
        t = piece.length
        vectors = {n: np.asarray(v) for n, v in values.items() if n in self._vectors}
        if layout.TICK in self._vectors:
            assert sync is not None  # every row of such a source has it
            vectors |= _stamps(sync, self._vectors)
        row: dict[str, NDArray[np.generic] | bytes] = {**vectors, **self._counted(t, piece.task)}
        for name in self._seen:
            piece.pictures[name] += Histogram.of(values[name], 3)
            if self._codec is None:
                row[name] = png.encode(values[name])
            else:
                self._videos[name].append(values[name])
        self._data.append(row)
        piece.add(vectors)

    def end(self, info: EpisodeInfo, split: Split | None) -> int:
        """Complete the open episode, if there is one; how many that were."""
        if self._piece is None:
            return 0
        piece, number = self._piece, len(self._infos)
        stats = piece.stats()
        counted = {
            "frame_index": np.arange(piece.length)[:, None],
            "index": np.arange(self._index, self._index + piece.length)[:, None],
            "episode_index": np.full((piece.length, 1), number),
            "task_index": np.full((piece.length, 1), piece.task),
            "timestamp": self._seconds(np.arange(piece.length))[:, None],
        }
        stats |= {name: of_rows([rows]) for name, rows in counted.items()}
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [info.task],
            "length": piece.length,
            "dataset_from_index": self._index,
            "dataset_to_index": self._index + piece.length,
            **self._data.end(),
        }
        for files in self._videos.values():
            row |= files.end()
        row |= flattened(stats)
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self._episodes.append(row)
        for name, histogram in piece.pictures.items():
            self._seen[name] += histogram
        self._infos.append(info)
        self._splits.append(split)
        self._index += piece.length
        self._piece = None
        return 1

    def close(self, name: str, facts: DatasetFacts) -> None:
        """Complete every file and write the documents, those of the dataset `name`."""
        self._data.close()
        for files in self._videos.values():
            files.close()
        self._episodes.close()
        columns = {**self._vectors, **counted_columns()}
        stats = {name: of_rows(list(column_of(self._data.paths, name))) for name in columns}
        stats |= {name: of_pictures(seen, self._index) for name, seen in self._seen.items()}
        write_tasks(self._root / layout.TASKS, list(self._tasks))
        self._document(layout.STATS, stats)
        info = self._info()
        self._document(layout.INFO, info)
        notes = layout.ActNotes(
            dataset_schema=self._schema,
            columns={
                p.name: tuple(self._names[part.name] for part in p.parts) for p in self._planned
            },
            episodes=tuple(self._infos),
            facts=facts,
        )
        self._document(layout.ACT, notes.model_dump(mode="json"))
        with writing(self._root / layout.CARD, 0):
            (self._root / layout.CARD).write_text(page(name, info, facts), encoding="utf-8")

    def abandon(self) -> None:
        """Let go of videos that are still open."""
        for files in self._videos.values():
            files.abandon()

    def _document(self, key: str, document: Any) -> None:
        with writing(self._root / key, 0):
            (self._root / key).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")

    def _seconds(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        return (frames / self._fps).astype(np.float32)

    def _counted(self, t: int, task: int) -> dict[str, NDArray[np.generic]]:
        return {
            "timestamp": self._seconds(np.asarray([t])),
            "frame_index": np.asarray([t]),
            "episode_index": np.asarray([len(self._infos)]),
            "index": np.asarray([self._index + t]),
            "task_index": np.asarray([task]),
        }

    def _info(self) -> dict[str, Any]:
        features: dict[str, Any] = {}
        for p in self._planned:
            if p.picture:
                features[p.name] = self._picture_feature(p)
            else:
                names = list(p.names) or None
                features[p.name] = {"dtype": p.dtype, "shape": list(p.shape), "names": names}
        for name, column in {**self._vectors, **counted_columns()}.items():
            plain = {"dtype": column.dtype, "shape": list(column.shape), "names": None}
            features.setdefault(name, plain)
        val = sum(split == "val" for split in self._splits)
        count = len(self._infos)
        splits = {"train": f"0:{count - val}"} | ({"val": f"{count - val}:{count}"} if val else {})
        return {
            "codebase_version": "v3.0",
            "robot_type": self._schema.robot,
            "total_episodes": count,
            "total_frames": self._index,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": self._settings.data_file_mb,
            "video_files_size_in_mb": self._settings.video_file_mb,
            "fps": self._fps,
            "splits": splits,
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if self._videos else None,
            "features": features,
        }

    def _picture_feature(self, p: Planned) -> dict[str, Any]:
        feature: dict[str, Any] = {
            "dtype": "image" if self._codec is None else "video",
            "shape": list(p.shape),
            "names": _PICTURE_NAMES,
        }
        if self._codec is not None:
            feature["info"] = {
                "video.height": p.shape[0],
                "video.width": p.shape[1],
                "video.codec": self._codec,
                "video.pix_fmt": "yuv420p",
                "video.fps": self._fps,
                "video.channels": 3,
                "is_depth_map": False,
                "has_audio": False,
            }
        return feature


class _Piece:
    """One episode while it is written: what its statistics are made of."""

    def __init__(
        self, task: int, vectors: Mapping[str, Column], cameras: Mapping[str, Histogram]
    ) -> None:
        self.task = task
        self.length = 0
        self.pictures = {name: Histogram.empty(3, "uint8") for name in cameras}
        self._rows = {name: Held(column) for name, column in vectors.items()}

    def add(self, vectors: Values) -> None:
        for name, rows in self._rows.items():
            rows.append(vectors[name])
        self.length += 1

    def stats(self) -> dict[str, Stats]:
        stats = {n: of_rows([h.rows.reshape(self.length, -1)]) for n, h in self._rows.items()}
        return stats | {n: of_pictures(seen, self.length) for n, seen in self.pictures.items()}


def _vectors(planned: Sequence[Planned], schema: DatasetSchema) -> dict[str, Column]:
    vectors = {p.name: Column(dtype=p.dtype, shape=p.shape) for p in planned if not p.picture}
    if schema.stamps == "nominal":
        return vectors
    vectors[layout.TICK] = Column(dtype="int64")
    if schema.columns:
        wide = Column(dtype="int64", shape=(len(schema.columns),))
        vectors |= dict.fromkeys((layout.SKEW, layout.REASON, layout.INDEX), wide)
    return vectors


def _stamps(sync: Sync, vectors: Mapping[str, Column]) -> dict[str, NDArray[np.generic]]:
    stamps: dict[str, NDArray[np.generic]] = {layout.TICK: np.asarray([sync.tick_ns])}
    if layout.SKEW in vectors:
        stamps[layout.SKEW] = sync.skew_ns
        stamps[layout.REASON] = sync.reason.astype(np.int64)
        stamps[layout.INDEX] = sync.index
    return stamps
