"""Data and video files of a LeRobot dataset: many episodes in one, a new one when it is full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.convert.lerobot import layout
from act_data.convert.lerobot.column import Column
from act_data.convert.lerobot.table_writer import TableWriter
from act_data.convert.lerobot.video import VideoCodec, VideoWriter

# LeRobot looks frames up by float32 seconds, to within 0.1 ms: beyond 1024 s they are too coarse.
_MAX_VIDEO_S = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Which file: `chunk-<chunk>/file-<file>`."""

    chunk: int
    file: int

    @property
    def next(self) -> Place:
        """The one that follows."""
        full = self.file == layout.FILES_PER_CHUNK - 1
        return Place(self.chunk + 1, 0) if full else Place(self.chunk, self.file + 1)


def new_file(root: Path, template: str, place: Place, **values: str) -> Path:
    """Where a file goes; its folder is made."""
    key = layout.file_key(template, chunk_index=place.chunk, file_index=place.file, **values)
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class DataFiles:
    """The rows of all episodes, in order."""

    def __init__(self, root: Path, columns: Mapping[str, Column], limit_mb: int) -> None:
        self.paths: list[Path] = []
        self._root = root
        self._columns = columns
        self._limit = limit_mb << 20
        self._place = Place(0, 0)
        self._file: TableWriter | None = None

    def begin(self, length: int) -> None:
        """An episode of about `length` rows comes: in this file if it fits."""
        if self._file is not None:
            size = self._file.size
            if size + size / max(self._file.rows, 1) * length >= self._limit:
                self._file.close()
                self._file, self._place = None, self._place.next
        if self._file is None:
            path = new_file(self._root, layout.DATA, self._place)
            self._file = TableWriter(path, self._columns)
            self.paths.append(path)

    def append(self, row: Mapping[str, NDArray[np.generic] | bytes]) -> None:
        """One row of the episode."""
        assert self._file is not None  # it has begun
        self._file.append(row)

    def end(self) -> dict[str, Any]:
        """What `meta/episodes` says about the place of the episode."""
        assert self._file is not None
        self._file.flush()
        return {"data/chunk_index": self._place.chunk, "data/file_index": self._place.file}

    def close(self) -> None:
        """Complete the last file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class VideoFiles:
    """The pictures of one camera, in order."""

    def __init__(
        self,
        root: Path,
        key: str,
        shape: tuple[int, ...],
        *,
        fps: int,
        codec: VideoCodec,
        limit_mb: int,
    ) -> None:
        self._root, self._key, self._shape = root, key, shape
        self._fps, self._codec, self._limit = fps, codec, limit_mb << 20
        self._place = Place(0, 0)
        self._file: VideoWriter | None = None
        self._first = 0

    def begin(self, length: int) -> None:
        """An episode of about `length` frames comes: in this file if it fits."""
        file = self._file
        if file is not None and file.frames:
            full = file.bytes + file.bytes / file.frames * length >= self._limit
            if full or file.frames + length > _MAX_VIDEO_S * self._fps:
                file.close()
                self._file, self._place = None, self._place.next
        if self._file is None:
            path = new_file(self._root, layout.VIDEO, self._place, video_key=self._key)
            self._file = VideoWriter(path, self._fps, self._shape, self._codec)
        self._first = self._file.frames

    def append(self, picture: NDArray[np.generic]) -> None:
        """One frame of the episode."""
        assert self._file is not None  # it has begun
        self._file.append(picture)

    def end(self) -> dict[str, Any]:
        """What `meta/episodes` says about the place of the episode: times from whole frames."""
        assert self._file is not None
        return {
            f"videos/{self._key}/chunk_index": self._place.chunk,
            f"videos/{self._key}/file_index": self._place.file,
            f"videos/{self._key}/from_timestamp": self._first / self._fps,
            f"videos/{self._key}/to_timestamp": self._file.frames / self._fps,
        }

    def close(self) -> None:
        """Complete the last file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        """Let go of the last file."""
        if self._file is not None:
            self._file.abandon()
            self._file = None
