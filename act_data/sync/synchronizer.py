"""The synchronizer: messages of many streams in, frames on one grid out; for bags and live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic

from act_data.errors import InputError
from act_data.records import SyncReport
from act_data.sync.account import FrameAccount, StreamAccount
from act_data.sync.clock import StreamTime, Timeline
from act_data.sync.evidence import JUMP_NS
from act_data.sync.grid import Grid, lock
from act_data.sync.startup import START_TIMEOUT_NS, Event, Startup
from act_data.sync.ticks import Lane, Ticks
from act_data.sync.track import NEVER, SyncStream, Track
from act_data.types import NS_PER_MS, NS_PER_S, ClockPolicy, Frame, T


class Synchronizer(Generic[T]):
    """Turns one ordered sequence of messages into frames: one pick per stream for every tick.

    The same class serves a bag in log order and live topics. Frames are a function of the sequence
    of `push` calls alone: `advance` only lets ticks leave that the next `push` would let go first,
    with the same content, so a recorded run gives bit for bit what the live run gave.

    A start-up comes first: until every required stream has appeared and for 1 s more (10 s, if
    one of them is missing) messages are kept. They decide the clock (`Timeline.choose`) and the
    grid (`lock`), and then go through as if both had been known from the beginning. While a
    required stream is missing the others keep 1 s; what is older is counted as unused. A silence
    of all streams that lasts 10 s begins the wait anew, unless `advance` ended it first.

    A tick leaves when no required stream, and no optional one that delivered within the last
    second, can still change what it takes; or `latency_ns` after its time at the latest. Its time
    is carried to the receive clock by the lower envelope of (receive - stamp). So a dead topic
    costs at most `latency_ns` and never hangs.

    A `hold` pick never lies after its tick, valid or not; a tick before a stream's first sample
    has no sample. An optional stream that has not delivered by then counts as absent.

    Work is O(1) per message, amortised. Memory is rate x (latency + 10 ms + one period) samples
    per stream, whatever the length of the recording.

    Args:
        streams: At least one of them required.
        fps: Ticks per second.
        latency_ns: How long a tick waits for messages. 0, with `hold`, is what a robot sees.
        clock: Which time of a message counts.

    Raises:
        InputError: No required stream, a name twice, a negative tolerance or latency, fps <= 0.
    """

    def __init__(
        self,
        streams: Sequence[SyncStream],
        *,
        fps: float,
        latency_ns: int = 250 * NS_PER_MS,
        clock: ClockPolicy = ClockPolicy.AUTO,
    ) -> None:
        _check(streams, fps, latency_ns)
        self._streams = tuple(streams)
        self._fps = fps
        self._latency_ns = latency_ns
        self._clock = clock
        self._lanes: dict[str, Lane[T]] = {
            s.name: Lane(track=Track(s), time=StreamTime(s.name), account=StreamAccount(s))
            for s in streams
        }
        self._account = FrameAccount([s.name for s in streams if s.camera])
        self._startup: Startup[T] = Startup(streams)
        self._timeline = Timeline(clock, 0, 0)
        self._ticks: Ticks[T] | None = None  # None during start-up
        self._finished = False
        # Receive times as they arrive, made monotonic.
        self._arrivals = 0
        self._arrived_ns = NEVER
        self._recv_shift_ns = 0
        self._steps_back = 0

    def push(
        self,
        stream: str,
        recv_ns: int,
        stamp_ns: int | None,
        payload: T,
        *,
        seq: int | None = None,
    ) -> list[Frame[T]]:
        """Take in one message; the frames that can leave now, in order.

        Args:
            stream: One of the names given at the start.
            recv_ns: When it was received. In log order; a step back is taken out and noted.
            stamp_ns: `header.stamp`; None without a header. 0 counts as unset.
            payload: Carried along untouched.
            seq: `header.seq`, only for the report.

        Raises:
            InputError: Unknown stream, or the synchronizer has finished.
        """
        lane = self._lanes.get(stream)
        if lane is None or self._finished:
            raise self._refusal(stream)
        recv_ns += self._recv_shift_ns
        if recv_ns < self._arrived_ns:
            recv_ns = self._step_back(recv_ns)
        self._arrived_ns = recv_ns
        index = lane.account.received
        lane.account.arrived(recv_ns, stamp_ns, seq)
        frames: list[Frame[T]] = []
        ticks = self._ticks or self._begin_if_due(recv_ns, frames, arrival=True)
        if ticks is not None:
            ticks.take(lane, recv_ns, stamp_ns, index, payload, frames)
            return frames
        self._arrivals += 1
        self._startup.add(Event(self._arrivals, stream, recv_ns, stamp_ns, index, payload))
        return frames

    def advance(self, recv_ns: int) -> list[Frame[T]]:
        """The frames that leave because it is `recv_ns` now and nothing came. For live use."""
        frames: list[Frame[T]] = []
        recv_ns += self._recv_shift_ns
        ticks = self._ticks or self._begin_if_due(recv_ns, frames, arrival=False)
        if ticks is not None and not self._finished:
            ticks.leave(recv_ns, frames)
        return frames

    def finish(self) -> list[Frame[T]]:
        """The frames that were still waiting. Nothing may be pushed after it.

        The last tick is the last one at or before the newest sample of any required stream (plus
        the grid's guard): after it no required stream has anything new to show. So a recording
        gives the same ticks whatever its `latency_ns`, and a stream that died early does not
        shorten it.
        """
        frames: list[Frame[T]] = []
        if not self._finished and self._arrivals:
            ticks = self._ticks or self._begin(frames)
            ticks.end(frames)
        self._finished = True
        return frames

    def recv_of(self, time_ns: int) -> int:
        """The receive time at which what happens at `time_ns` can be here at the earliest.

        Estimated from what has come so far; `time_ns` is on the clock of the ticks.
        """
        return time_ns + self._timeline.offset_ns - self._recv_shift_ns

    @property
    def buffered(self) -> int:
        """Samples held at this moment, of all streams."""
        return len(self._startup) + sum(len(lane.track) for lane in self._lanes.values())

    @property
    def grid(self) -> Grid | None:
        """Where the ticks lie and which stream they are locked to; None during start-up."""
        return None if self._ticks is None else self._ticks.grid

    def report(self) -> SyncReport:
        """The account so far; complete after `finish`."""
        timeline = self._timeline
        end_ns = max(lane.track.newest_ns for lane in self._lanes.values())
        notes = list(timeline.notes)
        if self._steps_back:
            notes.append(f"receive time went back {self._steps_back} times; taken out")
        for lane in self._lanes.values():
            notes += lane.account.notes(lane.time, timeline, end_ns, lane.track.late)
        spread = self._account.spread.percentiles_ms(50, 99)
        return SyncReport(
            fps=self._fps,
            clock=timeline.policy,
            ticks=self._account.ticks,
            valid=self._account.valid,
            longest_invalid_run=self._account.longest_invalid_run,
            camera_spread_p50_ms=spread[0],
            camera_spread_p99_ms=spread[1],
            streams={
                name: lane.account.report(lane.track, "header" if lane.time.header else "receive")
                for name, lane in self._lanes.items()
            },
            notes=tuple(notes),
        )

    def _begin_if_due(
        self, recv_ns: int, frames: list[Frame[T]], *, arrival: bool
    ) -> Ticks[T] | None:
        """Begin if the wait for required streams ended at or before `recv_ns`."""
        return self._begin(frames) if self._startup.due(recv_ns, arrival=arrival) else None

    def _begin(self, frames: list[Frame[T]]) -> Ticks[T]:
        """Choose clock and grid, then let everything through that was kept."""
        startup, self._startup = self._startup, Startup(self._streams)
        self._timeline = Timeline.choose(
            self._clock,
            {
                self._lanes[s.name].time: [(e.recv_ns, e.stamp_ns) for e in startup.of(s.name)]
                for s in self._streams
            },
            [self._lanes[s.name].time for s in self._streams if s.required],
            startup.first_ns,
        )
        if startup.missing:
            self._timeline.notes.append(
                f"ticking began without {', '.join(sorted(startup.missing))}, of which nothing "
                f"came within {START_TIMEOUT_NS // NS_PER_S} s or before the end"
            )
        for name, lane in self._lanes.items():
            lane.track.unused += startup.dropped[name]
            lane.account.before_start = startup.dropped[name]
            if held := startup.of(name):
                lane.track.heard_ns = held[0].recv_ns  # it exists: no tick leaves without it
        self._ticks = ticks = Ticks(
            self._lanes, self._timeline, self._lay_grid(startup), self._latency_ns, self._account
        )
        for event in startup.events():
            lane = self._lanes[event.stream]
            ticks.take(lane, event.recv_ns, event.stamp_ns, event.number, event.payload, frames)
        return ticks

    def _lay_grid(self, startup: Startup[T]) -> Grid:
        timeline = self._timeline
        seen = []
        for stream in self._streams:
            time = self._lanes[stream.name].time
            guesses = (
                timeline.glance(time, e.recv_ns, e.stamp_ns) for e in startup.of(stream.name)
            )
            if stamps := sorted({g for g in guesses if g is not None}):
                seen.append((stream, stamps))
        if not seen:
            return Grid(start_ns=timeline.origin_ns, fps=self._fps)
        return lock([item for item in seen if item[0].required] or seen, self._fps)

    def _step_back(self, recv_ns: int) -> int:
        """Receive time that does not go back: small steps are clamped, large ones taken out."""
        back = self._arrived_ns - recv_ns
        if back >= JUMP_NS:
            self._recv_shift_ns += back
            self._steps_back += 1
        return self._arrived_ns

    def _refusal(self, stream: str) -> InputError:
        if stream not in self._lanes:
            return InputError(
                f"the synchronizer has no stream {stream!r}",
                hint=f"Its streams are: {', '.join(self._lanes)}.",
            )
        return InputError(
            f"a message of {stream!r} came after the synchronizer had finished",
            hint="Make a new one for the next recording.",
        )


def _check(streams: Sequence[SyncStream], fps: float, latency_ns: int) -> None:
    names = [s.name for s in streams]
    problems = []
    if twice := sorted({n for n in names if names.count(n) > 1}):
        problems.append(f"streams named twice: {', '.join(twice)}")
    if not any(s.required for s in streams):
        problems.append(f"no required stream among {len(names)}")
    problems += [
        f"stream {s.name!r} has tolerance_ns={s.tolerance_ns!r}"
        for s in streams
        if s.tolerance_ns < 0
    ]
    if not (math.isfinite(fps) and fps > 0):
        problems.append(f"fps={fps!r}")
    if latency_ns < 0:
        problems.append(f"latency_ns={latency_ns!r}")
    if problems:
        raise InputError(
            f"cannot synchronise: {'; '.join(problems)}",
            hint="Names are unique, one stream is required, times are not negative, fps > 0.",
        )
