"""The account of what was read of damaged files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from act_data.records.base import Record


class Gap(Record):
    """A stretch of a damaged file that gave nothing.

    Attributes:
        bytes: As many as lie between what could be read before and after; of what is missing at
            the end, as many as the file promises.
    """

    offset: int
    bytes: int
    what: str


class TopicRecovery(Record):
    """What was read of one topic.

    Attributes:
        lost: Messages that the remains promise (an index, the entries behind a chunk) beyond those
            that were read.
    """

    type: str
    messages: int
    lost: int = 0


class FileRecovery(Record):
    """What was read of one storage file, and what is known to be lost.

    Attributes:
        whole: Nothing is missing: the recorder finished the file, and every message that it
            promises was read. What a killed recorder had not written yet nobody can know.
        topics: By name.
        nameless: Messages that are there, of topics whose names are lost.
        unattributed: Messages that are known to be lost, nobody knows of which topic.
        gaps: In the order of the file; at most a thousand.
        more_gaps: How many there are beyond those.
        notes: Sentences for people.
    """

    file: str
    kind: Literal["ros1", "db3", "mcap"]
    bytes: int
    whole: bool
    topics: Mapping[str, TopicRecovery] = Field(default_factory=dict)
    nameless: int = 0
    unattributed: int = 0
    gaps: tuple[Gap, ...] = ()
    more_gaps: int = 0
    notes: tuple[str, ...] = ()

    @property
    def messages(self) -> int:
        """Messages that were read, of all topics."""
        return sum(topic.messages for topic in self.topics.values())

    @property
    def lost(self) -> int:
        """Messages that are known to be lost."""
        lost = sum(topic.lost for topic in self.topics.values())
        return lost + self.nameless + self.unattributed

    @property
    def summary(self) -> str:
        """What became of the file, in a sentence."""
        if self.whole:
            return f"{self.file} is whole: {self.messages} messages"
        gaps = len(self.gaps) + self.more_gaps
        parts = (
            f"{self.messages} messages were read",
            f"{self.lost} are known to be lost" if self.lost else "",
            f"{gaps} stretches gave nothing" if gaps else "",
            *self.notes,
        )
        return f"{self.file} is damaged: {'; '.join(part for part in parts if part)}"


class RecoveredFile(Record):
    """A storage file, and the complete one that was written of it."""

    recovery: FileRecovery
    out: str
    bytes: int


class UnreadableFile(Record):
    """A file of which nothing can be read, and why."""

    file: str
    error: str
    hint: str


class RecoveryReport(Record):
    """The account of `act-data recover`."""

    files: tuple[RecoveredFile, ...]
    unreadable: tuple[UnreadableFile, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing was lost."""
        return not self.unreadable and all(file.recovery.whole for file in self.files)
