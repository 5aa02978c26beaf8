"""The synchronizer: messages of many streams in, frames on one grid out; for bags and live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic

from act_data.errors import InputError
from act_data.records import SyncReport
from act_data.sync.account import StreamAccount, Values
from act_data.sync.clock import JUMP_NS, REORDER_NS, StreamTime, Timeline
from act_data.sync.grid import Grid, lock
from act_data.sync.startup import START_TIMEOUT_NS, Event, Startup
from act_data.sync.track import NEVER, SyncStream, Track
from act_data.types import NS_PER_MS, NS_PER_S, ClockPolicy, Frame, Pick, T

# An optional stream that delivered within this time is waited for as a required one is.
_PATIENCE_NS = NS_PER_S
# Ticks stop this long after the last sample of any stream, and go on with the next one: a paused
# recording or a broken receive time must not make millions of empty frames.
_QUIET_NS = 60 * NS_PER_S
_FOREVER = 2**63
_NOTED_PAUSES = 5


class Synchronizer(Generic[T]):
    """Turns one ordered sequence of messages into frames: one pick per stream for every tick.

    The same class serves a bag in log order and live topics. Frames are a function of the sequence
    of `push` calls alone (G1): `advance` only lets ticks leave that the next `push` would let go
    first, with the same content, so a recorded run gives bit for bit what the live run gave.

    A start-up comes first: until every required stream has appeared and up to 1 s more (10 s, if
    one of them is missing) messages are kept. They decide the clock (`Timeline.choose`) and the
    grid (`lock`), and then go through as if both had been known from the beginning.

    A tick leaves when no required stream, and no optional one that delivered within the last
    second, can still change what it takes; or `latency_ns` after its time at the latest. Its time
    is carried to the receive clock by the lower envelope of (receive - stamp), so that a dead
    topic costs at most `latency_ns` and never hangs (G5).

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
        self._asked = clock
        self._tracks: dict[str, Track[T]] = {s.name: Track(s) for s in streams}
        self._times = {s.name: StreamTime(s.name) for s in streams}
        self._accounts = {s.name: StreamAccount(s) for s in streams}
        self._startup: Startup[T] | None = Startup(streams)
        self._timeline = Timeline(
            ClockPolicy.RECEIVE if clock is ClockPolicy.RECEIVE else ClockPolicy.HEADER, 0, 0
        )
        self._grid = Grid(start_ns=0, fps=fps)
        self._finished = False
        # Receive clock of arriving messages, made monotonic.
        self._arrivals = 0
        self._arrived_ns = NEVER
        self._recv_shift_ns = 0
        self._steps_back = 0
        self._pauses = 0
        # The tick that leaves next.
        self._tick = 0
        self._tick_ns = 0
        self._left_ns = NEVER  # time of the tick that left last
        self._end_ns = _FOREVER  # no tick after this
        self._now_ns = NEVER  # receive time of the message that was taken in last
        self._waiting = 0  # streams that the tick waits for
        self._recheck_ns = 0
        self._covered_ns = NEVER
        # For the report.
        self._ticks = 0
        self._valid = 0
        self._invalid_run = 0
        self._longest_invalid_run = 0
        self._spread = Values()
        self._notes: list[str] = []
        self._cameras = [s.name for s in streams if s.camera]

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
        account = self._accounts.get(stream)
        if account is None or self._finished:
            raise self._refusal(stream)
        recv_ns += self._recv_shift_ns
        if recv_ns < self._arrived_ns:
            recv_ns = self._step_back(recv_ns)
        self._arrived_ns = recv_ns
        index = account.received
        account.arrived(recv_ns, stamp_ns, seq)
        frames: list[Frame[T]] = []
        if self._startup is not None:
            self._wait_until(recv_ns, frames)
        if self._startup is None:
            self._take(stream, recv_ns, stamp_ns, index, payload, frames)
        else:
            self._arrivals += 1
            event = Event(self._arrivals, stream, recv_ns, stamp_ns, index, payload)
            if self._startup.add(event):
                self._begin(self._startup, frames)
        return frames

    def advance(self, recv_ns: int) -> list[Frame[T]]:
        """The frames that leave because it is `recv_ns` now and nothing came. For live use."""
        frames: list[Frame[T]] = []
        recv_ns += self._recv_shift_ns
        if self._startup is not None:
            self._wait_until(recv_ns, frames)
        if self._startup is None and not self._finished:
            self._leave(recv_ns, frames)
        return frames

    def finish(self) -> list[Frame[T]]:
        """The frames that were still waiting. Nothing may be pushed after it.

        The last tick is the last one at or before the newest sample of any required stream: after
        it no required stream has anything to show. So a recording gives the same ticks whatever
        its `latency_ns`, and a stream that died early does not shorten it.
        """
        frames: list[Frame[T]] = []
        if self._finished:
            return frames
        if self._startup is not None and len(self._startup):
            self._begin(self._startup, frames)
        self._finished = True
        if self._startup is not None:
            return frames
        required = [t for t in self._tracks.values() if t.stream.required]
        self._end_ns = max(t.newest_ns for t in required)
        for track in self._tracks.values():
            track.end()
        self._block()
        self._leave(self._now_ns, frames)
        for track in self._tracks.values():
            track.clear()
        return frames

    @property
    def buffered(self) -> int:
        """Samples held at this moment, of all streams."""
        waiting = 0 if self._startup is None else len(self._startup)
        return waiting + sum(map(len, self._tracks.values()))

    def report(self) -> SyncReport:
        """The account so far; complete after `finish`."""
        timeline = self._timeline
        end_ns = max(t.newest_ns for t in self._tracks.values())
        notes = [*timeline.notes, *self._notes]
        if self._steps_back:
            notes.append(f"receive time went back {self._steps_back} times; taken out")
        for name, account in self._accounts.items():
            notes += account.notes(self._times[name], timeline, end_ns)
        spread = self._spread.percentiles_ms(50, 99)
        return SyncReport(
            fps=self._fps,
            clock=timeline.policy,
            ticks=self._ticks,
            valid=self._valid,
            longest_invalid_run=self._longest_invalid_run,
            camera_spread_p50_ms=spread[0],
            camera_spread_p99_ms=spread[1],
            streams={
                name: account.report(
                    self._tracks[name], "header" if self._times[name].header else "receive"
                )
                for name, account in self._accounts.items()
            },
            notes=tuple(notes),
        )

    # --- start-up -----------------------------------------------------------------------------

    def _wait_until(self, recv_ns: int, frames: list[Frame[T]]) -> None:
        """Begin if the wait for required streams ends before `recv_ns`."""
        startup = self._startup
        if startup is None or startup.deadline_ns is None or recv_ns < startup.deadline_ns:
            return
        self._begin(startup, frames)

    def _begin(self, startup: Startup[T], frames: list[Frame[T]]) -> None:
        """Choose clock and grid, then let everything through that was kept."""
        self._startup = None
        if startup.missing:
            self._notes.append(
                f"ticking began without {', '.join(sorted(startup.missing))}: nothing came within "
                f"{START_TIMEOUT_NS / NS_PER_S:.0f} s or before the end"
            )
        required = [s for s in self._streams if s.required]
        evidence = {
            self._times[s.name]: [(e.recv_ns, e.stamp_ns) for e in startup.of(s.name)]
            for s in self._streams
        }
        self._timeline = Timeline.choose(
            self._asked, evidence, [self._times[s.name] for s in required]
        )
        self._grid = self._lay_grid(startup)
        self._tick_ns = self._grid.time(0)
        self._block()
        for name, dropped in startup.dropped.items():
            self._tracks[name].unused += dropped
        for _, stream, recv_ns, stamp_ns, index, payload in startup.events():
            self._take(stream, recv_ns, stamp_ns, index, payload, frames)

    def _lay_grid(self, startup: Startup[T]) -> Grid:
        timeline = self._timeline
        seen = []
        for stream in self._streams:
            time = self._times[stream.name]
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

    # --- ticks --------------------------------------------------------------------------------

    def _take(
        self,
        stream: str,
        recv_ns: int,
        stamp_ns: int | None,
        index: int,
        payload: T,
        frames: list[Frame[T]],
    ) -> None:
        """One message, its clock and grid known. Time passes first, then the message counts."""
        timeline = self._timeline
        if recv_ns - timeline.offset_ns >= self._tick_ns + self._latency_ns:
            self._leave(recv_ns, frames)
        self._now_ns = recv_ns
        track = self._tracks[stream]
        track.heard_ns = recv_ns
        time = self._times[stream]
        time_ns = timeline.place(time, recv_ns, stamp_ns)
        if time_ns is None:
            track.set_aside(behind=time.behind)
        elif track.put(time_ns, recv_ns, index, payload, self._left_ns):
            self._accounts[stream].placed(time_ns)
            if (
                track.waiting
                and track.newest_ns - REORDER_NS >= self._tick_ns
                and track.settled(self._tick_ns)
            ):
                track.waiting = False
                self._waiting -= 1
        if self._waiting and recv_ns >= self._recheck_ns:
            self._block()
        if not self._waiting or recv_ns - timeline.offset_ns >= self._tick_ns + self._latency_ns:
            self._leave(recv_ns, frames)

    def _leave(self, until_ns: int, frames: list[Frame[T]]) -> None:
        """Let every tick leave that is settled, or due at receive time `until_ns`."""
        while self._tick_ns <= self._end_ns:
            left_ns = self._now_ns
            if self._waiting:
                due_ns = self._tick_ns + self._latency_ns + self._timeline.offset_ns
                if until_ns < due_ns:
                    return
                left_ns = max(due_ns, left_ns)
            if self._tick_ns - self._covered_ns > _QUIET_NS and self._quiet():
                if not self._skip():
                    return
                continue
            frames.append(self._frame(left_ns))
            self._left_ns = self._tick_ns
            self._go_to(self._tick + 1)

    def _frame(self, left_ns: int) -> Frame[T]:
        """The picks of the current tick."""
        tick_ns = self._tick_ns
        picks: dict[str, Pick[T]] = {}
        valid = True
        for name, track in self._tracks.items():
            pick = track.pick(tick_ns, left_ns)
            picks[name] = pick
            self._accounts[name].picked(pick)
            if pick.reason and track.stream.required:
                valid = False
        self._ticks += 1
        if valid:
            self._valid += 1
            self._invalid_run = 0
            stamps = [p.stamp_ns for c in self._cameras if not (p := picks[c]).reason]
            if len(stamps) > 1:
                self._spread.add(max(stamps) - min(stamps))
        else:
            self._invalid_run += 1
            self._longest_invalid_run = max(self._longest_invalid_run, self._invalid_run)
        return Frame(self._tick, tick_ns, picks, valid)

    def _go_to(self, tick: int) -> None:
        self._tick = tick
        self._tick_ns = self._grid.time(tick)
        self._block()

    def _block(self) -> None:
        """Find the streams that the current tick has to wait for."""
        heard_since_ns = self._now_ns - _PATIENCE_NS
        self._recheck_ns = self._now_ns + _PATIENCE_NS
        waiting = 0
        for track in self._tracks.values():
            track.waiting = (
                track.stream.required or track.heard_ns > heard_since_ns
            ) and not track.settled(self._tick_ns)
            waiting += track.waiting
        self._waiting = waiting

    def _quiet(self) -> bool:
        """Whether the tick lies too far after the newest sample of any stream before it."""
        stamps = [t.bounds(self._tick_ns)[0] for t in self._tracks.values()]
        self._covered_ns = max((s for s in stamps if s is not None), default=NEVER)
        return self._tick_ns - self._covered_ns > _QUIET_NS

    def _skip(self) -> bool:
        """Go to the first tick that has something again; False while nothing has come."""
        afters = [t.bounds(self._tick_ns)[1] for t in self._tracks.values()]
        ahead_ns = min((s for s in afters if s is not None), default=NEVER)
        if ahead_ns == NEVER:
            return False
        tick = self._grid.at_or_after(ahead_ns)
        self._pauses += 1
        if self._pauses <= _NOTED_PAUSES:
            seconds = self._timeline.seconds
            self._notes.append(
                f"nothing came from {seconds(self._covered_ns)} to {seconds(ahead_ns)}: "
                f"{tick - self._tick} ticks left out"
            )
        self._go_to(tick)
        return True

    def _refusal(self, stream: str) -> InputError:
        if stream not in self._accounts:
            return InputError(
                f"the synchronizer has no stream {stream!r}",
                hint=f"Its streams are: {', '.join(self._accounts)}.",
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
