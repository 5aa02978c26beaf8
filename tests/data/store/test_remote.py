"""Datasets behind a URL, read from a real S3 server and a real web server in other processes."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from act_data.check import verify
from act_data.errors import InputError, NotFoundError, StoreError
from act_data.registry import Registry
from act_data.report import stats
from act_data.store import Url, location, open_dataset, open_writer, remote
from tests.data.store.contract import assert_reads_back, make_schema, make_steps, record
from tests.s3_server import s3_at, s3_server

LENGTHS = (9, 5)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remote") / "ds.zarr"
    with open_writer(path, make_schema("jpeg"), shard_frames=4) as writer:
        for n, length in enumerate(LENGTHS):
            record(writer, f"e{n}", make_steps(length, seed=n), seed=n)
            writer.commit([f"e{n}"])
    return path


@pytest.fixture(scope="module")
def s3(local: Path) -> Iterator[str]:
    """The URL of a bucket on a server process of its own, which holds a copy of the dataset."""
    with s3_server() as port, s3_at(port) as files:
        files.mkdir("team")
        files.put(str(local), "team/ds.zarr", recursive=True)
        yield "s3://team"


@pytest.fixture(scope="module")
def web(local: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        """As most web servers do it: with ranges."""

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            file = Path(self.translate_path(self.path))
            if wanted is None or not file.is_file():
                super().do_GET()
                return
            data = file.read_bytes()
            part = data[int(wanted[1]) : int(wanted[2]) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(local.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["s3", "web"])
def url(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue(request.param)}/ds.zarr"


def test_a_dataset_behind_a_url_reads_as_the_one_on_the_disk(url: str, local: Path) -> None:
    reader, own = open_dataset(location(url)), open_dataset(local)
    assert str(reader.path) == url
    assert (reader.path.name, reader.path.stem) == ("ds.zarr", "ds")
    assert (reader.uid, reader.schema, reader.version) == (own.uid, own.schema, own.version)
    for n, length in enumerate(LENGTHS):
        assert_reads_back(reader, n, make_steps(length, seed=n))
    assert reader.episode("e1") == own.episode("e1")
    assert open_dataset(location(url), 1).version == open_dataset(local, 1).version


def test_index_and_neighbouring_frames_are_fetched_once(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_dataset(location(f"{s3}/ds.zarr"))
    asked: list[tuple[str, int, int]] = []
    fetch = remote.RemoteFiles.fetch

    def counted(self: remote.RemoteFiles, key: str, start: int, size: int) -> bytes:
        asked.append((key, start, size))
        return fetch(self, key, start, size)

    monkeypatch.setattr(remote.RemoteFiles, "fetch", counted)
    remote._remote_files.cache_clear()
    for _ in range(3):
        for t in range(4):
            reader.read("images/cam_high", 0, t, t + 1)
    shards = [key for key, _, _ in asked if "/c/" in key]
    assert len(shards) == len(set(shards)) == 1


def test_only_the_asked_part_of_a_large_shard_travels(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    path = tmp_path / "large.zarr"
    schema = make_schema("raw")
    camera = schema.feature("images/cam_high").model_copy(update={"shape": (240, 320, 3)})
    schema = schema.model_copy(update={"features": (schema.features[0], camera)})
    rng = np.random.default_rng(0)
    steps = make_steps(20)
    images = rng.integers(0, 256, (20, 240, 320, 3), dtype=np.uint8)
    with open_writer(path, schema, shard_frames=32) as writer:
        episode = writer.episode("e")
        for step, image in zip(steps, images, strict=True):
            step.observation["images/cam_high"] = image  # type: ignore[index]
            step.action.clear()  # type: ignore[attr-defined]
            episode.record(step)
        from tests.data.store.contract import make_info

        episode.finish(make_info())
        writer.commit(["e"])
    fsspec.filesystem("s3", skip_instance_cache=True).put(
        str(path), "team/large.zarr", recursive=True
    )
    travelled = 0
    fetch = remote.RemoteFiles.fetch

    def counted(self: remote.RemoteFiles, key: str, start: int, size: int) -> bytes:
        nonlocal travelled
        data = fetch(self, key, start, size)
        travelled += len(data)
        return data

    monkeypatch.setattr(remote.RemoteFiles, "fetch", counted)
    reader = open_dataset(location(f"{s3}/large.zarr"))
    np.testing.assert_array_equal(reader.read("images/cam_high", 0, 9, 10)[0], images[9])
    shard = 20 * 240 * 320 * 3
    assert travelled < shard / 3, "of 4.6 MB"


def test_questions_and_training_data_by_url(
    url: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    assert verify(url, "deep").sound
    record_, path = stats(url)
    assert (record_.content_hash, path) == (
        open_dataset(local).version.content_hash,
        Path("ds.stats.json"),
    )
    assert path.exists()
    resolved = Registry().resolve(f"{url}@1")
    assert str(resolved.path) == url
    with pytest.raises(InputError, match="only read"):
        open_dataset(location(url)).save_stats(record_)
    with pytest.raises(InputError, match="only read"):
        open_writer(location(url), make_schema())


def test_a_damaged_or_missing_object_is_named(s3: str, local: Path, tmp_path: Path) -> None:
    import fsspec

    copy = Path(shutil.copytree(local, tmp_path / "ds.zarr"))
    (copy / "data/qpos/c/1/0").unlink()
    shard = copy / "data/images/cam_high/c/0/0/0/0"
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(data)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.put(str(copy), "team/bad.zarr", recursive=True)
    reader = open_dataset(location(f"{s3}/bad.zarr"))
    with pytest.raises(StoreError, match=r"'qpos', episode 0 \(e0\), row 4.*is missing"):
        reader.read("qpos", 0)
    with pytest.raises(StoreError, match=r"'images/cam_high', episode 0 \(e0\), row 0.*damaged"):
        reader.read("images/cam_high", 0)
    found = {(p.array, p.episode, p.rows) for p in reader.verify()}
    assert found == {("qpos", "e0", (4, 8)), ("images/cam_high", "e0", (0, 1))}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        pytest.param("s3://team/none.zarr", NotFoundError, "no dataset", id="no-such-object"),
        pytest.param("nowhere://x/ds.zarr", InputError, "act-toolkit", id="no-such-protocol"),
        pytest.param("http://127.0.0.1:9/ds.zarr", StoreError, "cannot be read", id="nobody-there"),
    ],
)
@pytest.mark.usefixtures("s3")
def test_what_cannot_be_reached_is_told(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        open_dataset(location(text))
    assert message in f"{caught.value} {getattr(caught.value, 'hint', '')}"


def test_a_url_keeps_its_slashes_and_a_path_stays_a_path() -> None:
    where = location("s3://bucket/folder/ds.zarr")
    assert isinstance(where, Url)
    assert str(where) == "s3://bucket/folder/ds.zarr"
    assert str(where.with_name("other.zarr")) == "s3://bucket/folder/other.zarr"
    assert where.absolute() == where
    for path in ("ds.zarr", "/data/ds.zarr", "./a:b/ds.zarr"):
        assert not isinstance(location(path), Url)
        assert location(path) == Path(path)
    assert os.fspath(location("x")) == "x"
