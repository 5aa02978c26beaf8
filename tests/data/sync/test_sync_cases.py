"""What robots really do to a synchronizer, one case each."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import pytest

from act_data.errors import InputError
from act_data.records import SyncReport
from act_data.sync import Synchronizer, SyncStream
from act_data.types import NS_PER_MS, NS_PER_S, ClockPolicy, Frame, Reason, SyncPolicy
from tests.data.sync.sync_oracle import T0, stream

HOLD, NEAREST, LINEAR = SyncPolicy.HOLD, SyncPolicy.NEAREST, SyncPolicy.LINEAR

Event = tuple[int, str, int | None]  # receive time, stream, stamp


def topic(
    name: str,
    rate: float,
    *,
    seconds: float = 4,
    start: float = 0,
    phase_ms: float = 0,
    delay_ms: float = 2,
    jitter_ms: float = 0,
    drop: float = 0,
    stamp: Callable[[int], int | None] = lambda at: at,
    seed: int = 0,
) -> list[Event]:
    """Messages of one topic; `stamp` maps the true time of a sample to what its header says."""
    rng = random.Random(f"{name}{seed}")
    events: list[Event] = []
    for k in range(round(seconds * rate)):
        at = T0 + round(k * NS_PER_S / rate + phase_ms * NS_PER_MS)
        at += round(rng.gauss(0, jitter_ms) * NS_PER_MS)
        if rng.random() >= drop and at >= T0 + start * NS_PER_S:
            events.append((at + round(delay_ms * NS_PER_MS), name, stamp(at)))
    return events


def synchronise(
    streams: Sequence[SyncStream],
    *topics: list[Event],
    fps: float = 30,
    latency_ms: float = 250,
    clock: ClockPolicy = ClockPolicy.AUTO,
) -> tuple[list[Frame[int]], SyncReport]:
    """All frames and the report; every account is checked on the way."""
    sync = Synchronizer[int](
        streams, fps=fps, latency_ns=round(latency_ms * NS_PER_MS), clock=clock
    )
    frames = []
    for number, (recv, name, stamp) in enumerate(sorted(chain(*topics), key=lambda e: e[0])):
        frames += sync.push(name, recv, stamp, number)
    frames += sync.finish()
    report = sync.report()
    for s in report.streams.values():
        assert s.received == s.used + s.unused + s.late + s.duplicate
    assert report.ticks == len(frames)
    assert report.valid == sum(f.valid for f in frames)
    return frames, report


CAMERA = stream("cam", camera=True)
ARM = stream("arm")
ROBOT = (CAMERA, ARM)


def seconds(frame: Frame[int]) -> float:
    return (frame.tick_ns - T0) / NS_PER_S


@pytest.mark.parametrize("policy", [HOLD, NEAREST])
def test_a_perfect_recording_gives_every_tick_once(policy: SyncPolicy) -> None:
    streams = (stream("cam", policy, camera=True), stream("arm", policy))
    frames, report = synchronise(streams, topic("cam", 30), topic("arm", 200))
    assert len(frames) == 120
    assert report.valid == 120
    assert report.streams["cam"].reused_ticks == 0
    assert report.streams["arm"].rate_hz == pytest.approx(200, rel=1e-6)
    assert report.streams["arm"].period_p50_ms == pytest.approx(5)
    assert report.streams["cam"].latency_p50_ms == pytest.approx(2)
    assert report.streams["cam"].drift_ppm == pytest.approx(0, abs=1e-3)
    assert report.clock is ClockPolicy.HEADER
    assert report.notes == ()


def test_ticks_are_exact_and_do_not_drift() -> None:
    frames, _ = synchronise(ROBOT, topic("cam", 29.97, seconds=8), topic("arm", 200, seconds=8))
    start = frames[0].tick_ns
    assert [f.tick_ns - start for f in frames] == [round(k * 1e9 / 30) for k in range(len(frames))]
    assert [f.tick for f in frames] == list(range(len(frames)))


def test_a_stream_that_dies_is_masked_and_named() -> None:
    frames, report = synchronise(ROBOT, topic("cam", 30), topic("arm", 200, seconds=2))
    assert len(frames) == 120
    after = [f for f in frames if seconds(f) > 2.06]
    assert {f.picks["arm"].reason for f in after} == {Reason.DEAD}
    assert not any(f.valid for f in after)
    last = frames[-1].picks["arm"]
    assert last.sample is not None
    assert last.skew_ns == last.stamp_ns - frames[-1].tick_ns
    assert "arm stopped at 2.00 s" in report.notes
    assert report.longest_invalid_run == len(after)


def test_a_stream_that_stops_just_before_the_end_is_masked_there() -> None:
    frames, _ = synchronise(ROBOT, topic("cam", 30), topic("arm", 200, seconds=3.8))
    assert len(frames) == 120
    assert [f.valid for f in frames].index(False) == next(
        i for i, f in enumerate(frames) if seconds(f) > 3.795 + 0.05
    )


def test_nothing_is_made_up_after_the_last_required_sample() -> None:
    frames, _ = synchronise(
        (*ROBOT, stream("extra", required=False)),
        topic("cam", 30, seconds=2),
        topic("arm", 200, seconds=2),
        topic("extra", 50, seconds=4),
        latency_ms=10**9,
    )
    assert seconds(frames[-1]) <= 1.995 < seconds(frames[-1]) + 1 / 30


def test_a_silence_is_a_gap_with_its_times() -> None:
    events = [e for e in topic("cam", 30) if not 1.99 < (e[2] or 0) / 1e9 - T0 / 1e9 < 2.49]
    frames, report = synchronise(ROBOT, events, topic("arm", 200))
    assert "cam: silent from 1.97 s to 2.50 s" in report.notes
    assert report.streams["cam"].estimated_drops == 15
    reasons = [f.picks["cam"].reason for f in frames]
    assert reasons.count(Reason.OK) == len(frames) - 14
    assert set(reasons) == {Reason.OK, Reason.DEAD, Reason.GAP}
    assert reasons[-1] is Reason.OK


def test_ticking_starts_when_the_last_required_stream_has_appeared() -> None:
    frames, report = synchronise(ROBOT, topic("cam", 30), topic("arm", 200, start=2.5))
    assert 2.5 <= seconds(frames[0]) < 2.5 + 1 / 30
    assert all(f.valid for f in frames)
    assert "arm started at 2.50 s" in report.notes
    assert report.streams["cam"].unused == 75


def test_memory_stays_bounded_while_a_required_stream_is_missing() -> None:
    sync = Synchronizer[None](ROBOT, fps=30)
    for recv, name, stamp in topic("cam", 30, seconds=9):
        assert sync.push(name, recv, stamp, None) == []
        assert sync.buffered <= 32


def test_memory_is_that_of_the_latency_however_long_a_stream_is_dead() -> None:
    sync = Synchronizer[None](ROBOT, fps=30, latency_ns=200 * NS_PER_MS)
    events = topic("cam", 30, seconds=30) + topic("arm", 200, seconds=2, delay_ms=1)
    most = 0
    for recv, name, stamp in sorted(events, key=lambda e: e[0]):
        if sync.push(name, recv, stamp, None) or sync.grid is not None:
            most = max(most, sync.buffered)
    # rate x (latency + the 10 ms of reordering + one period) + the sample that is held
    assert most <= (30 * (0.21 + 1 / 30) + 1) + (200 * (0.21 + 1 / 30) + 1)


def test_a_missing_required_stream_does_not_hang_the_start() -> None:
    frames, report = synchronise(ROBOT, topic("cam", 30, seconds=14))
    assert 8.9 < seconds(frames[0]) < 9.1
    assert {f.picks["arm"].reason for f in frames} == {Reason.START}
    assert all(f.picks["cam"].valid and not f.valid for f in frames)
    assert report.streams["arm"].invalid == {"start": len(frames)}
    assert any(n.startswith("ticking began without arm") for n in report.notes)
    assert "arm: not one message" in report.notes


def test_the_start_timeout_passes_without_messages_too() -> None:
    sync = Synchronizer[None](ROBOT, fps=30)
    for recv, name, stamp in topic("cam", 30, seconds=1):
        sync.push(name, recv, stamp, None)
    assert sync.advance(T0 + 10 * NS_PER_S) == []
    # Those whose 0.25 s are over by then.
    assert len(sync.advance(T0 + 10 * NS_PER_S + 2 * NS_PER_MS)) == 293


def test_a_stream_that_comes_after_the_timeout_joins() -> None:
    frames, _ = synchronise(
        ROBOT, topic("cam", 30, seconds=14), topic("arm", 200, seconds=14, start=12)
    )
    assert {f.valid for f in frames if seconds(f) < 12} == {False}
    assert {f.valid for f in frames if seconds(f) > 12.01} == {True}
    # Samples of the quarter second before were there when these ticks left: after the tick.
    before = [f.picks["arm"] for f in frames if seconds(f) < 12]
    assert {(p.reason, p.index, p.sample) for p in before} == {(Reason.START, -1, None)}


def test_an_optional_stream_that_never_comes_is_absent_and_harmless() -> None:
    depth = stream("depth", required=False, camera=True)
    frames, report = synchronise((*ROBOT, depth), topic("cam", 30), topic("arm", 200))
    assert all(f.valid for f in frames)
    assert {f.picks["depth"].reason for f in frames} == {Reason.ABSENT}
    assert frames[0].picks["depth"].sample is None
    assert frames[0].picks["depth"].index == -1
    assert report.streams["depth"].received == 0
    assert report.notes == ()


def test_an_optional_stream_that_is_slower_to_arrive_is_waited_for() -> None:
    depth = stream("depth", required=False)
    frames, report = synchronise(
        (*ROBOT, depth), topic("cam", 30), topic("arm", 200), topic("depth", 30, delay_ms=80)
    )
    assert report.streams["depth"].skew_abs_max_ms == pytest.approx(1, abs=0.01)
    assert report.streams["depth"].late == 0
    assert len(frames) == 120


def test_jitter_makes_hold_neither_repeat_nor_skip() -> None:
    frames, report = synchronise(
        ROBOT, topic("cam", 30, seconds=20, jitter_ms=1.5), topic("arm", 200, seconds=20)
    )
    assert all(f.valid for f in frames)
    assert report.streams["cam"].reused_ticks <= 0.01 * len(frames)


def test_one_percent_of_drops_is_estimated_and_reused() -> None:
    events = topic("cam", 30, seconds=30, drop=0.01)
    frames, report = synchronise(ROBOT, events, topic("arm", 200, seconds=30))
    missing = 900 - len(events)
    assert missing > 3
    cam = report.streams["cam"]
    assert cam.estimated_drops == missing
    assert cam.reused_ticks == missing
    assert all(f.valid for f in frames)


def test_a_60_hz_camera_gives_every_second_frame_to_a_30_hz_grid() -> None:
    frames, report = synchronise(ROBOT, topic("cam", 60), topic("arm", 200))
    stamps = [f.picks["cam"].stamp_ns for f in frames]
    assert {round((b - a) / 1e6) for a, b in pairwise(stamps)} == {33}
    assert report.streams["cam"].reused_ticks == 0
    assert report.streams["cam"].skew_abs_max_ms == pytest.approx(1, abs=0.01)
    assert report.streams["cam"].unused == 120


def test_the_grid_locks_to_the_slowest_required_camera() -> None:
    streams = (stream("fast", camera=True), stream("cam", camera=True), ARM)
    frames, report = synchronise(
        streams,
        topic("fast", 60, phase_ms=3),
        topic("cam", 30, phase_ms=11),
        topic("arm", 200),
    )
    assert {f.picks["cam"].skew_ns for f in frames} <= {-1_000_000, -1_000_001, -999_999}
    assert report.camera_spread_p50_ms == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize(
    ("policy", "locked", "largest_ms"),
    [pytest.param(HOLD, "c", 21, id="hold"), pytest.param(NEAREST, "b", 10, id="nearest")],
)
def test_the_grid_serves_all_cameras_of_one_cycle(
    policy: SyncPolicy, locked: str, largest_ms: float
) -> None:
    streams = [stream(n, policy, camera=True) for n in "abc"]
    topics = [topic(n, 30, phase_ms=10 * i) for i, n in enumerate("abc")]
    _, report = synchronise(streams, *topics)
    skews = {n: s.skew_abs_max_ms or 0 for n, s in report.streams.items()}
    assert min(skews, key=skews.__getitem__) == locked
    assert max(skews.values()) == pytest.approx(largest_ms, abs=0.01)
    assert report.camera_spread_p99_ms == pytest.approx(20, abs=0.01)


def test_a_camera_at_29_97_hz_slips_through_one_frame_in_half_a_minute() -> None:
    frames, report = synchronise(
        ROBOT, topic("cam", 29.97, seconds=60), topic("arm", 200, seconds=60)
    )
    assert all(f.valid for f in frames)
    assert 1 <= report.streams["cam"].reused_ticks <= 2


def test_simulated_time_is_used_throughout() -> None:
    # Starts at 100 s, and runs at 0.82 of real time, as a real recording did.
    def sim(at: int) -> int:
        return 100 * NS_PER_S + round((at - T0) * 0.82)

    streams = (*ROBOT, stream("twist"))
    frames, report = synchronise(
        streams,
        topic("cam", 30, seconds=30, stamp=sim),
        topic("arm", 200, seconds=30, stamp=sim),
        topic("twist", 50, seconds=30, stamp=lambda at: None),
    )
    assert report.clock is ClockPolicy.HEADER
    assert frames[0].tick_ns < 101 * NS_PER_S
    assert len(frames) == pytest.approx(30 * 30 * 0.82, abs=2)
    assert sum(not f.valid for f in frames) == 0
    assert any("simulated time" in n for n in report.notes)
    assert (report.streams["cam"].drift_ppm or 0) == pytest.approx(180_000, rel=0.01)


def test_a_stream_on_another_clock_is_carried_over() -> None:
    frames, report = synchronise(
        ROBOT,
        topic("cam", 30),
        topic("arm", 200, jitter_ms=0.2, stamp=lambda at: at - 50 * 365 * 86400 * NS_PER_S),
    )
    assert all(f.valid for f in frames)
    assert report.clock is ClockPolicy.HEADER
    assert report.streams["arm"].clock == "header"
    assert abs(report.streams["arm"].skew_p50_ms or 99) < 6
    assert any(n.startswith("arm: stamped by a clock of its own") for n in report.notes)


def test_streams_that_all_have_clocks_of_their_own_meet_on_the_receive_clock() -> None:
    frames, report = synchronise(
        ROBOT,
        topic("cam", 30, stamp=lambda at: at - T0 + 7),
        topic("arm", 200, stamp=lambda at: at - 9 * 10**17),
    )
    assert report.clock is ClockPolicy.RECEIVE
    assert all(f.valid for f in frames)
    assert len(frames) == 120


def test_forcing_the_header_clock_on_two_domains_is_told_and_ends() -> None:
    frames, report = synchronise(
        ROBOT,
        topic("cam", 30),
        topic("arm", 200, stamp=lambda at: at - 9 * 10**17),
        clock=ClockPolicy.HEADER,
    )
    assert not any(f.valid for f in frames)
    assert any("stamped by different clocks" in n for n in report.notes)


def test_a_twist_without_a_header_has_its_receive_time() -> None:
    streams = (*ROBOT, stream("twist"))
    frames, report = synchronise(
        streams,
        topic("cam", 30),
        topic("arm", 200),
        topic("twist", 50, stamp=lambda at: None),
    )
    assert report.clock is ClockPolicy.HEADER
    twist = report.streams["twist"]
    assert twist.clock == "receive"
    assert (twist.latency_p50_ms, twist.drift_ppm, twist.seq_gaps) == (None, None, None)
    assert all((f.picks["twist"].stamp_ns - T0) % (20 * NS_PER_MS) == 2 * NS_PER_MS for f in frames)


def test_the_receive_clock_ignores_headers() -> None:
    frames, report = synchronise(
        ROBOT, topic("cam", 30), topic("arm", 200, delay_ms=30), clock=ClockPolicy.RECEIVE
    )
    assert report.clock is ClockPolicy.RECEIVE
    assert all((f.picks["arm"].stamp_ns - T0) % (5 * NS_PER_MS) == 0 for f in frames)
    assert {s.clock for s in report.streams.values()} == {"receive"}


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda at: 0, id="zero"),
        pytest.param(lambda at: T0 + 10**9 * (at % 7), id="erratic"),
        pytest.param(lambda at: T0 + (at - T0) % (400 * NS_PER_MS), id="looping"),
    ],
)
def test_headers_that_cannot_be_believed_are_not_used(broken: Callable[[int], int]) -> None:
    frames, report = synchronise(ROBOT, topic("cam", 30), topic("arm", 200, stamp=broken))
    assert all(f.valid for f in frames)
    assert report.streams["arm"].clock == "receive"
    assert report.streams["cam"].clock == "header"
    assert any(n.startswith("arm: its header stamps cannot be used") for n in report.notes)


def test_one_broken_stamp_does_no_harm() -> None:
    def broken(at: int) -> int:
        third = {333: 0, 433: at + 10**10, 533: at + 10**18, 633: at - 10**10}
        return third.get((at - T0) // (5 * NS_PER_MS), at)

    frames, report = synchronise(ROBOT, topic("cam", 30), topic("arm", 200, stamp=broken))
    assert len(frames) == 120
    assert all(f.valid for f in frames)
    arm = report.streams["arm"]
    assert (arm.zero_stamps, arm.backward_stamps, arm.late) == (1, 3, 1)
    assert "arm: 2 stamps in the future set aside" in report.notes
    assert "arm: 1 of 800 stamps are zero" in report.notes


@pytest.mark.parametrize("jump_s", [-100.0, -2.0, 5.0, 10.0**9])
@pytest.mark.parametrize("all_streams", [True, False])
def test_a_clock_that_jumps_is_taken_out_and_told(jump_s: float, all_streams: bool) -> None:
    def jumping(at: int) -> int:
        return at + (round(jump_s * NS_PER_S) if at > T0 + 3 * NS_PER_S else 0)

    frames, report = synchronise(
        ROBOT,
        topic("cam", 30, seconds=6, stamp=jumping if all_streams else lambda at: at),
        topic("arm", 200, seconds=6, stamp=jumping),
    )
    assert len(frames) == pytest.approx(180, abs=1)
    assert sum(not f.valid for f in frames) <= 2
    assert f"arm: its clock jumped by {jump_s:+.3f} s at 3.01 s; the jump was taken out" in (
        report.notes
    )


def test_a_looped_bag_goes_on_where_it_was() -> None:
    sync = Synchronizer[int](ROBOT, fps=30)
    once = sorted(topic("cam", 30) + topic("arm", 200))
    frames = []
    for recv, name, stamp in once * 3:
        frames += sync.push(name, recv, stamp, 0)
    frames += sync.finish()
    assert len(frames) == pytest.approx(360, abs=4)
    assert sum(not f.valid for f in frames) < 12
    assert any(n.startswith("receive time went back") for n in sync.report().notes)
    for s in sync.report().streams.values():
        assert s.received == s.used + s.unused + s.late + s.duplicate


def test_an_hour_of_nothing_makes_no_hour_of_frames() -> None:
    def paused(events: list[Event]) -> list[Event]:
        return [
            (r + (r > T0 + 2e9) * 3600 * NS_PER_S, n, (s or 0) + (r > T0 + 2e9) * 3600 * NS_PER_S)
            for r, n, s in events
        ]

    topics = paused(topic("cam", 30)), paused(topic("arm", 200))
    frames, report = synchronise(ROBOT, *topics)
    other, _ = synchronise(ROBOT, *topics, latency_ms=10**12)
    assert len(frames) == pytest.approx(120 + 60 * 30, abs=2)
    assert [f.tick for f in other] == [f.tick for f in frames]
    assert any("ticks left out" in n for n in report.notes)
    assert sum(f.valid for f in frames) >= 117


def test_a_robot_sees_with_no_latency_what_was_received_by_then() -> None:
    frames, _ = synchronise(
        ROBOT, topic("cam", 30, delay_ms=20), topic("arm", 200, delay_ms=1), latency_ms=0
    )
    assert all(f.valid for f in frames[1:])
    assert frames[0].picks["cam"].reason is Reason.START
    for f in frames[1:]:
        # The camera's frame of this tick arrives 20 ms later: the robot has the one before.
        assert f.picks["cam"].skew_ns == pytest.approx(-34_333_333, abs=2)
        assert f.picks["arm"].skew_ns > -6 * NS_PER_MS


def test_a_stream_that_lags_behind_is_late_not_dead() -> None:
    frames, report = synchronise(ROBOT, topic("cam", 30), topic("arm", 200, delay_ms=400))
    assert report.streams["arm"].invalid.keys() == {"late", "start"}
    # Only the last ones are valid: at the end of the recording there is no more waiting.
    assert not any(f.valid for f in frames[:-13])


def test_linear_gives_the_neighbours_and_the_weight() -> None:
    frames, _ = synchronise(
        (CAMERA, stream("arm", LINEAR)), topic("cam", 30), topic("arm", 50, phase_ms=3)
    )
    for f in frames[:-1]:
        pick = f.picks["arm"]
        assert pick.valid
        assert pick.stamp_ns + pick.weight * 20e6 == pytest.approx(f.tick_ns, abs=300)
        assert pick.other is not None
        assert pick.sample is not None
    assert frames[-1].picks["arm"].valid is (frames[-1].picks["arm"].other is not None)


def test_equal_distances_take_the_earlier_sample() -> None:
    frames, _ = synchronise(
        (stream("cam", NEAREST, camera=True), stream("arm", NEAREST)),
        topic("cam", 50, phase_ms=0),
        topic("arm", 50, phase_ms=10),
        fps=50,
    )
    assert {f.picks["arm"].skew_ns for f in frames} == {-10 * NS_PER_MS}


def test_missing_numbers_of_the_header_are_counted() -> None:
    sync = Synchronizer[None]([CAMERA], fps=30)
    for k in [0, 1, 2, 5, 6, 9]:
        at = T0 + k * 33 * NS_PER_MS
        sync.push("cam", at, at, None, seq=k)
    sync.finish()
    assert sync.report().streams["cam"].seq_gaps == 4


def test_drift_is_told_in_parts_per_million() -> None:
    _, report = synchronise(
        ROBOT,
        topic("cam", 30, seconds=20, stamp=lambda at: at - round((at - T0) * 100e-6)),
        topic("arm", 200, seconds=20),
    )
    assert report.streams["cam"].drift_ppm == pytest.approx(100, rel=0.01)
    assert report.streams["arm"].drift_ppm == pytest.approx(0, abs=0.1)


def test_stamps_a_little_in_the_future_are_used_and_told() -> None:
    frames, report = synchronise(
        ROBOT, topic("cam", 30), topic("arm", 200, stamp=lambda at: at + round(6.4 * NS_PER_MS))
    )
    assert all(f.valid for f in frames)
    assert "arm: stamps lie 4.4 ms in the future of their receive time (median)" in report.notes


def test_nothing_at_all_gives_nothing() -> None:
    sync = Synchronizer[None](ROBOT, fps=30)
    assert sync.advance(T0) == []
    assert sync.finish() == []
    assert sync.finish() == []
    report = sync.report()
    assert (report.ticks, report.valid) == (0, 0)
    assert "cam: not one message" in report.notes


def test_only_zero_stamps_on_a_forced_header_clock_end_without_a_frame() -> None:
    frames, report = synchronise(
        [CAMERA], topic("cam", 30, stamp=lambda at: 0), clock=ClockPolicy.HEADER
    )
    assert len(frames) == 120
    assert report.clock is ClockPolicy.RECEIVE
    assert report.streams["cam"].clock == "receive"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        pytest.param({"streams": ()}, "no required stream", id="none"),
        pytest.param({"streams": (stream("a", required=False),)}, "no required", id="optional"),
        pytest.param({"streams": (ARM, ARM)}, "named twice: arm", id="twice"),
        pytest.param({"streams": (stream("a", HOLD, -1),)}, "tolerance_ns=-1000000", id="negative"),
        pytest.param({"fps": 0.0}, "fps=0.0", id="fps"),
        pytest.param({"latency_ns": -1}, "latency_ns=-1", id="latency"),
    ],
)
def test_what_cannot_be_synchronised_is_said(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Synchronizer(**{"streams": ROBOT, "fps": 30.0, **arguments})  # type: ignore[arg-type]


def test_a_stream_it_does_not_know_is_refused_with_those_it_knows() -> None:
    sync = Synchronizer[None](ROBOT, fps=30)
    with pytest.raises(InputError, match="'arms'") as error:
        sync.push("arms", T0, T0, None)
    assert "cam, arm" in error.value.hint
    sync.finish()
    with pytest.raises(InputError, match="finished"):
        sync.push("arm", T0, T0, None)


# --- what odd recordings showed ---


def recorded(*topics: list[Event], received: Callable[[int], int]) -> list[Event]:
    """All messages in order, with another receive time."""
    events = sorted(chain(*topics), key=lambda e: e[0])
    return [(received(recv), name, stamp) for recv, name, stamp in events]


def test_a_receive_clock_that_is_set_forward_costs_seconds_not_the_rest() -> None:
    step = 20 * NS_PER_S
    events = recorded(
        topic("cam", 30, seconds=60),
        topic("arm", 200, seconds=60),
        received=lambda recv: recv + step * (recv > T0 + 30 * NS_PER_S),
    )
    frames, report = synchronise(ROBOT, events)
    # The 20 s that the clock left out, and the second until it was sure.
    assert len([f for f in frames if not f.valid]) < 22 * 30
    assert all(f.valid for f in frames[52 * 30 :])
    assert any(n.startswith("receive times moved 20.00 s away") for n in report.notes)
    late = report.streams["arm"].late
    assert any(n.startswith(f"arm: {late} of 12000 messages came too late") for n in report.notes)
    frames, report = synchronise(ROBOT, events, latency_ms=30_000)
    assert all(f.valid for f in frames)


def in_bursts(recv: int) -> int:
    """Held up until the next full second, then all at once."""
    return recv + -(recv - T0) % NS_PER_S + (recv - T0) % NS_PER_S // 100


def test_good_stamps_are_kept_when_messages_come_in_bursts() -> None:
    held_up = recorded(topic("arm", 200, seconds=6), received=in_bursts)
    frames, report = synchronise(ROBOT, topic("cam", 30, seconds=6), held_up, latency_ms=1500)
    assert report.streams["arm"].clock == "header"
    assert all(f.valid for f in frames)
    _, report = synchronise(ROBOT, topic("cam", 30, seconds=6), held_up)
    late = report.streams["arm"].late
    assert late > 600
    assert f"arm: {late} of 1200 messages came too late; a longer latency waits for what was " in (
        " ".join(report.notes)
    )


def test_bursts_and_publishers_that_take_turns_are_no_drops() -> None:
    bare = recorded(topic("arm", 200, seconds=6, stamp=lambda _: None), received=in_bursts)
    _, report = synchronise(ROBOT, topic("cam", 30, seconds=6), bare)
    assert report.streams["arm"].estimated_drops == 0
    second = topic("arm", 200, seconds=6, phase_ms=1.2)
    _, report = synchronise(
        ROBOT, topic("cam", 30, seconds=6), topic("arm", 200, seconds=6), second
    )
    assert report.streams["arm"].estimated_drops == 0


@pytest.mark.parametrize("seconds_before", [15, 1_600_000_000])
@pytest.mark.parametrize("name", ["cam", "plan"])
def test_one_message_from_long_ago_does_not_use_up_the_wait(seconds_before: int, name: str) -> None:
    streams = [*ROBOT, stream("plan", HOLD, required=False)]
    old = [(T0 - seconds_before * NS_PER_S, name, T0 if name == "cam" else None)]
    frames, report = synchronise(streams, old, topic("cam", 30), topic("arm", 200))
    assert report.clock is ClockPolicy.HEADER
    assert report.streams["arm"].clock == report.streams["cam"].clock == "header"
    assert len(frames) >= 118
    assert all(f.valid for f in frames)


def test_a_stream_that_waited_for_another_did_not_start_late() -> None:
    _, report = synchronise(
        ROBOT, topic("cam", 30, seconds=12), topic("arm", 200, seconds=12, start=8)
    )
    assert not any(n.startswith("cam started") for n in report.notes)
    left_out = report.streams["cam"].received - 150
    assert any(
        n.startswith(f"cam: {left_out} messages came while a required stream was missing")
        for n in report.notes
    )
    assert "arm started at 8.00 s" in report.notes


def test_a_stream_too_slow_for_its_tolerance_is_told() -> None:
    slow = [stream("cam", HOLD, camera=True, tolerance_ms=50), stream("arm", tolerance_ms=50)]
    _, report = synchronise(slow, topic("cam", 30), topic("arm", 5))
    assert "arm: comes every 200.0 ms, too seldom for 'hold' within 50 ms" in report.notes


def test_stamps_of_another_clock_now_and_then_are_not_called_late() -> None:
    count = itertools.count()

    def mixed(at: int) -> int:
        return at - 10**18 if at > T0 + 2 * NS_PER_S and next(count) % 3 == 0 else at

    arm = topic("arm", 200, seconds=6, stamp=mixed)
    _, report = synchronise(ROBOT, topic("cam", 30, seconds=6), arm)
    odd = report.streams["arm"].late
    assert odd > 200
    assert f"arm: {odd} stamps in the far past set aside" in report.notes
    assert not any("too late" in note for note in report.notes)
