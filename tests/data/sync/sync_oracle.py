"""What the synchronizer must give, computed the slow way from the whole recording.

Nothing here is incremental: for every tick all samples are searched again, and whether a tick may
leave is found by trying samples that might still come. Clocks: header stamps of one domain.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from act_data.sync import Synchronizer, SyncStream
from act_data.sync.grid import Grid
from act_data.types import NS_PER_MS, NS_PER_S, ClockPolicy, Frame, SyncPolicy

T0 = 1_700_000_000 * NS_PER_S
REORDER_NS = 10 * NS_PER_MS
NO_DEADLINE = 10**18


@dataclass(frozen=True)
class Message:
    """One message of a recording; `index` counts within its stream."""

    recv_ns: int
    stream: str
    stamp_ns: int
    index: int


@dataclass(frozen=True)
class Recording:
    streams: tuple[SyncStream, ...]
    messages: tuple[Message, ...]
    fps: float
    latency_ns: int


def stream(
    name: str,
    policy: SyncPolicy = SyncPolicy.HOLD,
    tolerance_ms: float = 50,
    *,
    required: bool = True,
    camera: bool = False,
) -> SyncStream:
    return SyncStream(
        name=name,
        policy=policy,
        tolerance_ns=round(tolerance_ms * NS_PER_MS),
        required=required,
        camera=camera,
        topic=f"/{name}",
    )


def in_order(events: Sequence[tuple[int, str, int]]) -> tuple[Message, ...]:
    """(recv, stream, stamp) sorted by receive time, made distinct, and numbered."""
    counts: dict[str, int] = {}
    messages = []
    last = 0
    for recv, name, stamp in sorted(events):
        last = max(recv, last + 1)
        messages.append(Message(last, name, stamp, counts.setdefault(name, 0)))
        counts[name] += 1
    return tuple(messages)


@st.composite
def recordings(draw: st.DrawFn, *, faults: bool = True) -> Recording:
    """Two or three streams for two seconds: jitter, latency, drops, silence, and worse."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    streams = []
    events = []
    for i in range(draw(st.integers(2, 3))):
        policy = draw(st.sampled_from(list(SyncPolicy)))
        tolerance = draw(st.sampled_from([4, 20, 50, 120]))
        streams.append(stream(f"s{i}", policy, tolerance, camera=draw(st.booleans())))
        rate = draw(st.sampled_from([8, 15, 29.97, 30, 60, 100]))
        jitter_ms = draw(st.sampled_from([0, 1, 4]))
        delay_ms = draw(st.sampled_from([0, 3, 30, 110]))
        drops = draw(st.sampled_from([0, 0.05]))
        start_s = draw(st.sampled_from([0, 0, 0.3]))
        silent = draw(st.sampled_from([None, None, (0.8, 1.2), (1.5, 9.0)]))
        phase = rng.random() / rate
        stamp = recv = T0
        for k in range(int(2 * rate)):
            at = phase + k / rate
            if at < start_s or (silent and silent[0] <= at < silent[1]) or rng.random() < drops:
                continue
            wanted = T0 + round(at * NS_PER_S + rng.gauss(0, jitter_ms) * NS_PER_MS)
            stamp = wanted if faults else max(wanted, stamp + 1)
            delay = round((delay_ms + rng.random() * 2) * NS_PER_MS)
            recv = stamp + delay if faults else max(stamp + delay, recv + 1)
            events.append((recv, f"s{i}", stamp))
            if faults and rng.random() < 0.04:
                lag_ms = rng.choice([2, 7, 15, 60])
                events.append((recv + lag_ms * NS_PER_MS, f"s{i}", stamp - rng.choice([0, 0, 3])))
    latency_ms = draw(st.sampled_from([0, 20, 100, 250]))
    return Recording(
        tuple(streams),
        in_order(events),
        draw(st.sampled_from([10, 24, 30])),
        latency_ms * NS_PER_MS,
    )


def run(
    recording: Recording,
    *,
    latency_ns: int | None = None,
    clock: ClockPolicy = ClockPolicy.HEADER,
) -> tuple[Synchronizer[int], list[Frame[int]], list[list[Frame[int]]]]:
    """Push everything; all frames, and those that each call gave (the last: `finish`)."""
    sync = Synchronizer[int](
        recording.streams,
        fps=recording.fps,
        latency_ns=recording.latency_ns if latency_ns is None else latency_ns,
        clock=clock,
    )
    calls = [sync.push(m.stream, m.recv_ns, m.stamp_ns, m.index) for m in recording.messages]
    calls.append(sync.finish())
    return sync, [frame for call in calls for frame in call], calls


