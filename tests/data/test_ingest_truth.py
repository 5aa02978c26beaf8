"""Ingest of a real recording whose content says when it was taken.

The recorder was ROS 1's own; the publisher wrote its frame number into the pixels and its phase
into the joint positions (see the manifest beside the recordings). So what a frame holds can be
compared with what its tick demands, without believing any stamp.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rosbags.highlevel import AnyReader

from act_data.ingest import IngestReport, IngestSettings, ingest
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_INDEX, SYNC_REASON, SYNC_SKEW, TIMESTAMP
from act_data.store import open_dataset
from act_data.types import Reason, SyncPolicy
from tests.bags import convert

HZ = {"cam_high": 30.0, "cam_left_wrist": 30.0, "cam_right_wrist": 30.0}
DB3_AND_MCAP: tuple[Literal["db3", "mcap"], ...] = ("db3", "mcap")
ARMS = ["puppet_left", "puppet_right", "master_left", "master_right"]
# camera: (channel of the stored RGB that was channel 0 as published, seconds after camera_f)
CAMERAS = {
    "cam_high": (0, 0.0),
    "cam_left_wrist": (2, 0.010),  # published as bgr8
    "cam_right_wrist": (0, 0.020),
}
# The publisher takes k/200 s and i/30 s as the phase and stamps when it sends: it is late at times.
SEND_JITTER_S = 0.004

SOURCES = {
    "none": ["aloha_none.bag"],
    "lz4": ["aloha_lz4.bag"],
    "splits": [f"aloha_split_{i}.bag" for i in range(6)],
}


def made(
    shared_bags: Path, tmp_path: Path, source: str, **settings: object
) -> tuple[DatasetReader, IngestReport]:
    bags = [shared_bags / "recorded_ros1" / name for name in SOURCES[source]]
    out = tmp_path / "ds.zarr"
    report = ingest(
        bags,
        out,
        IngestSettings.model_validate({"robot": "cobot_magic", "codec": "zstd", **settings}),
    )
    return open_dataset(out), report


def frame_numbers(images: NDArray[np.generic], channel: int) -> NDArray[np.int64]:
    """The number that the publisher wrote into row 0 of every picture, (T,)."""
    bits = images[:, 0, :24, channel] > 128
    return (bits * (1 << np.arange(24))).sum(axis=1)


def jpeg_frame_numbers(images: NDArray[np.generic], bag: Path) -> NDArray[np.int64]:
    """As `frame_numbers` for camera_r, whose JPEG blurs single coloured pixels away.

    All 180 of its pictures are in the bag, in the order of their numbers, and no two are alike.
    """
    with AnyReader([bag]) as reader:
        camera = [c for c in reader.connections if c.topic.startswith("/camera_r/")]
        pictures = [
            np.asarray(Image.open(BytesIO(reader.deserialize(raw, c.msgtype).data.tobytes())))
            for c, _, raw in reader.messages(connections=camera)
        ]
    numbers = {picture.tobytes(): i for i, picture in enumerate(pictures)}
    assert len(numbers) == 180
    return np.array([numbers[np.ascontiguousarray(image).tobytes()] for image in images])


def arm_phase(position: NDArray[np.generic], velocity: NDArray[np.generic], arm: int) -> NDArray:
    """Phase in seconds in [0, 2 pi) of (T, 7) positions sin(p + 0.3 i + j) and velocities cos."""
    shift = 0.3 * np.arange(7) + arm
    angle = np.arctan2(position, velocity) - shift
    return np.mod(np.unwrap(angle, axis=1).mean(axis=1), 2 * np.pi)


def column(reader: DatasetReader, stream: str) -> int:
    return [c.name for c in reader.schema.columns].index(stream)


def start_of_phase(reader: DatasetReader) -> float:
    """Stamp of phase 0 in seconds after the first tick, from the content of camera_f."""
    stamps = reader.read(TIMESTAMP, 0) - reader.read(TIMESTAMP, 0)[0]
    taken = (stamps + reader.read(SYNC_SKEW, 0)[:, column(reader, "cam_high")]) * 1e-9
    numbers = frame_numbers(reader.read("images/cam_high", 0), 0)
    return float(np.median(taken - numbers / 30))


def ticks_in_phase(reader: DatasetReader) -> NDArray[np.float64]:
    stamps = reader.read(TIMESTAMP, 0)
    return (stamps - stamps[0]) * 1e-9 - start_of_phase(reader)


def published(period_s: float, delay_s: float, silent: tuple[float, float] | None) -> NDArray:
    """When the samples of a stream were taken, in seconds of phase."""
    taken = np.arange(round(6 / period_s)) * period_s + delay_s
    if silent is None:
        return taken
    return taken[(taken < silent[0]) | (taken >= silent[1])]


def assert_chosen_rightly(
    taken_s: NDArray, tick_s: NDArray, policy: SyncPolicy, all_s: NDArray, tolerance_s: float
) -> None:
    """What a tick got is what `policy` promises among all that was published."""
    skew = taken_s - tick_s
    assert np.abs(skew).max() <= tolerance_s + SEND_JITTER_S
    if policy is SyncPolicy.HOLD:
        assert skew.max() <= SEND_JITTER_S, "hold looked past the tick"
        after = np.searchsorted(all_s, taken_s + 1e-4)
        following = np.append(all_s, np.inf)[after]
        assert (following > tick_s - SEND_JITTER_S).all(), "a newer sample was there"
    else:
        nearest = np.abs(all_s[None] - tick_s[:, None]).min(axis=1)
        assert (np.abs(skew) <= nearest + SEND_JITTER_S).all(), "a nearer sample was there"
        even = np.abs(np.diff(all_s)).max() < 1.5 * np.diff(all_s).min()
        assert not even or np.abs(skew).max() <= np.diff(all_s).max() / 2 + SEND_JITTER_S


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("policy", [SyncPolicy.HOLD, SyncPolicy.NEAREST])
def test_every_valid_frame_shows_what_its_tick_demands(
    shared_bags: Path, tmp_path: Path, source: str, policy: SyncPolicy
) -> None:
    reader, _ = made(shared_bags, tmp_path, source, sync=policy, action_shift=0)
    phase = ticks_in_phase(reader)
    reasons = reader.read(SYNC_REASON, 0)
    whole = "aloha_none.bag" if source == "none" else "aloha_lz4.bag"
    for camera, (channel, delay_s) in CAMERAS.items():
        valid = reasons[:, column(reader, camera)] == Reason.OK
        assert valid.sum() > 150
        images = reader.read(f"images/{camera}", 0)
        if camera == "cam_right_wrist":
            numbers = jpeg_frame_numbers(images, shared_bags / "recorded_ros1" / whole)
        else:
            numbers = frame_numbers(images, channel)
        silent = (2.0, 2.5) if camera == "cam_left_wrist" else None
        everything = published(1 / 30, delay_s, silent)
        taken = numbers[valid] / 30 + delay_s
        assert_chosen_rightly(taken, phase[valid], policy, everything, 0.050)
    vectors = {"puppet": ("qpos", "qvel"), "master": ("action", None)}
    for arm, stream in enumerate(ARMS):
        position_name, velocity_name = vectors[stream.split("_")[0]]
        if velocity_name is None:
            continue  # without velocities the sine has two phases; see the next test
        half = slice(0, 7) if stream.endswith("left") else slice(7, 14)
        taken = arm_phase(
            reader.read(position_name, 0)[:, half], reader.read(velocity_name, 0)[:, half], arm
        )
        valid = reasons[:, column(reader, stream)] == Reason.OK
        everything = published(1 / 200, 0.0, None)
        assert_chosen_rightly(taken[valid], phase[valid], policy, everything, 0.050)


@pytest.mark.parametrize("shift", [0, 1])
def test_actions_are_the_commands_of_the_tick_that_the_shift_names(
    shared_bags: Path, tmp_path: Path, shift: int
) -> None:
    reader, _ = made(shared_bags, tmp_path, "none", action_shift=shift)
    phase = ticks_in_phase(reader)
    action = reader.read("action", 0)
    for arm, half in ((2, slice(0, 7)), (3, slice(7, 14))):
        # Of all phases within the hold bound before the tick one must explain all seven joints.
        lags = np.linspace(-SEND_JITTER_S, 1 / 200 + SEND_JITTER_S, 40)
        times = phase[:, None] + shift / 30 - lags[None]
        wanted = np.sin(times[..., None] + 0.3 * np.arange(7) + arm)
        distance = np.abs(wanted - action[:, None, half]).max(axis=2).min(axis=1)
        assert distance.max() < 2e-3


def test_reversed_joints_are_put_right_and_padded_rows_are_cut(
    shared_bags: Path, tmp_path: Path
) -> None:
    reader, _ = made(shared_bags, tmp_path, "none")
    right = reader.read("qpos", 0)[:, 7:]
    velocity = reader.read("qvel", 0)[:, 7:]
    angle = np.unwrap(np.arctan2(right, velocity), axis=1)
    assert np.allclose(np.diff(angle, axis=1), 0.3, atol=1e-3)  # joint{i}: phase + 0.3 i
    assert reader.schema.feature("images/cam_left_wrist").shape == (48, 64, 3)
    depth = reader.read("depth/cam_high", 0)
    v, u = np.mgrid[0:48, 0:64]
    frame = depth[:, 0, 0].astype(int)
    assert np.array_equal(depth, v * 64 + u + frame[:, None, None])


def test_the_silence_of_a_camera_is_masked_and_reported(shared_bags: Path, tmp_path: Path) -> None:
    reader, report = made(shared_bags, tmp_path, "none")
    phase = ticks_in_phase(reader)
    reasons = reader.read(SYNC_REASON, 0)[:, column(reader, "cam_left_wrist")]
    masked = phase[reasons != Reason.OK]
    # camera_l says nothing from 2.0 to 2.5 s; hold may use its last frame for 50 ms more.
    assert masked.min() == pytest.approx(2.0 + 0.05, abs=0.04)
    assert masked.max() == pytest.approx(2.5, abs=0.04)
    assert len(masked) == report.episodes[0].masked
    assert np.all(np.diff(np.flatnonzero(reasons != Reason.OK)) == 1)
    sync = report.episodes[0].sync
    assert sync is not None
    assert sum(sync.streams["cam_left_wrist"].invalid.values()) >= len(masked)
    assert any("cam_left_wrist" in note and "silent" in note for note in sync.notes)
    others = [i for i, c in enumerate(reader.schema.columns) if c.stream != "cam_left_wrist"]
    required = [
        i for i in others if reader.schema.streams[reader.schema.columns[i].stream].required
    ]
    assert (reader.read(SYNC_REASON, 0)[:, required] == Reason.OK).all()


def test_no_sample_is_used_twice_without_a_record_and_none_is_lost(
    shared_bags: Path, tmp_path: Path
) -> None:
    reader, report = made(shared_bags, tmp_path, "none")
    sync = report.episodes[0].sync
    assert sync is not None
    counts = {"cam_high": 180, "cam_left_wrist": 165, "cam_right_wrist": 180, "puppet_left": 1200}
    for stream, s in sync.streams.items():
        assert s.received == s.used + s.unused + s.late + s.duplicate
        if stream in counts:
            assert s.received == pytest.approx(counts[stream], abs=1)
    index = reader.read(SYNC_INDEX, 0)
    assert (np.diff(index[:, column(reader, "cam_high")]) >= 0).all()


@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
def test_the_same_recording_in_another_format_is_the_same_dataset(
    shared_bags: Path, tmp_path: Path, codec: str
) -> None:
    bag = shared_bags / "recorded_ros1" / "aloha_none.bag"
    settings = IngestSettings.model_validate({"robot": "cobot_magic", "codec": codec})
    hashes = {"bag": ingest([bag], tmp_path / "bag.zarr", settings).content_hash}
    for kind in DB3_AND_MCAP:
        converted = convert(bag, tmp_path / kind, kind)
        hashes[kind] = ingest([converted], tmp_path / f"{kind}.zarr", settings).content_hash
    assert len(set(hashes.values())) == 1, hashes
