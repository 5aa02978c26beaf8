"""Every codec pipeline that the installed zarr has reads our stores bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
import zarr.core.codec_pipeline

from act_data.errors import StoreError
from act_data.store import codecs, open_dataset, open_writer
from tests.data.store.contract import make_schema, make_steps, record

PIPELINES = [
    name
    for name in ("BatchedCodecPipeline", "FusedCodecPipeline")  # the second one since zarr 3.4
    if hasattr(zarr.core.codec_pipeline, name)
]


@pytest.fixture(params=PIPELINES)
def pipeline(request: pytest.FixtureRequest) -> Iterator[str]:
    codecs.register()
    name: str = request.param
    with zarr.config.set({"codec_pipeline.path": f"zarr.core.codec_pipeline.{name}"}):
        yield name


@pytest.mark.parametrize("codec", ["jpeg", "zstd", "blosc", "raw"])
def test_a_pipeline_of_zarr_reads_what_our_reader_reads(
    tmp_path: Path, pipeline: str, codec: str
) -> None:
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema(codec), shard_frames=4) as writer:
        for n, length in enumerate((7, 4, 1)):
            record(writer, f"e{n}", make_steps(length, seed=n))
        writer.commit(["e0", "e1", "e2"])
    reader = open_dataset(path)
    plain = zarr.open_group(path, mode="r")
    for feature in reader.schema.features:
        array = plain[f"data/{feature.name}"]
        used = array._async_array.codec_pipeline
        assert type(used).__name__ == pipeline
        if pipeline == "FusedCodecPipeline":
            assert used.sync_transform is not None, "our codecs keep it from its fast way"
        for n, entry in enumerate(reader.episodes):
            want = reader.read(feature.name, n)
            got = array[entry.start : entry.start + entry.length]
            assert (got.dtype, got.shape) == (want.dtype, want.shape)
            assert got.tobytes() == want.tobytes()
            last = entry.length - 1
            assert array[entry.start + last].tobytes() == want[last].tobytes()


def test_our_reader_reads_chains_of_other_programs_through_any_pipeline(
    tmp_path: Path, pipeline: str
) -> None:
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        record(writer, "e", make_steps(7))
        writer.commit(["e"])
    name = "images/cam_high"
    want = open_dataset(path).read(name, 0)
    zarr.create_array(
        path / "data" / name, data=zarr.open_array(path / "data" / name, mode="r")[:],
        overwrite=True, compressors=zarr.codecs.GzipCodec(),
        chunks=(1, 16, 24, 3), shards=(4, 16, 24, 3),
    )  # fmt: skip
    reader = open_dataset(path)
    np.testing.assert_array_equal(reader.read(name, 0), want)
    shard = path / "data" / name / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="gzip chunk without a size, or damaged"):
        reader.read(name, 0)
