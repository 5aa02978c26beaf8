"""Datasets made to harm: refused before anything is inflated, whoever's codecs they name."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import Blosc, Zstd

from act_data.errors import StoreError
from act_data.store import open_dataset, open_writer
from tests.data.store.contract import make_schema, make_steps, record

ROOT = Path(__file__).parents[3]


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[[str], Path]:
    """A dataset whose qpos was rewritten by zarr-python with another compressor."""

    def make(compressor: str) -> Path:
        path = tmp_path / compressor / "ds.zarr"
        with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
            record(writer, "e", make_steps(4))
            writer.commit(["e"])
        codec = {"gzip": zarr.codecs.GzipCodec, "zstd": zarr.codecs.ZstdCodec,
                 "blosc": zarr.codecs.BloscCodec}[compressor]()  # fmt: skip
        data = zarr.open_array(path / "data/qpos", mode="r")[:]
        zarr.create_array(
            path / "data/qpos", data=data, overwrite=True, compressors=codec, chunks=(4, 2)
        )
        return path

    return make


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    file = path / "data/qpos/zarr.json"
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "codecs",
    [
        pytest.param([{"name": "numcodecs.pickle"}], id="pickle"),
        pytest.param([{"name": "bytes"}, {"name": "numcodecs.shuffle"}], id="numcodecs"),
        pytest.param(
            [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 2],
              "codecs": [{"name": "vlen-bytes"}], "index_codecs": [{"name": "bytes"}]}}],
            id="inside-a-shard",
        ),
        pytest.param(
            [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 2],
              "codecs": [{"name": "bytes"}], "index_codecs": [{"name": "numcodecs.zfpy"}]}}],
            id="of-an-index",
        ),
        pytest.param("bytes", id="no-list"),
        pytest.param([7], id="no-codec"),
        pytest.param([[["bytes"]]], id="nested-lists"),
    ],
)  # fmt: skip
def test_a_codec_off_the_list_is_refused_by_name(
    foreign: Callable[[str], Path], codecs: Any
) -> None:
    path = foreign("gzip")
    change(path, lambda document: document.update(codecs=codecs))
    with pytest.raises(StoreError, match=r"'qpos'.*codecs? "):
        open_dataset(path).read("qpos", 0)


@pytest.mark.parametrize("configuration", [-5, "x", [[]]])
def test_a_shard_without_a_configuration_is_refused(
    foreign: Callable[[str], Path], configuration: Any
) -> None:
    path = foreign("gzip")
    codecs = [{"name": "sharding_indexed", "configuration": configuration}]
    change(path, lambda document: document.update(codecs=codecs))
    with pytest.raises(StoreError, match=r"'qpos'.*is no configuration"):
        open_dataset(path).read("qpos", 0)


def bomb(compressor: str, size: int) -> bytes:
    data = bytes(size)
    if compressor == "gzip":
        return gzip.compress(data, 9)
    return bytes(Zstd(9).encode(data) if compressor == "zstd" else Blosc("zstd", 9).encode(data))


BOUNDED = """
    import sys
    from pathlib import Path
    from act_data.errors import StoreError
    from act_data.store import open_dataset

    reader = open_dataset(Path(sys.argv[1]))
    try:
        reader.read("qpos", 0)
    except StoreError as e:
        print(e)
    # Not ru_maxrss: that begins with what the parent process held.
    (peak,) = (s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s)
    print(int(peak.split()[1]) // 1024)
"""


@pytest.mark.parametrize("compressor", ["gzip", "zstd", "blosc"])
def test_a_chunk_that_would_inflate_to_a_gigabyte_is_refused_before_it_does(
    foreign: Callable[[str], Path], compressor: str
) -> None:
    path = foreign(compressor)
    (chunk,) = (p for p in (path / "data/qpos/c").rglob("*") if p.is_file())
    chunk.write_bytes(bomb(compressor, 1 << 30))
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BOUNDED), str(path)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    message, peak = output.strip().splitlines()
    assert f"{compressor} chunk of" in message
    assert "32 are expected" in message
    assert int(peak) < 400, "MiB"


@pytest.mark.parametrize("compressor", ["gzip", "zstd", "blosc"])
def test_a_chunk_of_the_right_size_is_read(foreign: Callable[[str], Path], compressor: str) -> None:
    path = foreign(compressor)
    want = np.stack([s.observation["qpos"] for s in make_steps(4)])
    np.testing.assert_array_equal(open_dataset(path).read("qpos", 0), want)


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"\x1f\x8b" + b"\xff" * 30])
@pytest.mark.parametrize("compressor", ["gzip", "zstd", "blosc"])
def test_garbage_in_a_foreign_chunk_is_damage(
    foreign: Callable[[str], Path], compressor: str, content: bytes
) -> None:
    path = foreign(compressor)
    (chunk,) = (p for p in (path / "data/qpos/c").rglob("*") if p.is_file())
    chunk.write_bytes(content)
    with pytest.raises(StoreError, match="'qpos', episode 0"):
        open_dataset(path).read("qpos", 0)
