"""Video files, written and read from front to back. The only door to PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError, InputError, StoreError
from act_data.store.files import open_regular
from act_data.store.jpeg import MAX_PIXELS

# Errors only: the encoder would write its settings into the terminal.
os.environ.setdefault("SVT_LOG", "1")

import av  # after the variable that its library reads

VideoCodec = Literal["av1", "h264"]

# As LeRobot encodes: a key frame every second frame, so that any frame is near one.
_ENCODERS: dict[VideoCodec, tuple[str, dict[str, str]]] = {
    "av1": ("libsvtav1", {"g": "2", "crf": "30", "preset": "12"}),
    "h264": ("libx264", {"g": "2", "crf": "23", "preset": "medium"}),
}
_DECODED = {"av1", "h264", "hevc", "vp9", "mpeg4"}
# Titles that are no UTF-8 are no reason to refuse pictures; from PyAV 19 on they never are one.
_ODD_TEXT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
_SEEK_S = 2.0  # further ahead than that it is cheaper to jump


def choose_codec(wanted: VideoCodec | None) -> VideoCodec:
    """`wanted`, or AV1 where this build of PyAV can encode it, else H.264.

    Raises:
        InputError: It cannot encode what is wanted.
    """
    able = [codec for codec, (name, _) in _ENCODERS.items() if name in av.codecs_available]
    if not able or (wanted is not None and wanted not in able):
        raise InputError(
            f"this build of PyAV cannot encode {wanted or 'video'}; it can {able or 'neither'}",
            hint="Use --pictures image, or PyAV's own wheels.",
        )
    return wanted or able[0]


class VideoWriter:
    """One video file. Frame i is at exactly i / fps: times are counted, never added up.

    Raises:
        InputError: Pictures of this size cannot be encoded.
        StoreError: The file cannot be written.
    """

    def __init__(self, path: Path, fps: int, shape: tuple[int, ...], codec: VideoCodec) -> None:
        height, width = shape[:2]
        if height % 2 or width % 2:
            raise InputError(
                f"pictures of {height} x {width} cannot be video: a side is odd",
                hint="Use --pictures image.",
            )
        self.path = path
        self.frames = 0
        self.bytes = 0
        self._fps = fps
        name, options = _ENCODERS[codec]
        with _writes(path):
            self._container = av.open(str(path), "w", format="mp4")
            stream = self._container.add_stream(name, rate=fps, options=options)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = Fraction(1, fps)
        self._stream = stream

    def append(self, picture: NDArray[np.generic]) -> None:
        """Encode `picture`, (H, W, 3) uint8 RGB."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = self.frames, Fraction(1, self._fps)
        self.frames += 1
        self._mux(frame)

    def close(self) -> None:
        """Complete the file and count what is in it.

        Raises:
            StoreError: It does not hold every frame.
        """
        self._mux(None)
        with _writes(self.path):
            self._container.close()
        found = count_frames(self.path)
        if found != self.frames:
            raise StoreError(
                f"{str(self.path)!r} holds {found} frames of {self.frames} that were encoded",
                hint="Use another --video-codec, or --pictures image.",
            )

    def abandon(self) -> None:
        """Let go of the file, whatever is in it."""
        with _writes(self.path):
            if self.frames:  # the encoder complains about an end that it was not told of
                self._mux(None)
            self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        with _writes(self.path):
            for packet in self._stream.encode(frame):
                self.bytes += packet.size
                self._container.mux(packet)


def count_frames(path: Path) -> int:
    """Frames in a video file, without decoding them."""
    with av.open(str(path), format="mp4") as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


class VideoReader:
    """One video file that may have been made by anybody, read at times that mostly grow.

    Raises:
        DataError: It is no video in an MP4 file, or its pictures have another shape.
    """

    def __init__(self, root: str, key: str, fps: float, shape: tuple[int, ...]) -> None:
        self.key = key
        self._shape = shape
        self._half = 0.5 / fps
        try:
            fd, _ = open_regular(root, key)
        except FileNotFoundError as e:
            raise DataError(f"video {key!r} is missing") from e
        with ExitStack() as undo, self._reads():
            self._file = undo.enter_context(os.fdopen(fd, "rb"))
            # The format is named: a playlist that pretends to be an .mp4 would open other files.
            self._container = undo.enter_context(
                av.open(self._file, "r", format="mp4", **_ODD_TEXT)
            )
            if not self._container.streams.video:
                raise DataError(f"video {key!r} has no picture stream")
            self._stream = self._container.streams.video[0]
            # None where FFmpeg does not know the codec, whatever the types say.
            context: av.VideoCodecContext | None = self._stream.codec_context
            codec = "an unknown codec" if context is None else context.codec.canonical_name
            if context is None or codec not in _DECODED or not self._stream.time_base:
                raise DataError(f"video {key!r} is in {codec}, which is not read here")
            self._check_shape(context.height, context.width)
            self._stream.thread_type = "AUTO"
            undo.pop_all()
        self._frames = self._decoded()
        self._next: av.VideoFrame | None = None
        self._at = 0.0

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def at(self, seconds: float) -> NDArray[np.uint8]:
        """The picture at `seconds`, (H, W, 3) uint8 RGB.

        Raises:
            DataError: There is none within half a frame, or the file is damaged.
        """
        with self._reads():
            if seconds < self._at - self._half or seconds > self._at + _SEEK_S:
                self._jump(seconds)
            while True:
                frame = self._next or next(self._frames, None)
                if frame is None:
                    raise DataError(f"video {self.key!r} ends before {seconds:.4f} s")
                time = float(frame.pts * self._stream.time_base)
                if time > seconds + self._half:
                    self._next = frame
                    raise DataError(f"video {self.key!r} has no frame at {seconds:.4f} s")
                self._next, self._at = None, time
                if time >= seconds - self._half:
                    self._check_shape(frame.height, frame.width)
                    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        return (f for f in self._container.decode(self._stream) if f.pts is not None)

    def _jump(self, seconds: float) -> None:
        """To the key frame before `seconds`."""
        assert self._stream.time_base is not None
        offset = int(max(seconds - self._half, 0.0) / self._stream.time_base)
        self._container.seek(offset, stream=self._stream)
        self._frames, self._next = self._decoded(), None

    def _check_shape(self, height: int, width: int) -> None:
        if (height, width, 3) != self._shape or height * width > MAX_PIXELS:
            raise DataError(
                f"video {self.key!r} has pictures of {height} x {width}, not {self._shape}"
            )

    def _reads(self) -> _Errors:
        return _Errors(self.key, None)


class _Errors:
    """What PyAV makes of FFmpeg's errors, as ours."""

    def __init__(self, what: str, path: Path | None) -> None:
        self._what, self._path = what, path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not isinstance(error, av.FFmpegError):
            return
        if self._path is not None:
            raise StoreError(
                f"cannot write {str(self._path)!r}: {error.strerror}",
                hint="Make room on the disk, or check the permissions, and run it again.",
            ) from error
        raise DataError(f"video {self._what!r} is damaged: {error.strerror}") from error


def _writes(path: Path) -> _Errors:
    return _Errors("", path)
