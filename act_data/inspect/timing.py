"""When the messages of one topic came, and by which clock they are stamped."""

from __future__ import annotations

from act_data.inspect.cards import ClockDomain
from act_data.records import StreamReport
from act_data.sync.account import StreamAccount
from act_data.sync.clock import StreamTime, Timeline
from act_data.sync.evidence import JUMP_NS, SPREAD_NS
from act_data.sync.track import SyncStream, Track
from act_data.types import NS_PER_MS, NS_PER_S, ClockPolicy, SyncPolicy

# The choice between header and receive time is made as the synchronizer makes it: from the first
# second, here from no fewer than so many messages and no more than so many.
_EVIDENCE_NS = NS_PER_S
_MIN_EVIDENCE = 8
_MAX_EVIDENCE = 4096
# A silence is told when it is longer than twice this (and than four periods).
_TOLERANCE_NS = 100 * NS_PER_MS
_ZERO_SHARE = 0.1
_SPREAD_MS = SPREAD_NS / NS_PER_MS
_JUMP_MS = JUMP_NS / NS_PER_MS


class Timing:
    """Counts, periods, drops and stamps of one topic, in bounded memory."""

    def __init__(self, topic: str, start_ns: int, capacity: int) -> None:
        """Args:
        start_ns: Receive time of the first message of the recording.
        capacity: Values kept for each percentile.
        """
        self.first_ns: int | None = None
        self.last_ns = start_ns
        self._start_ns = start_ns
        self._stream = SyncStream(
            name=topic, policy=SyncPolicy.HOLD, tolerance_ns=_TOLERANCE_NS, required=False
        )
        self._account = StreamAccount(self._stream, capacity)
        self._time = StreamTime(topic)
        self._timeline: Timeline | None = None
        self._own_notes = 0  # of the timeline, that say what the card's clock says
        self._held: list[tuple[int, int | None]] = []
        self._placed_ns: int | None = None
        self._headers = False

    def seen(self, recv_ns: int, stamp_ns: int | None, seq: int | None) -> None:
        """Take in one message, in order of receive time."""
        if self.first_ns is None:
            self.first_ns = recv_ns
        self.last_ns = recv_ns
        self._headers = self._headers or stamp_ns is not None
        self._account.arrived(recv_ns, stamp_ns, seq)
        if self._timeline is not None:
            self._place(self._timeline, recv_ns, stamp_ns)
            return
        self._held.append((recv_ns, stamp_ns))
        count = len(self._held)
        enough = recv_ns - self.first_ns >= _EVIDENCE_NS and count >= _MIN_EVIDENCE
        if enough or count >= _MAX_EVIDENCE:
            self._begin()

    def finish(self, end_ns: int) -> tuple[StreamReport, ClockDomain, list[str]]:
        """The account, the clock, and sentences for people; `end_ns` is the recording's end."""
        timeline = self._timeline or self._begin()
        header = bool(self._time.header)
        report = self._account.report(Track[None](self._stream), "header" if header else "receive")
        notes = timeline.notes[self._own_notes :]
        # Where a topic begins and ends is on its card.
        known = tuple(f"{self._stream.name} {what} at " for what in ("started", "stopped"))
        notes += [
            note
            for note in self._account.notes(self._time, timeline, end_ns - timeline.offset_ns)
            if not note.startswith(known)
        ]
        return report, self._domain(report), notes

    def _begin(self) -> Timeline:
        held, self._held = self._held, []
        self._timeline = timeline = (
            Timeline.choose(ClockPolicy.AUTO, {self._time: held}, [self._time], self._start_ns)
            if held
            else Timeline(ClockPolicy.RECEIVE, 0, self._start_ns)
        )
        self._own_notes = len(timeline.notes)
        for recv_ns, stamp_ns in held:
            self._place(timeline, recv_ns, stamp_ns)
        return timeline

    def _place(self, timeline: Timeline, recv_ns: int, stamp_ns: int | None) -> None:
        time_ns = timeline.place(self._time, recv_ns, stamp_ns)
        if time_ns is not None and time_ns != self._placed_ns:  # an equal one is a duplicate
            self._account.placed(time_ns)
            self._placed_ns = time_ns

    def _domain(self, report: StreamReport) -> ClockDomain:
        if not self._headers:
            return ClockDomain.NONE
        if report.zero_stamps > _ZERO_SHARE * report.received:
            return ClockDomain.ZERO
        p01, p50, p99 = report.latency_p01_ms, report.latency_p50_ms, report.latency_p99_ms
        if p01 is None or p50 is None or p99 is None:  # not one stamp that is not zero
            return ClockDomain.ZERO
        spread = p99 - p01
        if spread >= _SPREAD_MS:
            span_ms = (self.last_ns - (self.first_ns or 0)) / NS_PER_MS
            drifted = abs(report.drift_ppm or 0.0) * 1e-6 * span_ms
            odd = self._time.jumps or self._time.past or self._time.future
            if not odd and drifted >= spread / 2:
                return ClockDomain.DRIFTING
            if odd or spread >= _JUMP_MS:
                return ClockDomain.MIXED
        return ClockDomain.SHARED if abs(p50) < _JUMP_MS else ClockDomain.OTHER
