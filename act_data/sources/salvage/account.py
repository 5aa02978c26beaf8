"""What a damaged file gave and what it lost, put together while it is scanned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from act_data.records import FileRecovery, Gap, TopicRecovery
from act_data.sources.storage import Channel, Kind, readable

_MAX_GAPS = 1000


class Account:
    """The account of one file.

    Attributes:
        found: Messages that were read, by channel id.
        finished: Whether the recorder finished the file.
        unattributed: Messages that are known to be lost, of whatever topic.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.found: Counter[int] = Counter()
        self.finished = False
        self.unattributed = 0
        self._path = path
        self._kind = kind
        self._promised: Counter[int] = Counter()
        self._lost_in_parts: Counter[int] = Counter()
        self._gaps: list[Gap] = []
        self._more_gaps = 0
        self._notes: list[str] = []

    def gap(self, offset: int, stop: int, what: str) -> None:
        """Note a stretch from `offset` to `stop` that gave nothing."""
        if len(self._gaps) < _MAX_GAPS:
            self._gaps.append(Gap(offset=offset, bytes=stop - offset, what=what))
        else:
            self._more_gaps += 1

    def note(self, text: str) -> None:
        """Add a sentence for people."""
        self._notes.append(text)

    def part(self, promised: Mapping[int, int], found: Mapping[int, int]) -> None:
        """Compare what the entries behind one chunk promise with what was read of it."""
        for channel, count in promised.items():
            if count > found.get(channel, 0):
                self._lost_in_parts[channel] += count - found.get(channel, 0)

    def index(self, promised: Mapping[int, int]) -> None:
        """Take in what the whole index of the file promises: it knows better than its parts."""
        self._promised.update(promised)

    def report(self, channels: Sequence[Channel]) -> FileRecovery:
        """The account, when everything was scanned."""
        named = {channel.id for channel in channels}
        lost = self._lost_in_parts
        if self._promised:
            lost = Counter({c: n - self.found[c] for c, n in self._promised.items()})
        topics: dict[str, TopicRecovery] = {}
        for channel in sorted(channels, key=lambda c: (c.topic, c.id)):
            before = topics.get(channel.topic)
            topics[channel.topic] = TopicRecovery(
                type=channel.type,
                messages=self.found[channel.id] + (before.messages if before else 0),
                lost=max(0, lost[channel.id]) + (before.lost if before else 0),
            )
        nameless = sum(n for c, n in self.found.items() if c not in named)
        unattributed = self.unattributed
        unattributed += sum(n for c, n in lost.items() if c not in named and n > 0)
        loss = nameless or unattributed or self._gaps or any(t.lost for t in topics.values())
        return FileRecovery(
            file=readable(str(self._path)),
            kind=self._kind,
            bytes=self._path.stat().st_size,
            whole=self.finished and not loss,
            topics=topics,
            nameless=nameless,
            unattributed=unattributed,
            gaps=tuple(self._gaps),
            more_gaps=self._more_gaps,
            notes=tuple(self._notes),
        )
