"""Whether the messages of a file lie in it in the order in which they were received."""

from __future__ import annotations

from collections.abc import Iterable


class FileOrder:
    """How far receive times go back within one channel, in the order of the file.

    Recorders write a channel's messages as they come. Where its receive times go back by a second,
    the recorder's clock was set back: in order of receive time, messages of two times then lie
    between each other, and nothing in them tells.
    """

    def __init__(self) -> None:
        # By channel: position in the file, least and largest receive time of a part.
        self._parts: dict[int, dict[int, tuple[int, int]]] = {}
        self._back_ns = 0

    def seen(self, position: int, messages: Iterable[tuple[int, int]]) -> None:
        """Take in the part of the file at `position`.

        Args:
            messages: (receive time, channel) in the order of the file.
        """
        spans: dict[int, tuple[int, int]] = {}
        for recv_ns, channel in messages:
            least, largest = spans.get(channel, (recv_ns, recv_ns))
            if largest - recv_ns > self._back_ns:
                self._back_ns = largest - recv_ns
            spans[channel] = min(least, recv_ns), max(largest, recv_ns)
        for channel, span in spans.items():
            self._parts.setdefault(channel, {})[position] = span

    def back_ns(self) -> int:
        """The largest step back of any channel in what was seen so far."""
        back_ns = self._back_ns
        for parts in self._parts.values():
            newest_ns = 0
            for _, (least, largest) in sorted(parts.items()):
                back_ns = max(back_ns, newest_ns - least)
                newest_ns = max(newest_ns, largest)
        return back_ns
