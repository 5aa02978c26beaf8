"""Soft synchronisation beside the two algorithms that ALOHA robots are recorded with.

Three recordings of 60 s, 3 cameras at 30 fps and 4 arms at 200 Hz, made from fixed seeds:

    nominal  every message comes, cameras 28..32 ms and arms 0.5..2.5 ms after their stamp
    real     1 % of all messages lost, stamps scatter by 3 ms, one camera silent for 0.5 s, one
             arm delivered 100 ms late
    dead     one arm stops after 30 s

and four ways to make frames of them: ours with `nearest` and with `hold`; "newest" (ALOHA: a loop
takes whatever message of each topic came last); "get_frame" (cobot_magic: the oldest of the newest
camera stamps, then the first message at or after it from every queue, else no frame). The last two
are written here from their description. Neither knows an invalid frame: what they deliver counts
as valid; the column "good" counts frames of any method whose samples are all within 50 ms of the
frame's time. Buffers are counted in samples: during our start-up second, and after it.

    python benchmarks/sync.py            # and whether the promises of the synchronizer hold
    python benchmarks/sync.py --quick    # 9 s each, too short to judge
    python benchmarks/sync.py --json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from act_data.sync import Synchronizer, SyncStream
from act_data.types import NS_PER_MS, NS_PER_S, Frame, SyncPolicy

FPS = 30
TOLERANCE_NS = 50 * NS_PER_MS
T0 = 1_700_000_000 * NS_PER_S
CAMERAS = ("cam_high", "cam_left", "cam_right")
ARMS = ("puppet_left", "puppet_right", "master_left", "master_right")
STREAMS = CAMERAS + ARMS
NO_DEADLINE = 10**18

Event = tuple[int, str, int]  # receive time, stream, stamp


@dataclass(frozen=True)
class Made:
    """One frame of any method: its time, and per stream the stamp and the message's number."""

    time_ns: int
    stamps: dict[str, int]
    numbers: dict[str, int]
    valid: bool


@dataclass(frozen=True)
class Row:
    """What one method made of one recording. Skews are absolute, of valid frames."""

    recording: str
    method: str
    frames: int
    valid: int
    good: int
    camera_p50_ms: float | None
    camera_p99_ms: float | None
    arm_p50_ms: float | None
    arm_p99_ms: float | None
    reuse_percent: float | None
    longest_gap_ms: float | None
    startup_buffered: int
    peak_buffered: int
    us_per_message: float


def record(kind: str, seconds: float) -> list[Event]:
    """The messages of one recording in order of receive time."""
    rng = random.Random(f"sync {kind}")
    events = []
    for i, name in enumerate(STREAMS):
        camera = name in CAMERAS
        rate = 30 if camera else 200
        phase = i * 0.010 if camera else rng.random() / rate
        stamps = [T0 + round((k / rate + phase) * NS_PER_S) for k in range(round(seconds * rate))]
        if kind == "real":
            # A publisher stamps one message after the other: scattered, but in order.
            stamps = sorted(s + round(rng.gauss(0, 3) * NS_PER_MS) for s in stamps)
        for stamp in stamps:
            at = (stamp - T0) / NS_PER_S
            lost = kind == "real" and rng.random() < 0.01
            silent = kind == "real" and name == "cam_left" and 0 <= at - seconds / 3 < 0.5
            gone = kind == "dead" and name == "puppet_right" and at >= seconds / 2
            if lost or silent or gone:
                continue
            delay_ms = rng.uniform(28, 32) if camera else rng.uniform(0.5, 2.5)
            if kind == "real" and name == "master_left":
                delay_ms += 100
            events.append((stamp + round(delay_ms * NS_PER_MS), name, stamp))
    return sorted(events)


def ours(
    events: Sequence[Event], policy: SyncPolicy, latency_ns: int = 250 * NS_PER_MS
) -> tuple[list[Frame[None]], int, int]:
    """Frames of the synchronizer, and the most samples it held: during start-up, and after."""
    sync = _synchronizer(policy, latency_ns)
    frames = []
    startup = peak = 0
    for recv, name, stamp in events:
        frames += sync.push(name, recv, stamp, None)
        if frames:
            peak = max(peak, sync.buffered)
        else:
            startup = max(startup, sync.buffered)
    return frames + sync.finish(), startup, peak


