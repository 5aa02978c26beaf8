"""The synchronizer on a real recording whose content tells when each sample was taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from act_data.sync import Synchronizer, SyncStream
from act_data.types import NS_PER_MS, NS_PER_S, ClockPolicy, Frame, Reason, SyncPolicy

CAMERAS = {"f": "/camera_f/color/image_raw", "l": "/camera_l/color/image_raw"}
ARMS = {
    "puppet_left": "/puppet/joint_left",
    "puppet_right": "/puppet/joint_right",
    "master_left": "/master/joint_left",
    "master_right": "/master/joint_right",
}
TWIST = {"twist": "/cmd_vel"}
TOPICS = {**CAMERAS, **ARMS, **TWIST}
# camera_f takes frame i at i/30 s, camera_l 10 ms later; joints step at 200 Hz.
CAMERA_PHASE_NS = {"f": 0, "l": 10 * NS_PER_MS}


def taken_ns(name: str, message: Any) -> int:
    """When a sample was taken, in nanoseconds since the script began, from its content."""
    if name in CAMERAS:
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        bits = rows[0, : 3 * 24 : 3] > 128
        index = sum(1 << i for i, bit in enumerate(bits.tolist()) if bit)
        return round(index * NS_PER_S / 30) + CAMERA_PHASE_NS[name]
    # joint0 of arm j is sin(phase + j): the phase is unique with joint1 = sin(phase + 0.3 + j).
    arm = list(ARMS).index(name)
    at = dict(zip(message.name, message.position, strict=True))
    first, second = at["joint0"], at["joint1"]
    angle = np.arctan2(first, (second - first * np.cos(0.3)) / np.sin(0.3)) - arm
    return round(float(angle % (2 * np.pi)) * NS_PER_S)


@pytest.fixture(scope="module")
def messages(shared_bags: Path) -> list[tuple[str, int, int | None, int, int | None]]:
    """(stream, receive time, stamp, time taken or 0, seq) in log order."""
    names = {topic: name for name, topic in TOPICS.items()}
    out = []
    with AnyReader([shared_bags / "recorded_ros1" / "aloha_none.bag"]) as reader:
        connections = [c for c in reader.connections if c.topic in names]
        for connection, recv_ns, raw in reader.messages(connections):
            name = names[connection.topic]
            message = reader.deserialize(raw, connection.msgtype)
            if name in TWIST:
                out.append((name, recv_ns, None, 0, None))
                continue
            stamp = message.header.stamp
            stamp_ns = stamp.sec * NS_PER_S + stamp.nanosec
            out.append((name, recv_ns, stamp_ns, taken_ns(name, message), message.header.seq))
    return out


@pytest.mark.parametrize("policy", [SyncPolicy.HOLD, SyncPolicy.NEAREST])
def test_the_content_of_every_valid_pick_has_the_skew_it_claims(
    messages: list[tuple[str, int, int | None, int, int | None]], policy: SyncPolicy
) -> None:
    sync = Synchronizer[int](
        [
            SyncStream(
                name=name,
                policy=policy,
                tolerance_ns=50 * NS_PER_MS,
                required=True,
                camera=name in CAMERAS,
                topic=topic,
            )
            for name, topic in TOPICS.items()
        ],
        fps=30,
    )
    frames: list[Frame[int]] = []
    for name, recv_ns, stamp_ns, taken, seq in messages:
        frames += sync.push(name, recv_ns, stamp_ns, taken, seq=seq)
    frames += sync.finish()
    report = sync.report()

    assert report.clock is ClockPolicy.HEADER
    assert len(frames) == pytest.approx(180, abs=3)
    for stream in report.streams.values():
        assert stream.received == stream.used + stream.unused + stream.late + stream.duplicate
        assert (stream.late, stream.duplicate, stream.seq_gaps or 0) == (0, 0, 0)

    # The script's zero on the synchronizer's clock, from one stream; the others must agree.
    start = frames[0].picks["f"].stamp_ns - (frames[0].picks["f"].sample or 0)
    half = {"f": 17, "l": 17, **dict.fromkeys(ARMS, 3)}
    for frame in frames:
        for name in (*CAMERAS, *ARMS):
            pick = frame.picks[name]
            if not pick.valid or pick.sample is None:
                continue
            true_skew = start + pick.sample - frame.tick_ns
            # Stamps are written when a message is published, up to a few ms after its phase.
            assert true_skew == pytest.approx(pick.skew_ns, abs=6 * NS_PER_MS)
            if policy is SyncPolicy.HOLD:
                assert -50 * NS_PER_MS <= pick.skew_ns <= 0
            elif pick.stamp_ns not in _beside_the_silence(frames):
                assert abs(pick.skew_ns) <= (half[name] + 3) * NS_PER_MS

    silent = [f for f in frames if not f.picks["l"].valid]
    assert 12 <= len(silent) <= 16
    assert all(f.picks["f"].valid for f in silent)
    assert [f.tick for f in silent] == list(range(silent[0].tick, silent[-1].tick + 1))
    assert {f.picks["l"].reason for f in silent} <= {Reason.GAP, Reason.DEAD, Reason.LATE}
    assert sum(not f.valid for f in frames) == len(silent)
    assert report.notes == ("l: silent from 1.98 s to 2.51 s",)
    # 15 frames are missing. The script's timer gave periods of 35, 35, 30 ms: median 35.
    assert report.streams["l"].estimated_drops == 14
    assert report.streams["twist"].clock == "receive"


def _beside_the_silence(frames: list[Frame[int]]) -> set[int]:
    """The last stamp of camera_l before its silence and the first one after it."""
    silent = [f.tick for f in frames if not f.picks["l"].valid]
    return {
        frames[max(0, silent[0] - 1)].picks["l"].stamp_ns,
        frames[silent[-1] + 1].picks["l"].stamp_ns,
    }
