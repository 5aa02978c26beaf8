"""Whether the messages of a file lie in it in the order in which they were received."""

from __future__ import annotations

from collections.abc import Iterable

_MAX_SPANS = 2**17


class FileOrder:
    """How far receive times go back within one channel, in the order of the file.

    Recorders write a channel's messages as they come. Where its receive times go back by a second,
    the recorder's clock was set back: in order of receive time, messages of two times then lie
    between each other, and nothing in them tells.

    Parts that follow each other in the file are kept as one, so that a file that is read from
    front to back costs one time span per channel.
    """

    def __init__(self) -> None:
        self._stretches: dict[int, _Stretch] = {}  # by their first and by their last part
        self._spans = 0
        self._back_ns = 0

    def seen(self, part: int, messages: Iterable[tuple[int, int]]) -> None:
        """Take in one part of the file.

        Args:
            part: Its number among the parts that are read, in the order of the file.
            messages: (receive time, channel) in the order of the file.
        """
        spans: dict[int, tuple[int, int]] = {}
        for recv_ns, channel in messages:
            least, largest = spans.get(channel, (recv_ns, recv_ns))
            if largest - recv_ns > self._back_ns:
                self._back_ns = largest - recv_ns
            spans[channel] = min(least, recv_ns), max(largest, recv_ns)
        if self._spans + len(spans) > _MAX_SPANS:
            return  # read in no order at all: what was seen so far has to do
        self._spans += len(spans)
        stretch = _Stretch(part, part, spans)
        before, after = self._stretches.get(part - 1), self._stretches.get(part + 1)
        if before is not None and before.last == part - 1:
            stretch = self._joined(before, stretch)
        if after is not None and after.first == part + 1:
            stretch = self._joined(stretch, after)
        self._stretches[stretch.first] = self._stretches[stretch.last] = stretch

    def back_ns(self) -> int:
        """The largest step back of any channel in what was seen so far."""
        back_ns = self._back_ns
        newest_ns: dict[int, int] = {}
        for number in sorted(self._stretches):
            stretch = self._stretches[number]
            if stretch.first != number:
                continue
            for channel, (least, largest) in stretch.spans.items():
                newest = newest_ns.get(channel, 0)
                back_ns = max(back_ns, newest - least)
                newest_ns[channel] = max(newest, largest)
        return back_ns

    def _joined(self, a: _Stretch, b: _Stretch) -> _Stretch:
        """The stretch of `a` and `b`, which follows it; costs the channels of the smaller one."""
        for end in (a.first, a.last, b.first, b.last):
            self._stretches.pop(end, None)
        small, large = sorted((a.spans, b.spans), key=len)
        for channel in small.keys() & large.keys():
            self._back_ns = max(self._back_ns, a.spans[channel][1] - b.spans[channel][0])
            (a_least, a_largest), (b_least, b_largest) = a.spans[channel], b.spans[channel]
            large[channel] = min(a_least, b_least), max(a_largest, b_largest)
            self._spans -= 1
        for channel in small.keys() - large.keys():
            large[channel] = small[channel]
        return _Stretch(a.first, b.last, large)


class _Stretch:
    """Parts that follow each other: least and largest receive time by channel."""

    __slots__ = ("first", "last", "spans")

    def __init__(self, first: int, last: int, spans: dict[int, tuple[int, int]]) -> None:
        self.first = first
        self.last = last
        self.spans = spans
