"""The seven guarantees of the synchronizer, held against an oracle that searches everything."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from act_data.sync import Synchronizer
from act_data.types import NS_PER_MS, NS_PER_S, ClockPolicy, Frame, Reason, SyncPolicy
from tests.data.sync.sync_oracle import (
    NO_DEADLINE,
    T0,
    Message,
    Recording,
    expected,
    in_order,
    recordings,
    run,
    stream,
)

examples = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def message_of(recording: Recording, name: str, index: int) -> Message:
    return [m for m in recording.messages if m.stream == name][index]


def content(frame: Frame[int]) -> tuple[object, ...]:
    """A frame without the receive times in it."""
    picks = {n: (p.index, p.stamp_ns, p.skew_ns, p.reason) for n, p in frame.picks.items()}
    return frame.tick, frame.tick_ns, frame.valid, picks


@examples
@given(recordings(), st.integers(0, 2**32), st.sampled_from(list(ClockPolicy)))
def test_g1_asking_in_between_changes_no_bit(
    recording: Recording, seed: int, clock: ClockPolicy
) -> None:
    rng = random.Random(seed)
    sync, frames, _ = run(recording, clock=clock)
    live = Synchronizer[int](
        recording.streams,
        fps=recording.fps,
        latency_ns=recording.latency_ns,
        clock=clock,
    )
    got = []
    last = recording.messages[0].recv_ns
    for m in recording.messages:
        for at in sorted(rng.randint(last, m.recv_ns) for _ in range(rng.choice([0, 0, 1, 3]))):
            got += live.advance(at)
        got += live.push(m.stream, m.recv_ns, m.stamp_ns, m.index)
        last = m.recv_ns
    got += live.finish()
    assert got == frames
    assert live.report() == sync.report()


@examples
@given(recordings(faults=False), st.integers(0, 2**32))
def test_g1_without_a_deadline_the_order_between_streams_does_not_matter(
    recording: Recording, seed: int
) -> None:
    rng = random.Random(seed)
    delays = {s.name: rng.randint(0, 200) * NS_PER_MS for s in recording.streams}
    events = [(m.stamp_ns + delays[m.stream], m.stream, m.stamp_ns) for m in recording.messages]
    _, frames, _ = run(recording, latency_ns=NO_DEADLINE)
    _, others, _ = run(replace(recording, messages=in_order(events)), latency_ns=NO_DEADLINE)
    assert [content(f) for f in others] == [content(f) for f in frames]


@examples
@given(recordings())
def test_g2_picks_never_go_back_and_hold_never_looks_past_the_tick(recording: Recording) -> None:
    sync, frames, _ = run(recording)
    assume(frames)
    slow, _ = expected(recording, sync.grid)
    for s in recording.streams:
        picks = [f.picks[s.name] for f in frames]
        stamps = [p.stamp_ns for p in picks if p.index >= 0]
        assert stamps == sorted(stamps)
        if s.policy is SyncPolicy.HOLD:
            assert all(p.skew_ns <= 0 for p in picks)
        if s.policy is SyncPolicy.NEXT:
            assert all(p.skew_ns >= 0 for p in picks if p.valid)
        assert [p.index for p in picks] == [e.picks[s.name][0] for e in slow]


@examples
@given(recordings())
def test_g3_nearest_is_the_nearest_of_all_samples(recording: Recording) -> None:
    nearest = tuple(replace(s, policy=SyncPolicy.NEAREST) for s in recording.streams)
    recording = replace(recording, streams=nearest)
    sync, frames, _ = run(recording, latency_ns=NO_DEADLINE)
    assume(frames)
    _, known = expected(recording, sync.grid, NO_DEADLINE)
    for s in recording.streams:
        # All that were not refused as late, those out of order and after the tick included.
        stamps = known[s.name].stamps
        for frame in frames:
            best = min(stamps, key=lambda x: (abs(x - frame.tick_ns), x))
            assert frame.picks[s.name].stamp_ns == best


@examples
@given(recordings())
def test_g4_nothing_valid_is_further_from_its_tick_than_the_tolerance(recording: Recording) -> None:
    sync, frames, _ = run(recording)
    assume(frames)
    slow, _ = expected(recording, sync.grid)
    for frame, e in zip(frames, slow, strict=True):
        for s in recording.streams:
            pick = frame.picks[s.name]
            assert pick.valid == e.picks[s.name][2]
            if pick.index >= 0:
                true = message_of(recording, s.name, pick.index)
                assert pick.stamp_ns == true.stamp_ns
                assert pick.skew_ns == true.stamp_ns - frame.tick_ns
            if pick.valid:
                assert abs(pick.skew_ns) <= s.tolerance_ns
            if pick.valid and s.policy is SyncPolicy.LINEAR:
                other = message_of(recording, s.name, pick.other or 0)
                assert 0 <= other.stamp_ns - frame.tick_ns <= s.tolerance_ns
                between = (1 - pick.weight) * pick.skew_ns + pick.weight * (
                    other.stamp_ns - frame.tick_ns
                )
                assert between == pytest.approx(0, abs=1)
        assert frame.valid == all(p.valid for p in frame.picks.values())


@examples
@given(recordings())
def test_g5_a_tick_leaves_when_it_is_decided_and_never_after_its_deadline(
    recording: Recording,
) -> None:
    sync, frames, _ = run(recording)
    assume(frames)
    slow, _ = expected(recording, sync.grid)
    assert [f.tick_ns for f in frames] == [e.tick_ns for e in slow]
    for frame, e in zip(frames, slow, strict=True):
        for name, pick in frame.picks.items():
            if pick.index >= 0:
                assert pick.age_ns + message_of(recording, name, pick.index).recv_ns == e.left_ns


@examples
@given(
    st.integers(0, 400), st.integers(0, 60), st.integers(1, 40), st.sampled_from(list(SyncPolicy))
)
def test_g5_a_dead_stream_holds_no_tick_longer_than_the_latency(
    latency_ms: int, delay_ms: int, step_ms: int, policy: SyncPolicy
) -> None:
    streams = (stream("alive", policy), stream("dies", policy))
    events = [
        (T0 + (at + delay_ms) * NS_PER_MS, name, T0 + at * NS_PER_MS)
        for name, until in (("alive", 3000), ("dies", 1500))
        for at in range(0, until, 20)
    ]
    sync = Synchronizer[int](
        streams, fps=30, latency_ns=latency_ms * NS_PER_MS, clock=ClockPolicy.HEADER
    )
    frames: list[Frame[int]] = []
    now = T0
    for m in in_order(events):
        while now + step_ms * NS_PER_MS < m.recv_ns:
            now += step_ms * NS_PER_MS
            frames += sync.advance(now)
            _all_due_left(frames, now - (latency_ms + delay_ms) * NS_PER_MS)
        frames += sync.push(m.stream, m.recv_ns, m.stamp_ns, m.index)
        _all_due_left(frames, m.recv_ns - (latency_ms + delay_ms) * NS_PER_MS)
    assert Reason.DEAD in {f.picks["dies"].reason for f in frames}


def _all_due_left(frames: list[Frame[int]], time_ns: int) -> None:
    """Every tick up to `time_ns` is there, once the start-up second is over."""
    if frames:
        assert frames[-1].tick_ns + NS_PER_S / 30 + 1 >= time_ns


@examples
@given(recordings())
def test_g6_a_sample_that_serves_twice_is_marked(recording: Recording) -> None:
    sync, frames, _ = run(recording)
    assume(frames)
    slow, _ = expected(recording, sync.grid)
    report = sync.report()
    for s in recording.streams:
        indices = [e.picks[s.name][0] for e in slow]
        again = [a == b >= 0 for a, b in zip([-1, *indices], indices, strict=False)]
        picks = [f.picks[s.name] for f in frames]
        assert [p.reused for p in picks] == again
        assert [p.sample for p in picks] == [i if i >= 0 else None for i in indices]
        assert report.streams[s.name].reused_ticks == sum(again)


@examples
@given(recordings())
def test_g7_every_sample_is_used_unused_late_or_duplicate(recording: Recording) -> None:
    sync, frames, calls = run(recording)
    assume(frames)
    _, known = expected(recording, sync.grid)
    report = sync.report()
    left = _left_times(recording, frames)
    for s in recording.streams:
        mine = [m for m in recording.messages if m.stream == s.name]
        served = {p.sample for f in frames if (p := f.picks[s.name]).index >= 0}
        served |= {p.other for f in frames if (p := f.picks[s.name]).other is not None}
        refused = known[s.name].late | known[s.name].duplicate
        rest = [m for m in mine if m.index not in served | refused]
        missed = [m for m in rest if m.stamp_ns <= _last_left(left, m.recv_ns)]
        r = report.streams[s.name]
        assert r.received == len(mine)
        assert r.used == len(served)
        assert r.duplicate == len(known[s.name].duplicate)
        assert r.late == len(known[s.name].late) + len(missed)
        assert r.unused == len(rest) - len(missed)
        assert r.received == r.used + r.unused + r.late + r.duplicate
    assert sum(map(len, calls)) == report.ticks
    assert sync.buffered == 0


def _left_times(recording: Recording, frames: list[Frame[int]]) -> list[tuple[int, int]]:
    """(receive time at which it left, tick) of every frame."""
    out = []
    for f in frames:
        name, pick = next((n, p) for n, p in f.picks.items() if p.index >= 0)
        out.append((pick.age_ns + message_of(recording, name, pick.index).recv_ns, f.tick_ns))
    return out


def _last_left(left: list[tuple[int, int]], recv_ns: int) -> int:
    return max((tick for at, tick in left if at < recv_ns), default=0)
