"""The ticks of a recording whose clock and grid are known: when each leaves, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic

from act_data.sync.account import FrameAccount, StreamAccount
from act_data.sync.clock import StreamTime, Timeline
from act_data.sync.evidence import REORDER_NS
from act_data.sync.grid import Grid
from act_data.sync.track import NEVER, Track
from act_data.types import NS_PER_S, Frame, Pick, T

# An optional stream that delivered within this time is waited for as a required one is.
_PATIENCE_NS = NS_PER_S
# Ticks stop this long after the last sample of any stream, and go on with the next one: a paused
# recording or a broken receive time must not make millions of empty frames.
_QUIET_NS = 60 * NS_PER_S
_NOTED_PAUSES = 5
_FOREVER = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane(Generic[T]):
    """All that belongs to one stream."""

    track: Track[T]
    time: StreamTime
    account: StreamAccount


class Ticks(Generic[T]):
    """Lets ticks leave as messages and time come in.

    Time passes before a message counts: a tick that is due at the receive time of a message
    leaves without it. So it does not matter whether anybody asked (`leave`) in between.
    """

    def __init__(
        self,
        lanes: Mapping[str, Lane[T]],
        timeline: Timeline,
        grid: Grid,
        latency_ns: int,
        account: FrameAccount,
    ) -> None:
        self._lanes = lanes
        self._tracks = [lane.track for lane in lanes.values()]
        self._timeline = timeline
        self.grid = grid
        self._latency_ns = latency_ns
        self._account = account
        self._now_ns = NEVER  # receive time of the message that was taken in last
        self._left_ns = NEVER  # the tick that left last
        self._end_ns = _FOREVER  # no tick after this
        self._covered_ns = NEVER  # up to here there was something
        self._pauses = 0
        self._waiting = 0  # streams that the current tick waits for
        self._recheck_ns = 0
        self._tick = 0
        self._tick_ns = 0
        self._go_to(0)

    def take(
        self,
        lane: Lane[T],
        recv_ns: int,
        stamp_ns: int | None,
        index: int,
        payload: T,
        frames: list[Frame[T]],
    ) -> None:
        """Take in one message and append the frames that leave."""
        timeline = self._timeline
        if recv_ns - timeline.offset_ns >= self._tick_ns + self._latency_ns:
            self.leave(recv_ns, frames)
        self._now_ns = recv_ns
        track = lane.track
        track.heard_ns = recv_ns
        time_ns = timeline.place(lane.time, recv_ns, stamp_ns)
        if time_ns is None:
            track.set_aside(behind=lane.time.behind)
        elif track.put(time_ns, recv_ns, index, payload, self._left_ns):
            lane.account.placed(time_ns)
            tick_ns = self._tick_ns
            # Cheap first: only a watermark past the tick, or a sample right on it, settles it.
            if (
                track.waiting
                and (track.newest_ns - REORDER_NS >= tick_ns or time_ns == tick_ns)
                and track.settled(tick_ns)
            ):
                track.waiting = False
                self._waiting -= 1
        if self._waiting and recv_ns >= self._recheck_ns:
            self._block()
        if not self._waiting or recv_ns - timeline.offset_ns >= self._tick_ns + self._latency_ns:
            self.leave(recv_ns, frames)

    def leave(self, until_ns: int, frames: list[Frame[T]]) -> None:
        """Append the frame of every tick that is settled, or due at receive time `until_ns`."""
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

    def end(self, frames: list[Frame[T]]) -> None:
        """No more messages: append the frames up to the newest sample of any required stream.

        A guard later still counts: that is where the tick of a camera's last frame lies.
        """
        newest_ns = max(t.newest_ns for t in self._tracks if t.stream.required)
        self._end_ns = newest_ns + self.grid.guard_ns
        for track in self._tracks:
            track.end()
        self._block()
        self.leave(self._now_ns, frames)
        for track in self._tracks:
            track.clear()

    def _frame(self, left_ns: int) -> Frame[T]:
        picks: dict[str, Pick[T]] = {}
        valid = True
        for name, lane in self._lanes.items():
            pick = lane.track.pick(self._tick_ns, left_ns)
            picks[name] = pick
            lane.account.picked(pick)
            if pick.reason and lane.track.stream.required:
                valid = False
        frame = Frame(self._tick, self._tick_ns, picks, valid)
        self._account.left(frame)
        return frame

    def _go_to(self, tick: int) -> None:
        self._tick = tick
        self._tick_ns = self.grid.time(tick)
        self._block()

    def _block(self) -> None:
        """Find the streams that the current tick has to wait for."""
        patience_ns = self._now_ns - _PATIENCE_NS
        self._recheck_ns = self._now_ns + _PATIENCE_NS
        self._waiting = 0
        for track in self._tracks:
            track.waiting = (
                track.stream.required or track.heard_ns > patience_ns
            ) and not track.settled(self._tick_ns)
            self._waiting += track.waiting

    def _quiet(self) -> bool:
        """Whether the tick lies too far after the newest sample of any stream before it."""
        before = [t.bounds(self._tick_ns)[0] for t in self._tracks]
        self._covered_ns = max((s for s in before if s is not None), default=NEVER)
        return self._tick_ns - self._covered_ns > _QUIET_NS

    def _skip(self) -> bool:
        """Go to the first tick that has something again; False while nothing has come."""
        after = [t.bounds(self._tick_ns)[1] for t in self._tracks]
        ahead_ns = min((s for s in after if s is not None), default=NEVER)
        if ahead_ns == NEVER:
            return False
        tick = self.grid.at_or_after(ahead_ns)
        self._pauses += 1
        if self._pauses <= _NOTED_PAUSES:
            seconds = self._timeline.seconds
            self._timeline.notes.append(
                f"nothing came from {seconds(self._covered_ns)} to {seconds(ahead_ns)}: "
                f"{tick - self._tick} ticks left out"
            )
        self._go_to(tick)
        return True
