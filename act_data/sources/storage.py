"""What every storage file has in common: channels, messages in log order, bounds, honest errors."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import zstandard

from act_data.errors import ActError, DataError

Kind = Literal["ros1", "db3", "mcap"]
Encoding = Literal["ros1", "cdr"]

MAX_MESSAGE_BYTES = 256 * 2**20
MAX_CHUNK_BYTES = 2**30

MAGIC: dict[Kind, bytes] = {
    "ros1": b"#ROSBAG V2.0\n",
    "db3": b"SQLite format 3\x00",
    "mcap": b"\x89MCAP0\r\n",
}
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

RECORD_AGAIN = {
    "ros1": "Record it again, or rebuild its index with `rosbag reindex` and try the result.",
    "db3": "Record it again, or restore it with `sqlite3 FILE .recover`.",
    "mcap": "Record it again, or repair it with `mcap recover`.",
}

# What the readers of damaged files raise, found by cutting and flipping real ones. Their own
# error classes are added by the file that calls them.
DAMAGE: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zstandard.ZstdError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """The text that declares a message type, as the recording carries it."""

    format: Literal["msg", "idl"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One publisher's share of a topic in one file.

    Attributes:
        id: Unique in its file.
        type: Message type in the ROS 2 spelling; "" where the file names none.
        encoding: How payloads are serialised; None for what is not a ROS message (JSON, ...).
        definition: None where the recording carries no definition.
        count: Messages that the file's index promises.
    """

    id: int
    topic: str
    type: str
    encoding: Encoding | None
    definition: Definition | None
    count: int


Item = tuple[int, str, Channel, bytes | memoryview]  # recv_ns, topic, channel, payload


class Storage(Protocol):
    """One opened storage file."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def channels(self) -> Sequence[Channel]:
        """Every channel, whether or not it can be decoded."""

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Receive times of the first and the last message; None without messages."""

    @property
    def compressions(self) -> Collection[str]:
        """What the parts that were read so far are compressed with; "none" for plain ones."""

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order."""

    def back_ns(self) -> int:
        """The largest step back of one channel's receive times in file order, as far as read."""

    def close(self) -> None:
        """Release the file."""


def check_magic(path: Path, kind: Kind) -> None:
    """Refuse a file that is empty or of another kind than its name says.

    Raises:
        DataError: Naming the file, what it starts with, and what to do.
    """
    with damage(path, kind), path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise DataError(f"{path} is empty (0 bytes)", hint="Record it again.")
    if head.startswith(ZSTD_MAGIC):
        raise DataError(
            f"{path} is compressed as a whole (zstd)", hint=f"Inflate it first: zstd -d {path.name}"
        )
    if kind == "ros1" and head.startswith(b"#ROSBAG V") and not head.startswith(MAGIC["ros1"]):
        version = head.split(b"\n")[0][9:].decode("ascii", "replace")
        raise DataError(
            f"{path} is a bag of version {version!r}, which is not 2.0",
            hint="Convert it with `rosbag fix` on the ROS release that wrote it.",
        )
    if not head.startswith(MAGIC[kind]):
        raise DataError(
            f"{path} is not a {kind} recording: it starts with {head[:12]!r}",
            hint="Check that the file is a recording and was copied whole.",
        )


@contextmanager
def damage(path: Path, kind: Kind, *errors: type[Exception]) -> Iterator[None]:
    """Turn whatever a reader raises on a damaged file into a DataError that names the file."""
    try:
        yield
    except ActError:
        raise
    except PermissionError as e:
        raise DataError(
            f"{path} cannot be read: {e.strerror}", hint="Ask for permission to read it."
        ) from e
    except (*DAMAGE, *errors) as e:
        detail = " ".join(str(e).split())[:200] or type(e).__name__
        raise DataError(
            f"{path} is damaged or was cut: {detail}",
            hint=RECORD_AGAIN[kind],
        ) from e


def merged(parts: Sequence[tuple[int, Callable[[], Iterator[Item]]]]) -> Iterator[Item]:
    """The items of all parts ordered by (recv_ns, topic), then by the order of the parts.

    A part is opened when its first time is reached and dropped when it is exhausted, so that
    memory holds only the parts that overlap.

    Args:
        parts: First receive time of the part, and what opens it.
    """
    waiting = sorted(range(len(parts)), key=lambda i: parts[i][0], reverse=True)
    heap: list[tuple[int, str, int, Item, Iterator[Item]]] = []
    while heap or waiting:
        while waiting and (not heap or parts[waiting[-1]][0] <= heap[0][0]):
            number = waiting.pop()
            items = parts[number][1]()
            first = next(items, None)
            if first is not None:
                heapq.heappush(heap, (first[0], first[1], number, first, items))
        if not heap:
            continue
        _, _, number, item, items = heap[0]
        yield item
        following = next(items, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following[0], following[1], number, following, items))


def inflate_zstd(data: bytes | memoryview, limit: int) -> bytes:
    """The decompressed bytes; ValueError when they are more than `limit`.

    Reads as a stream: the size that the frame itself declares is not trusted.
    """
    with zstandard.ZstdDecompressor().stream_reader(data) as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise ValueError(f"zstd data inflates to more than {limit} bytes")
    return raw
