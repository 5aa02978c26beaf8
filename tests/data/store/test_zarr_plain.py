"""What we write is plain zarr v3: any zarr tool reads the same bits as our own reader."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import StoreError
from act_data.records import DatasetSchema, Feature
from act_data.store import codecs, jpeg, open_dataset, open_writer
from act_data.types import EncodedImage, Role, StepType, Timestep
from tests.data.store.contract import make_info, make_schema, make_steps, record

RNG = np.random.default_rng(0)


def schema_of(image: str, depth: str, size: tuple[int, int]) -> DatasetSchema:
    features = (
        Feature(name="qpos", role=Role.OBSERVATION, dtype="float32", shape=(3,), unit="rad"),
        Feature(
            name="images/cam", role=Role.OBSERVATION, dtype="uint8", shape=(*size, 3), codec=image
        ),
        Feature(name="depth/cam", role=Role.OBSERVATION, dtype="uint16", shape=size, codec=depth),
        Feature(name="action", role=Role.ACTION, dtype="float32", shape=(2,)),
        Feature(name="timestamp", role=Role.SYNC, dtype="int64", shape=()),
        Feature(name="sync_reason", role=Role.SYNC, dtype="uint8", shape=(4,)),
    )
    return DatasetSchema(robot="tiny", fps=30, features=features)


def steps_of(schema: DatasetSchema, length: int, rng: np.random.Generator) -> list[Timestep]:
    size = schema.feature("depth/cam").shape
    return [
        Timestep(
            step_type=StepType.FIRST if t == 0 else StepType.MID,
            tick_ns=int(rng.integers(2**62)),
            observation={
                "qpos": rng.normal(size=3).astype(np.float32),
                "images/cam": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
                "depth/cam": rng.integers(0, 2**16, size, dtype=np.uint16),
            },
            action={"action": np.array([np.nan, -np.inf], np.float32)},
            skew_ns=np.zeros(4, np.int64),
            reason=rng.integers(0, 256, 4, dtype=np.uint8),
            index=np.zeros(4, np.int64),
        )
        for t in range(length)
    ]


@settings(max_examples=12, deadline=None)
@given(
    image=st.sampled_from(["jpeg", "zstd", "blosc", "raw"]),
    depth=st.sampled_from(["blosc", "zstd", "raw"]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    shard_frames=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 11), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_our_reader_and_plain_zarr_read_back_what_was_recorded(
    image: str, depth: str, size: tuple[int, int], shard_frames: int, lengths: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    schema = schema_of(image, depth, size)
    episodes = [steps_of(schema, length, rng) for length in lengths]
    codecs.register()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ds.zarr")
        with open_writer(path, schema, shard_frames=shard_frames) as writer:
            for n, steps in enumerate(episodes):
                record(writer, f"e{n}", steps, seed=n)
            writer.commit([f"e{n}" for n in range(len(episodes))])
        reader = open_dataset(path)
        plain = zarr.open_group(path, mode="r")
        starts = plain["meta/episode_start"][:]
        assert plain["meta/episode_length"][:].tolist() == lengths
        for n, steps in enumerate(episodes):
            rows = slice(starts[n], starts[n] + lengths[n])
            assert starts[n] % shard_frames == 0
            for feature in schema.features:
                want = expected(feature, steps)
                np.testing.assert_array_equal(reader.read(feature.name, n), want)
                array = plain[f"data/{feature.name}"]
                assert array.dtype == feature.dtype
                np.testing.assert_array_equal(array[rows], want)
        assert reader.verify() == []


def expected(feature: Feature, steps: list[Timestep]) -> np.ndarray:
    if feature.name == "timestamp":
        return np.array([s.tick_ns for s in steps])
    if feature.name == "sync_reason":
        return np.stack([s.reason for s in steps])
    values = [{**s.observation, **s.action}[feature.name] for s in steps]
    if feature.codec == "jpeg":
        values = [jpeg.decode(jpeg.encode(v, feature.quality)) for v in values]
    return np.stack(values)


def test_a_dataset_opens_without_a_warning_and_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema("zstd"), shard_frames=4) as writer:
        record(writer, "e", make_steps(3))
        writer.commit(["e"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        root = zarr.open_group(path, mode="r")
        names = {name for name, _ in root.members(max_depth=None)}
    assert {"data/qpos", "data/images/cam_high", "data/sync_skew", "episodes/e"} <= names
    qpos = root["data/qpos"]
    assert qpos.metadata.dimension_names == ("time", "element")
    assert qpos.attrs["units"] == "rad"
    assert qpos.attrs["names"] == ["elbow", "wrist"]
    camera = root["data/images/cam_high"]
    assert camera.metadata.dimension_names == ("time", "height", "width", "channel")
    assert camera.attrs["color_order"] == "rgb"
    assert (camera.shape, camera.shards, camera.chunks) == (
        (4, 16, 24, 3), (4, 16, 24, 3), (1, 16, 24, 3),
    )  # fmt: skip
    act = root.attrs["act"]
    assert (act["format"], act["format_version"], act["head"]) == ("act-zarr", 1, {"version": 1})


def test_a_shard_is_frames_then_index_then_checksum(tmp_path: Path) -> None:
    feature = Feature(
        name="images/c", role=Role.OBSERVATION, dtype="uint8", shape=(1, 2, 3), codec="raw"
    )
    low = Feature(name="q", role=Role.OBSERVATION, dtype="float32", shape=(2,))
    schema = DatasetSchema(robot="r", fps=1, features=(feature, low))
    path = tmp_path / "ds.zarr"
    with open_writer(path, schema, shard_frames=3) as writer:
        episode = writer.episode("e")
        for t in range(2):
            image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3) + 10 * t
            value = np.array([t, -1], np.float32)
            nothing = np.zeros(0, np.int64)
            episode.record(
                Timestep(
                    step_type=StepType.MID,
                    tick_ns=t,
                    observation={"images/c": image, "q": value},
                    action={},
                    skew_ns=nothing,
                    reason=nothing.astype(np.uint8),
                    index=nothing,
                )
            )
        episode.finish(make_info())
        writer.commit(["e"])
    crc = lambda data: google_crc32c.value(data).to_bytes(4, "little")  # noqa: E731
    frames = [bytes(range(6)), bytes(range(10, 16))]
    empty = (2**64 - 1).to_bytes(8, "little") * 2
    index = b"".join(n.to_bytes(8, "little") for n in (0, 10, 10, 10)) + empty
    golden = b"".join(frame + crc(frame) for frame in frames) + index + crc(index)
    assert (path / "data/images/c/c/0/0/0/0").read_bytes() == golden
    rows = bytes.fromhex("00000000 000080bf 0000803f 000080bf 00000000 00000000")
    assert (path / "data/q/c/0/0").read_bytes() == rows
    assert google_crc32c.value(b"123456789") == 0xE3069283  # the check value of CRC-32C


def encoded_steps(files: list[bytes], shape: tuple[int, int, int]) -> list[Timestep]:
    plain = make_steps(len(files))
    return [
        Timestep(
            step_type=s.step_type,
            tick_ns=s.tick_ns,
            action=s.action,
            observation={**s.observation, "images/cam_high": EncodedImage(data=f, shape=shape)},
            skew_ns=s.skew_ns,
            reason=s.reason,
            index=s.index,
        )
        for s, f in zip(plain, files, strict=True)
    ]


@pytest.mark.parametrize("codec", ["jpeg", "zstd", "raw"])
def test_jpeg_messages_pass_through_untouched_or_are_decoded(tmp_path: Path, codec: str) -> None:
    images = RNG.integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    files = [jpeg.encode(image, 60 + 10 * n) for n, image in enumerate(images)]
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema(codec), shard_frames=4) as writer:
        record(writer, "e", encoded_steps(files, (16, 24, 3)))
        writer.commit(["e"])
    reader = open_dataset(path)
    want = np.stack([jpeg.decode(f) for f in files])
    np.testing.assert_array_equal(reader.read("images/cam_high", 0), want)
    shard = (path / "data/images/cam_high/c/0/0/0/0").read_bytes()
    assert [f in shard for f in files] == [codec == "jpeg"] * 3


def test_chains_of_other_programs_are_read_through_zarr_and_missing_frames_are_errors(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ds.zarr"
    steps = make_steps(7)
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        record(writer, "e", steps)
        writer.commit(["e"])
    own = open_dataset(path)
    want = {name: own.read(name, 0) for name in ("qpos", "images/cam_high")}
    for name, inner in (("qpos", None), ("images/cam_high", (1, 16, 24, 3))):
        data = zarr.open_array(path / "data" / name, mode="r")[:]
        zarr.create_array(
            path / "data" / name, data=data, overwrite=True, compressors=zarr.codecs.GzipCodec(),
            chunks=inner or (4, 2), shards=inner and (4, 16, 24, 3),
        )  # fmt: skip
    reader = open_dataset(path)
    for name, values in want.items():
        np.testing.assert_array_equal(reader.read(name, 0), values)
        np.testing.assert_array_equal(reader.read(name, 0, 2, 6), values[2:6])
    assert reader.verify()
    for name in want:
        chunk = next(
            p for p in sorted((path / "data" / name / "c" / "1").rglob("*")) if p.is_file()
        )
        chunk.unlink()
        reader.read(name, 0, 0, 4)
        with pytest.raises(StoreError, match=f"{name}.*missing"):
            reader.read(name, 0, 3, 6)


def test_documents_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    texts = []
    for n in range(2):
        path = tmp_path / f"{n}" / "ds.zarr"
        with open_writer(path, make_schema("jpeg"), shard_frames=4) as writer:
            record(writer, "e", make_steps(3))
            writer.commit(["e"])
        text = (path / "data/images/cam_high/zarr.json").read_text()
        assert json.loads(text)["codecs"][0]["configuration"]["codecs"] == [
            {"name": "reshape", "configuration": {"shape": [[0, 1], [2], [3]]}},
            {
                "name": "jpeg",
                "configuration": {
                    "quality": 95,
                    "encoded_color_space": "ycbcr",
                    "subsampling": [[2, 2], [1, 1], [1, 1]],
                },
            },
            {"name": "crc32c"},
        ]
        texts.append(text)
    assert texts[0] == texts[1]


def test_zarr_finds_the_picture_codecs_by_itself(tmp_path: Path) -> None:
    """They are entry points: a program that knows nothing of this toolkit reads the pictures."""
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema("jpeg"), shard_frames=4) as writer:
        record(writer, "a", make_steps(5))
        writer.commit(["a"])
    code = (
        "import sys, zarr\n"
        f"pictures = zarr.open({str(path)!r}, mode='r')['data/images/cam_high']\n"
        "sys.stdout.buffer.write(pictures[:5].tobytes())"
    )
    plain = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    assert plain == open_dataset(path).read("images/cam_high", 0).tobytes()