def time_ours(events: Sequence[Event], policy: SyncPolicy) -> float:
    """Microseconds per message, the best of three."""
    best = float("inf")
    for _ in range(3):
        sync = _synchronizer(policy, 250 * NS_PER_MS)
        start = time.perf_counter()
        for recv, name, stamp in events:
            sync.push(name, recv, stamp, None)
        sync.finish()
        best = min(best, time.perf_counter() - start)
    return best / len(events) * 1e6


def newest(events: Sequence[Event]) -> tuple[list[Made], int]:
    """ALOHA: callbacks overwrite one variable per topic, a 30 Hz loop reads them all."""
    rng = random.Random("newest")
    latest: dict[str, tuple[int, int]] = {}
    counts = dict.fromkeys(STREAMS, 0)
    made = []
    loop_ns = 0
    for recv, name, stamp in events:
        while loop_ns and recv > loop_ns:
            made.append(_made(loop_ns, latest))
            # The loop sleeps what is left of its period; the sleep takes a little longer.
            loop_ns += round(NS_PER_S / FPS + rng.uniform(0.1, 0.4) * NS_PER_MS)
        latest[name] = (stamp, counts[name])
        counts[name] += 1
        if not loop_ns and len(latest) == len(STREAMS):
            loop_ns = recv
    return made, len(STREAMS)


def get_frame(events: Sequence[Event]) -> tuple[list[Made], int]:
    """cobot_magic: queues of 2000, polled at 30 Hz."""
    queues: dict[str, deque[tuple[int, int]]] = {s: deque(maxlen=2000) for s in STREAMS}
    counts = dict.fromkeys(STREAMS, 0)
    made = []
    peak = 0
    poll_ns = events[0][0]
    for recv, name, stamp in events:
        while recv > poll_ns:
            frame = _poll(queues)
            if frame is not None:
                made.append(frame)
            poll_ns += round(NS_PER_S / FPS)
        queues[name].append((stamp, counts[name]))
        counts[name] += 1
        peak = max(peak, sum(map(len, queues.values())))
    return made, peak


def _poll(queues: dict[str, deque[tuple[int, int]]]) -> Made | None:
    if not all(queues[c] for c in CAMERAS):
        return None
    frame_ns = min(queues[c][-1][0] for c in CAMERAS)
    if any(not q or q[-1][0] < frame_ns for q in queues.values()):
        return None  # it prints "syn fail" and tries again at the next poll
    taken = {}
    for name, queue in queues.items():
        while queue[0][0] < frame_ns:
            queue.popleft()
        taken[name] = queue.popleft()
    return _made(frame_ns, taken)


def _made(time_ns: int, taken: dict[str, tuple[int, int]]) -> Made:
    return Made(
        time_ns, {n: t[0] for n, t in taken.items()}, {n: t[1] for n, t in taken.items()}, True
    )


def _synchronizer(policy: SyncPolicy, latency_ns: int) -> Synchronizer[None]:
    streams = [
        SyncStream(
            name=name,
            policy=policy,
            tolerance_ns=TOLERANCE_NS,
            required=True,
            camera=name in CAMERAS,
        )
        for name in STREAMS
    ]
    return Synchronizer(streams, fps=FPS, latency_ns=latency_ns)


def _row(kind: str, method: str, made: Sequence[Made], startup: int, peak: int, us: float) -> Row:
    valid = [m for m in made if m.valid]

    def skews(names: Sequence[str]) -> list[float]:
        return [abs(m.stamps[n] - m.time_ns) / NS_PER_MS for m in valid for n in names]

    cameras, arms = skews(CAMERAS), skews(ARMS)
    reused = [a.numbers[c] == b.numbers[c] for a, b in pairwise(valid) for c in CAMERAS]
    times = [m.time_ns for m in valid]
    return Row(
        recording=kind,
        method=method,
        frames=len(made),
        valid=len(valid),
        good=sum(all(abs(m.stamps[n] - m.time_ns) <= TOLERANCE_NS for n in STREAMS) for m in valid),
        camera_p50_ms=_percentile(cameras, 50),
        camera_p99_ms=_percentile(cameras, 99),
        arm_p50_ms=_percentile(arms, 50),
        arm_p99_ms=_percentile(arms, 99),
        reuse_percent=100 * sum(reused) / len(reused) if reused else None,
        longest_gap_ms=max((b - a for a, b in pairwise(times)), default=0) / NS_PER_MS,
        startup_buffered=startup,
        peak_buffered=peak,
        us_per_message=us,
    )


