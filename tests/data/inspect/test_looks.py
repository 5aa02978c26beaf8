"""What a look at a topic finds: its clock, its rate, and what its messages hold."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from act_data.inspect import TopicCard, inspect
from act_data.inspect.cards import ClockDomain
from act_data.inspect.timing import Timing
from act_data.inspect.words import picture_name, role_word, side, vector_name
from act_data.types import NS_PER_MS, NS_PER_S
from tests.bags import KINDS, Entry, Kind, write
from tests.data.inspect.robots import arm, camera, every, twist
from tests.small_robot import IMAGE, JOINTS, S, bag, picture

T0 = 1_700_000_000 * NS_PER_S
MS = NS_PER_MS


def looked(folder: Path, entries: list[Entry], kind: Kind = "mcap") -> dict[str, TopicCard]:
    (card,) = inspect([bag(folder, "looked", entries, kind)]).recordings
    assert card.damage == ""
    return {topic.topic: topic for topic in card.topics}


# --- clocks ---


def steady(i: int) -> int:
    return T0 + i * 10 * MS


@pytest.mark.parametrize(
    ("stamp", "domain"),
    [
        pytest.param(lambda i: None, ClockDomain.NONE, id="no-header"),
        pytest.param(lambda i: 0, ClockDomain.ZERO, id="zeros"),
        pytest.param(lambda i: steady(i) if i % 5 else 0, ClockDomain.ZERO, id="many-zeros"),
        pytest.param(lambda i: steady(i) - 25 * MS, ClockDomain.SHARED, id="late-by-25-ms"),
        pytest.param(lambda i: steady(i) + 4 * MS, ClockDomain.SHARED, id="in-the-future"),
        pytest.param(lambda i: 60 * S + i * 10 * MS, ClockDomain.OTHER, id="simulated"),
        pytest.param(lambda i: 60 * S + i * 8 * MS, ClockDomain.DRIFTING, id="slow-simulation"),
        pytest.param(lambda i: steady(i) - (0 if i % 2 else 50 * S), ClockDomain.MIXED, id="two"),
        pytest.param(lambda i: steady(i) + (i > 400) * 50 * S, ClockDomain.MIXED, id="set-forward"),
    ],
)
def test_the_clock_of_a_topic_is_told(stamp: object, domain: ClockDomain) -> None:
    timing = Timing("/t", T0, 4096)
    for i in range(1000):
        timing.seen(steady(i), stamp(i), None)  # type: ignore[operator]
    report, found, _ = timing.finish(steady(1000))
    assert found is domain
    assert report.received == 1000


@pytest.mark.parametrize("jitter_ms", [0, 3, 40])
def test_jitter_does_not_make_a_clock_drift(jitter_ms: int) -> None:
    rng = np.random.default_rng(0)
    timing = Timing("/t", T0, 4096)
    recv = np.sort(np.arange(500) * 10 * MS + rng.integers(0, jitter_ms * MS + 1, 500))
    for i, late in enumerate(recv.tolist()):
        timing.seen(T0 + late, T0 + i * 10 * MS, None)
    assert timing.finish(T0 + 5 * NS_PER_S)[1] is ClockDomain.SHARED


@pytest.mark.parametrize("kind", KINDS)
def test_latency_and_rate_are_those_of_the_recording(tmp_path: Path, kind: Kind) -> None:
    entries = [
        (topic, JOINTS, t + 7 * MS, values) for topic, _, t, values in arm("/arm")
    ]  # received 7.5 ms after the stamp
    simulated = [
        ("/sim", JOINTS, t, {"header": t + 500 * S + i % 3 * MS, "position": [0]})
        for i, (t, _) in enumerate(every(50))
    ]
    cards = looked(tmp_path, [*entries, *simulated, *twist("/cmd_vel")], kind)
    arm_card, sim, cmd = cards["/arm"], cards["/sim"], cards["/cmd_vel"]
    assert arm_card.clock is ClockDomain.SHARED
    assert arm_card.latency_p50_ms == pytest.approx(7.5)
    assert (arm_card.rate_hz, arm_card.period_p50_ms) == (pytest.approx(100), pytest.approx(10))
    assert sim.clock is ClockDomain.OTHER
    assert sim.clock_behind_s == pytest.approx(-500, abs=0.01)
    assert sim.latency_p50_ms == pytest.approx(1, abs=0.1)
    assert cmd.clock is ClockDomain.NONE
    assert (cmd.latency_p50_ms, cmd.drift_ppm) == (None, None)
    assert cmd.rate_hz == pytest.approx(20)


def test_drops_gaps_and_silences_are_counted(tmp_path: Path) -> None:
    seq = [{"seq": i} for i in range(300)]
    entries = [
        (topic, kind, t, {**values, "header": {"stamp": values["header"], **number}})
        for number, (topic, kind, t, values) in zip(seq, arm("/arm"), strict=True)
        if number["seq"] not in (50, *range(100, 150))
    ]
    card = looked(tmp_path, entries, "ros1")["/arm"]
    assert (card.messages, card.promised) == (249, 249)
    assert (card.estimated_drops, card.seq_gaps) == (51, 51)
    assert card.period_max_ms == pytest.approx(510)
    assert card.notes == ("/arm: silent from 0.99 s to 1.50 s",)


def test_a_look_at_one_message_claims_no_rate(tmp_path: Path) -> None:
    card = looked(tmp_path, [("/f", "std_msgs/msg/Float64", S, {"data": 1.0})])["/f"]
    assert (card.messages, card.rate_hz, card.period_p50_ms) == (1, None, None)
    assert card.clock is ClockDomain.NONE


# --- contents ---


def test_pictures_tell_size_encoding_and_padding(tmp_path: Path) -> None:
    padded = {"step": 24 * 3 + 10, "data": bytes((24 * 3 + 10) * 16), "encoding": "bgr8"}
    cards = looked(tmp_path, [*camera("/a/image_raw"), *camera("/b/image_raw", **padded)])
    a, b = cards["/a/image_raw"].pictures, cards["/b/image_raw"].pictures
    assert a is not None
    assert b is not None
    assert (a.kind, a.encodings, a.sizes, a.padded) == ("image", ("rgb8",), ((16, 24),), False)
    assert (b.kind, b.encodings, b.sizes, b.padded) == ("image", ("bgr8",), ((16, 24),), True)


@pytest.mark.parametrize(
    ("topic", "encoding", "bytes_", "kind"),
    [
        ("/cam/image_raw", "16UC1", 2, "depth"),
        ("/cam/image_raw", "32FC1", 4, "depth"),
        ("/cam/image_raw", "mono16", 2, "image"),
        ("/cam/depth/image_raw", "mono16", 2, "depth"),
        ("/cam/depth/image_raw", "mono8", 1, "image"),
    ],
)
def test_depth_is_told_by_its_encoding(
    tmp_path: Path, topic: str, encoding: str, bytes_: int, kind: str
) -> None:
    fields = {"encoding": encoding, "step": 24 * bytes_, "data": bytes(24 * 16 * bytes_)}
    pictures = looked(tmp_path, camera(topic, **fields))[topic].pictures
    assert pictures is not None
    assert pictures.kind == kind


def test_pictures_that_change_their_size_are_told(tmp_path: Path) -> None:
    entries = [
        ("/cam/image_raw", IMAGE, t, {"header": t, **picture(0, 16, 24 if i < 60 else 32)})
        for i, (t, _) in enumerate(every(30))
    ]
    pictures = looked(tmp_path, entries)["/cam/image_raw"].pictures
    assert pictures is not None
    assert pictures.sizes == ((16, 24), (16, 32))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        pytest.param(camera("/x", encoding="32FC2"), "encoding '32FC2'", id="encoding"),
        pytest.param(camera("/x", data=b"short"), "do not fit together", id="size"),
        pytest.param(
            [
                ("/x", "sensor_msgs/msg/CompressedImage", t, {"format": "h264", "data": b"\0\0\1"})
                for t, _ in every(30)
            ],
            "format 'h264' is no JPEG or PNG",
            id="video",
        ),
        pytest.param(arm("/x", position=[1.0]), "3 names, 1 of position", id="ragged"),
        pytest.param(arm("/x", name=["a", "b", "a"]), "listed twice", id="twice"),
    ],
)
def test_what_cannot_be_decoded_says_why(tmp_path: Path, entries: list[Entry], says: str) -> None:
    card = looked(tmp_path, entries)["/x"]
    assert says in card.problem
    assert card.messages == len(entries)


def test_joints_tell_names_and_what_is_empty(tmp_path: Path) -> None:
    joints = looked(tmp_path, arm("/arm", velocity=[]))["/arm"].joints
    assert joints is not None
    assert joints.names == ("shoulder", "elbow", "wrist")
    assert joints.fields == ("position",)
    without = looked(tmp_path / "2", arm("/arm", name=[]))["/arm"].joints
    assert without is not None
    assert (without.names, without.count) == ((), 3)


def test_a_field_whose_length_varies_is_left_out_and_named(tmp_path: Path) -> None:
    entries = [
        ("/touch", "std_msgs/msg/Float32MultiArray", t, {"data": [0.0] * (2 + i % 2)})
        for i, (t, _) in enumerate(every(30))
    ]
    numbers = looked(tmp_path, entries)["/touch"].numbers
    assert numbers is not None
    assert numbers.fields == ()
    assert numbers.left_out == {"data": "its length varies: 2 numbers, then 3 numbers"}


def test_numbers_of_a_type_that_only_the_recording_knows_are_found(tmp_path: Path) -> None:
    text = (
        "std_msgs/Header header\nfloat64 force\nbool closed\nint8 LIMIT=5\n"
        "geometry_msgs/Vector3 tip\nfloat32[4] cells\nstring name\ntime since\n"
    )
    kind = "my_msgs/msg/Finger"
    entries = [
        ("/finger", kind, t, {"header": t, "force": i / 10, "cells": [1, 2, 3, 4]})
        for i, (t, _) in enumerate(every(30))
    ]
    path = write(tmp_path / "own", "ros1", entries, definitions={kind: text})
    (card,) = inspect([path]).recordings
    numbers = card.topics[0].numbers
    assert numbers is not None
    assert [(f.path, f.width, f.moves) for f in numbers.fields] == [
        ("force", 1, True), ("closed", 1, False), ("tip", 3, False), ("cells", 4, True),
    ]  # fmt: skip


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    values = {"height": 500, "width": 1000, "encoding": "mono8", "step": 1000}
    entries = ((f"/c{i % 2}", IMAGE, i * MS, {**values, "data": bytes(500_000)}) for i in range(60))
    path = write(tmp_path / "a", "ros1", entries)
    inspect([path])  # what is loaded once
    tracemalloc.start()
    inspect([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


# --- names ---


@pytest.mark.parametrize(
    ("topic", "command", "word"),
    [
        ("/master/joint_left", True, "master"),
        ("/puppet/joint_left", False, "puppet"),
        ("/puppet_left/commands/joint_group", True, "commands"),
        ("/leaderArm/jointStates", True, "leader"),
        ("/joint_states", False, "states"),
        ("/arm/_action/feedback", False, "feedback"),
        ("/policy/action", True, "action"),
        ("/gripper/position", False, ""),
        ("/mycmdr/x", False, ""),
    ],
)
def test_a_command_is_told_by_a_word_of_its_name(topic: str, command: bool, word: str) -> None:
    assert role_word(topic) == (command, word)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/puppet/joint_left", "left"),
        ("/arm_r/state", "right"),
        ("/rightArm", "right"),
        ("/l1", "left"),
        ("/lift", ""),
    ],
)
def test_sides(topic: str, expected: str) -> None:
    assert side(topic) == expected


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/camera_f/color/image_raw", "camera_f"),
        ("/cam_high/camera/color/image_rect_raw", "cam_high"),
        ("/camera/color/image_raw", "camera"),
        ("/camera/infra1/image_rect_raw", "infra1"),
        ("/usb_cam_low/image_raw/compressed", "usb_cam_low"),
        ("image", "image"),
    ],
)
def test_a_camera_gets_a_short_name(topic: str, name: str) -> None:
    assert picture_name(topic, set()) == name


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/puppet/joint_left", "puppet_left"),
        ("/joint_states", "joints"),
        ("/imu/data", "imu"),
        ("/2nd/class", "t_2nd_class"),
        ("/timestamp", "t_timestamp"),
    ],
)
def test_a_vector_gets_a_short_name(topic: str, name: str) -> None:
    assert vector_name(topic, set(), "joints") == name


def test_names_are_never_given_twice() -> None:
    taken: set[str] = set()
    for topic in ("/a/image_raw", "/a/image", "/a/rgb/image_raw", "/a/image_raw"):
        taken.add(picture_name(topic, taken))
    assert len(taken) == 4