@dataclass
class Known:
    """All samples of one stream so far, sorted, and what became of the others."""

    stream: SyncStream
    stamps: list[int] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    late: set[int] = field(default_factory=set)
    duplicate: set[int] = field(default_factory=set)

    def add(self, message: Message) -> None:
        newest = self.stamps[-1] if self.stamps else None
        if newest is not None and message.stamp_ns <= newest - REORDER_NS:
            self.late.add(message.index)
        elif message.stamp_ns in self.stamps:
            self.duplicate.add(message.index)
        else:
            place = bisect_left(self.stamps, message.stamp_ns)
            self.stamps.insert(place, message.stamp_ns)
            self.indices.insert(place, message.index)

    def chosen(self, tick: int, extra: int | None = None) -> tuple[tuple[int, ...], bool]:
        """Stamps that the policy takes for `tick` (two for linear), and whether that is valid.

        Args:
            extra: A sample more, that might still come.
        """
        stamps = self.stamps if extra is None else sorted({*self.stamps, extra})
        tolerance = self.stream.tolerance_ns
        policy = self.stream.policy
        before = stamps[: bisect_right(stamps, tick)][-1:]
        after = stamps[bisect_right(stamps, tick) :][:1]
        if policy is SyncPolicy.HOLD:
            taken = before
        elif policy is SyncPolicy.NEAREST:
            taken = sorted(before + after, key=lambda s: (abs(s - tick), s))[:1]
        elif policy is SyncPolicy.NEXT:
            exact_or_after = stamps[bisect_left(stamps, tick) :][:1]
            return tuple(exact_or_after or before), bool(
                exact_or_after and exact_or_after[0] - tick <= tolerance
            )
        else:
            if before and before[0] == tick:
                return (tick, tick), True
            ok = bool(before and after)
            ok = ok and tick - before[0] <= tolerance and after[0] - tick <= tolerance
            return tuple(before + after), ok
        return tuple(taken), bool(taken) and abs(taken[0] - tick) <= tolerance

    def settled(self, tick: int) -> bool:
        """Whether every sample that may still come leaves the choice as it is."""
        if not self.stamps:
            return False
        lowest = self.stamps[-1] - REORDER_NS + 1
        now = self.chosen(tick)
        tries = {lowest, tick - 1, tick, tick + 1, *(s + d for s in now[0] for d in (-1, 1))}
        tries |= {2 * tick - s + d for s in now[0] for d in (-1, 0, 1)}
        return all(self.chosen(tick, x) == now for x in tries if x >= lowest)


@dataclass(frozen=True)
class Expected:
    """One tick: when it leaves, and per stream (index or -1, stamps, valid)."""

    tick_ns: int
    left_ns: int
    picks: dict[str, tuple[int, tuple[int, ...], bool]]


def expected(
    recording: Recording, grid: Grid | None, latency_ns: int | None = None
) -> tuple[list[Expected], dict[str, Known]]:
    """Every tick of `grid`, and what is known in the end."""
    assert grid is not None
    latency = recording.latency_ns if latency_ns is None else latency_ns
    known = {s.name: Known(s) for s in recording.streams}
    messages = recording.messages
    offset = _first_offset(recording)
    offset_at = messages[0].recv_ns
    newest: dict[str, int] = {}
    out: list[Expected] = []
    now = -NO_DEADLINE
    consumed = 0
    while True:
        tick = grid.start_ns + round(len(out) * NS_PER_S / recording.fps)
        due = tick + latency + offset
        if all(k.settled(tick) for k in known.values()) or due <= now:
            out.append(_leave(tick, now, known))
        elif consumed and consumed < len(messages) and due <= messages[consumed].recv_ns:
            out.append(_leave(tick, max(due, now), known))
        elif consumed < len(messages):
            message = messages[consumed]
            known[message.stream].add(message)
            newest[message.stream] = max(newest.get(message.stream, 0), message.stamp_ns)
            delay = message.recv_ns - message.stamp_ns
            offset = min(delay, offset + (message.recv_ns - offset_at) // 4)
            offset_at = now = message.recv_ns
            consumed += 1
        elif tick <= max(newest.values()) + grid.guard_ns:
            out.append(_leave(tick, now, known))
        else:
            return out, known


def _first_offset(recording: Recording) -> int:
    """The least delay during start-up: until a second after all streams have appeared."""
    names = {s.name for s in recording.streams}
    appeared = [
        next((m.recv_ns for m in recording.messages if m.stream == n), NO_DEADLINE) for n in names
    ]
    end = max(appeared) + NS_PER_S
    return min(m.recv_ns - m.stamp_ns for m in recording.messages if m.recv_ns < end)


def _leave(tick: int, left: int, known: dict[str, Known]) -> Expected:
    picks = {}
    for name, k in known.items():
        stamps, ok = k.chosen(tick)
        index = k.indices[k.stamps.index(stamps[0])] if stamps else -1
        picks[name] = (index, stamps, ok)
    return Expected(tick, left, picks)
