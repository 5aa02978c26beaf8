"""The account of a synchronisation: what came, how regularly, and what the ticks made of it.

Memory is bounded however long a recording is (`values.py` says what that does to percentiles).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heappush, heappushpop
from typing import Literal

import numpy as np

from act_data.records import StreamReport
from act_data.sync.clock import StreamTime, Timeline
from act_data.sync.evidence import JUMP_NS
from act_data.sync.track import NEVER, SyncStream, Track
from act_data.sync.values import CAPACITY, Values
from act_data.types import NS_PER_MS, NS_PER_S, Frame, Pick, Reason, SyncPolicy, T

# More drops than this share of the samples are no drops: the median is no period then (messages in
# bursts, two publishers that take turns).
_DROPPED_SHARE = 0.5
# Messages that came too late are told from this share on.
_LATE_SHARE = 0.01
# A silence is told when it is longer than this many periods and than two tolerances.
_SILENT_PERIODS = 4
_NOTED_SILENCES = 5


class FrameAccount:
    """What became of the ticks.

    Attributes:
        ticks: Frames that left.
        valid: How many of them were valid.
        longest_invalid_run: In ticks.
        spread: Largest minus smallest camera stamp of valid frames.
    """

    def __init__(self, cameras: Sequence[str]) -> None:
        self.ticks = 0
        self.valid = 0
        self.longest_invalid_run = 0
        self.spread = Values()
        self._cameras = cameras
        self._invalid_run = 0

    def left(self, frame: Frame[T]) -> None:
        """Count a frame."""
        self.ticks += 1
        if frame.valid:
            self.valid += 1
            self._invalid_run = 0
            stamps = [p.stamp_ns for c in self._cameras if not (p := frame.picks[c]).reason]
            if len(stamps) > 1:
                self.spread.add(max(stamps) - min(stamps))
        else:
            self._invalid_run += 1
            self.longest_invalid_run = max(self.longest_invalid_run, self._invalid_run)


class StreamAccount:
    """Everything that is counted about one stream.

    Attributes:
        before_start: Messages let go of while a required stream was missing.
    """

    def __init__(self, stream: SyncStream, capacity: int = CAPACITY) -> None:
        """Args: capacity: Values kept for each percentile (`Values`)."""
        self.received = 0
        self.before_start = 0
        self.reused_ticks = 0
        self.invalid: Counter[Reason] = Counter()
        self._stream = stream
        self._zero = 0
        self._backward = 0
        self._header: int | None = None
        self._seq: int | None = None
        self._seq_gaps = 0
        self._capacity = capacity
        self._delay = Values(capacity)
        self._period = Values(capacity)
        self._typical_ns = 0.0  # median period, fixed when periods begin to be thinned
        self._drops = 0
        self._sorted_in = 0  # samples that came out of order, inside periods already counted
        self._first_ns: int | None = None
        self._last_ns = NEVER
        self._silences: list[tuple[int, int]] = []  # (length, start), the longest ones
        self._skew = Values(capacity)
        self._skew_max_ns = 0

    def arrived(self, recv_ns: int, stamp_ns: int | None, seq: int | None) -> None:
        """Count a message as it came, before anything is decided about it."""
        self.received += 1
        if seq is not None:
            if self._seq is not None and seq > self._seq + 1:
                self._seq_gaps += seq - self._seq - 1
            self._seq = seq
        if stamp_ns is None:
            return
        if stamp_ns == 0:
            self._zero += 1
            return
        if self._header is not None and stamp_ns < self._header:
            self._backward += 1
        self._header = stamp_ns
        self._delay.add(recv_ns - stamp_ns, recv_ns)

    def placed(self, time_ns: int) -> None:
        """Count a sample at its time on the synchronizer's clock."""
        last = self._last_ns
        if time_ns <= last:
            self._sorted_in += 1
            return
        self._last_ns = time_ns
        if self._first_ns is None:
            self._first_ns = time_ns
            return
        period = time_ns - last
        if self._typical_ns:
            self._drops += round(period / self._typical_ns) - 1
        self._period.add(period)
        if self._period.count == self._capacity - 1:  # the next one starts the thinning
            self._typical_ns, self._drops = self._estimate()
        if period > 2 * self._stream.tolerance_ns:
            if len(self._silences) < _NOTED_SILENCES:
                heappush(self._silences, (period, last))
            else:
                heappushpop(self._silences, (period, last))

    def picked(self, pick: Pick[T]) -> None:
        """Count what a tick took."""
        self.reused_ticks += pick.reused
        if pick.reason is Reason.OK:
            self._skew.add(pick.skew_ns)
            self._skew_max_ns = max(self._skew_max_ns, abs(pick.skew_ns))
        else:
            self.invalid[pick.reason] += 1

    def report(self, track: Track[T], clock: Literal["header", "receive"]) -> StreamReport:
        """The account as it is written beside an episode."""
        stream = self._stream
        periods = self._period.percentiles_ms(50, 99)
        delays = self._delay.percentiles_ms(1, 50, 99)
        skew = self._skew.kept()
        size = np.abs(skew)
        missing = self._drops if self._typical_ns else self._estimate()[1]
        if missing > _DROPPED_SHARE * self._period.count:
            missing = 0
        span = self._last_ns - self._first_ns if self._first_ns is not None else 0
        return StreamReport(
            topic=stream.topic,
            policy=stream.policy,
            tolerance_ms=stream.tolerance_ns / NS_PER_MS,
            required=stream.required,
            clock=clock,
            received=self.received,
            used=track.used,
            unused=track.unused,
            late=track.late,
            duplicate=track.duplicate,
            reused_ticks=self.reused_ticks,
            rate_hz=self._period.count * NS_PER_S / span if span else None,
            period_p50_ms=periods[0],
            period_p99_ms=periods[1],
            period_max_ms=self._period.maximum / NS_PER_MS if self._period.count else None,
            estimated_drops=max(0, missing - self._sorted_in),
            seq_gaps=None if self._seq is None else self._seq_gaps,
            zero_stamps=self._zero,
            backward_stamps=self._backward,
            latency_p01_ms=delays[0],
            latency_p50_ms=delays[1],
            latency_p99_ms=delays[2],
            drift_ppm=self._drift_ppm(),
            skew_p50_ms=float(np.median(skew)) / NS_PER_MS if len(skew) else None,
            skew_abs_p95_ms=float(np.percentile(size, 95)) / NS_PER_MS if len(skew) else None,
            skew_abs_p99_ms=float(np.percentile(size, 99)) / NS_PER_MS if len(skew) else None,
            skew_abs_max_ms=self._skew_max_ns / NS_PER_MS if len(skew) else None,
            invalid={r.name.lower(): n for r, n in sorted(self.invalid.items())},
        )

    def notes(self, time: StreamTime, timeline: Timeline, end_ns: int, late: int = 0) -> list[str]:
        """What a person should know about this stream.

        Args:
            end_ns: Time of the newest sample of all streams.
            late: Messages that came too late.
        """
        name = self._stream.name
        if self._first_ns is None:
            if not self.received:
                return [f"{name}: not one message"] if self._stream.required else []
            return [f"{name}: {self.received} messages, none with a usable time"]
        typical = self._typical_ns or self._estimate()[0]
        silent_ns = max(2 * self._stream.tolerance_ns, _SILENT_PERIODS * typical)
        notes = []
        if self.before_start:
            notes.append(
                f"{name}: {self.before_start} messages came while a required stream was missing "
                "and are left out"
            )
        elif self._first_ns - timeline.origin_ns > max(silent_ns, JUMP_NS):
            notes.append(f"{name} started at {timeline.seconds(self._first_ns)}")
        notes += [
            f"{name}: silent from {timeline.seconds(at)} to {timeline.seconds(at + length)}"
            for length, at in sorted(self._silences, key=lambda s: s[1])
            if length > silent_ns
        ]
        if end_ns - self._last_ns > silent_ns:
            notes.append(f"{name} stopped at {timeline.seconds(self._last_ns)}")
        reach_ns = self._stream.tolerance_ns * (
            2 if self._stream.policy is SyncPolicy.NEAREST else 1
        )
        if typical > reach_ns and any(self.invalid.values()):
            notes.append(
                f"{name}: comes every {typical / NS_PER_MS:.1f} ms, too seldom for "
                f"{self._stream.policy.value!r} within {self._stream.tolerance_ns / NS_PER_MS:g} ms"
            )
        late -= time.past
        if late > _LATE_SHARE * self.received:
            notes.append(
                f"{name}: {late} of {self.received} messages came too late; a longer latency "
                "waits for what was only delayed"
            )
        if time.jumps:
            notes.append(f"{name}: {time.jumps} clock jumps taken out")
        if time.future:
            notes.append(f"{name}: {time.future} stamps in the future set aside")
        if time.past:
            notes.append(f"{name}: {time.past} stamps in the far past set aside")
        if self._zero:
            notes.append(f"{name}: {self._zero} of {self.received} stamps are zero")
        if self._backward:
            notes.append(f"{name}: {self._backward} stamps go back behind the one before")
        delay = self._delay.percentiles_ms(50)[0]
        if delay is not None and -JUMP_NS / NS_PER_MS < delay < 0:
            notes.append(
                f"{name}: stamps lie {-delay:.1f} ms in the future of their receive time (median)"
            )
        return notes

    def _estimate(self) -> tuple[float, int]:
        """Median period, and how many samples are missing if that is the true one."""
        periods = self._period.kept()
        if not len(periods):
            return 0.0, 0
        typical = float(np.median(periods))
        return typical, int((np.rint(periods / typical) - 1).sum())

    def _drift_ppm(self) -> float | None:
        """Least-squares slope of (receive - stamp) over receive time."""
        delay, at = self._delay.kept().astype(np.float64), self._delay.times()
        if len(delay) < 2 or at[-1] == at[0]:
            return None
        x = (at - at[0]).astype(np.float64)
        x -= x.mean()
        return float(((delay - delay.mean()) * x).sum() / (x * x).sum() * 1e6)