def _percentile(values: Sequence[float], rank: float) -> float | None:
    return float(np.percentile(values, rank)) if values else None


def _as_made(frames: Sequence[Frame[None]]) -> list[Made]:
    return [
        Made(
            f.tick_ns,
            {n: p.stamp_ns for n, p in f.picks.items()},
            {n: p.index for n, p in f.picks.items()},
            f.valid,
        )
        for f in frames
    ]


def _same_valid(a: Sequence[Frame[None]], b: Sequence[Frame[None]]) -> bool:
    """Whether two runs have the same ticks, and the same valid picks in them."""
    return [_valid_picks(f) for f in a] == [_valid_picks(f) for f in b]


def _valid_picks(frame: Frame[None]) -> tuple[int, dict[str, int]]:
    return frame.tick_ns, {n: p.index for n, p in frame.picks.items() if p.valid}


def measure(seconds: float) -> tuple[list[Row], bool]:
    """All rows, and whether waiting for ever changes any valid pick of the `real` recording."""
    rows = []
    same = True
    for kind in ("nominal", "real", "dead"):
        events = record(kind, seconds)
        for policy in (SyncPolicy.NEAREST, SyncPolicy.HOLD):
            frames, startup, peak = ours(events, policy)
            us = time_ours(events, policy)
            rows.append(_row(kind, f"ours, {policy}", _as_made(frames), startup, peak, us))
            if kind == "real":
                same = same and _same_valid(frames, ours(events, policy, NO_DEADLINE)[0])
        for name, method in (("newest (ALOHA)", newest), ("get_frame (AgileX)", get_frame)):
            start = time.perf_counter()
            made, peak = method(events)
            us = (time.perf_counter() - start) / len(events) * 1e6
            rows.append(_row(kind, name, made, 0, peak, us))
    return rows, same


def judge(rows: Sequence[Row], same: bool) -> dict[str, bool]:
    """The promises, for recordings of 60 s, and whether they hold."""
    nearest = {r.recording: r for r in rows if r.method == "ours, nearest"}
    nominal, real, dead = nearest["nominal"], nearest["real"], nearest["dead"]
    return {
        "nominal: 1799 frames, all valid": nominal.valid == nominal.frames >= 1799,
        "real: 1797 frames, 1743 valid": real.frames >= 1797 and real.valid >= 1743,
        "dead: 1799 frames, 896 valid": dead.frames >= 1799 and dead.valid >= 896,
        "real: 0.25 s of waiting gives the valid picks of waiting for ever": same,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="9 s each, too short to judge")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows, same = measure(9.0 if arguments.quick else 60.0)
    promises = {} if arguments.quick else judge(rows, same)
    if arguments.json:
        print(json.dumps({"rows": [asdict(r) for r in rows], "promises": promises}, indent=2))
    else:
        _print_table(rows)
        for promise, kept in promises.items():
            print(f"{'met    ' if kept else 'NOT MET'}  {promise}")
    return 0 if all(promises.values()) else 1


def _print_table(rows: Sequence[Row]) -> None:
    print(
        f"{'':20}{'frames':>8}{'valid':>7}{'good':>7}{'cam p50/p99 ms':>17}"
        f"{'arm p50/p99 ms':>18}{'reuse %':>9}{'gap ms':>8}{'start':>7}{'buffer':>8}{'us/msg':>8}"
    )
    recording = ""
    for row in rows:
        if row.recording != recording:
            recording = row.recording
            print(recording)
        print(
            f"  {row.method:18}{row.frames:8}{row.valid:7}{row.good:7}"
            f"{_cell(row.camera_p50_ms, 9)} /{_cell(row.camera_p99_ms, 6)}"
            f"{_cell(row.arm_p50_ms, 9)} /{_cell(row.arm_p99_ms, 7)}"
            f"{_cell(row.reuse_percent, 9)}{_cell(row.longest_gap_ms, 8, 0)}"
            f"{row.startup_buffered:7}{row.peak_buffered:8}{row.us_per_message:8.1f}"
        )


def _cell(value: float | None, width: int, digits: int = 1) -> str:
    return f"{'-' if value is None else f'{value:.{digits}f}':>{width}}"


if __name__ == "__main__":
    sys.exit(main())
