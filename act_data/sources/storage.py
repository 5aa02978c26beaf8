"""What every storage file has in common: channels, messages in log order, bounds, honest errors."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from act_data.errors import ActError, DataError
from act_data.records import FileRecovery
from act_data.sources.bounds import MAX_DEFINITION_BYTES, MAX_TEXT_BYTES

Kind = Literal["ros1", "db3", "mcap"]
Encoding = Literal["ros1", "cdr"]

MAGIC: dict[Kind, bytes] = {
    "ros1": b"#ROSBAG V2.0\n",
    "db3": b"SQLite format 3\x00",
    "mcap": b"\x89MCAP0\r\n",
}
SIDES = ("-wal", "-journal")  # of what SQLite leaves beside a database that was not closed
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

RECOVER = "Read what is left of it with --recover, or write that with `act-data recover`."

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


class Texts:
    """The names and definitions that one file carries: equal ones are held once, all are bounded.

    Every method raises ValueError when together they are longer than those of any recording.
    """

    def __init__(self) -> None:
        self._held: dict[str, str] = {}
        self._bytes = 0

    def text(self, text: str) -> str:
        """`text`, held once."""
        known = self._held.get(text)
        if known is not None:
            return known
        self._bytes += len(text) + 64
        if self._bytes > MAX_TEXT_BYTES:
            raise ValueError(f"its names and definitions have more than {MAX_TEXT_BYTES} bytes")
        self._held[text] = text
        return text

    def definition(self, form: Literal["msg", "idl"], data: bytes) -> Definition:
        """The definition; one that is too long keeps its beginning, and cannot be decoded by."""
        # Comments are in whatever encoding their author had.
        text = data[: MAX_DEFINITION_BYTES + 1].decode("utf-8", "replace")
        return Definition(format=form, text=self.text(text))

    def about(self, values: Mapping[str, str]) -> Mapping[str, str]:
        """What a file says about a publisher."""
        return {self.text(name): self.text(value) for name, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One publisher's share of a topic in one file.

    Attributes:
        id: Unique in its file.
        type: Message type in the ROS 2 spelling; "" where the file names none.
        encoding: How payloads are serialised; None for what is not a ROS message (JSON, ...).
        definition: None where the recording carries no definition.
        count: Messages that the file's index promises.
        about: What else the file says of the publisher: QoS, node, latching, ...
    """

    id: int
    topic: str
    type: str
    encoding: Encoding | None
    definition: Definition | None
    count: int
    about: Mapping[str, str] = field(default_factory=dict)


# recv_ns, topic, channel, and what gives the payload as long as the next item was not asked for:
# a merge holds one item of everything that is open, and only one payload.
Item = tuple[int, str, Channel, Callable[[], bytes | memoryview]]


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
    def nameless(self) -> int:
        """Messages of channels that the file does not name: nobody can ask for them."""

    @property
    def recovery(self) -> FileRecovery | None:
        """What was read of a file in whatever state; None for one that is read as it says."""

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
    if len(head) < len(MAGIC[kind]) and MAGIC[kind].startswith(head):
        raise DataError(f"{path} was cut after {len(head)} bytes", hint="Record it again.")
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


def why(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def readable(name: str) -> str:
    """`name` as UTF-8: what a file system holds that is none is written like \\xff."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


@contextmanager
def chunk_at(offset: int) -> Iterator[None]:
    """Say of whatever is wrong with a chunk where it lies."""
    try:
        yield
    except DAMAGE as e:
        raise ValueError(f"in the chunk at byte {offset}: {why(e)}") from e


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
        raise DataError(
            f"{path} is damaged or was cut: {why(e)}",
            hint=RECOVER,
        ) from e


def merged(
    starts: NDArray[np.uint64], open_part: Callable[[int], Iterator[Item]]
) -> Iterator[Item]:
    """The items of all parts ordered by (recv_ns, topic), then by the order of the parts.

    A part is opened when its first time is reached and dropped when it is exhausted, so that
    memory holds only the parts that overlap.

    Args:
        starts: First receive time of each part.
        open_part: Gives the items of a part by its number.
    """
    waiting = np.argsort(starts, kind="stable")
    heap: list[tuple[int, str, int, Item, Iterator[Item]]] = []
    opened = 0
    while heap or opened < len(waiting):
        while opened < len(waiting):
            number = int(waiting[opened])
            if heap and int(starts[number]) > heap[0][0]:
                break
            opened += 1
            items = open_part(number)
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
