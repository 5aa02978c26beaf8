"""Pushes and pulls whose connection is cut: they go on, are proven, and send nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from act_data.errors import StoreError
from act_data.records import DatasetSchema
from act_data.registry import Registry
from act_data.remotes import pull, push
from act_data.store import open_dataset, open_writer
from tests.cli.commands import BIN
from tests.data.remotes.cutting_proxy import CuttingProxy
from tests.data.remotes.datasets import tree
from tests.data.store.contract import make_schema, make_steps, record
from tests.s3_server import s3_at, s3_server

PART = 16 * 1024
POINTS = 100
REMOTE = "s3://team/sets"


@pytest.fixture(scope="module")
def proxy() -> Iterator[tuple[CuttingProxy, Any]]:
    """The proxy before a real S3 server, and a way to that server which is never cut."""
    with s3_server() as port, s3_at(port) as direct:
        direct.mkdir("team")
        cutting = CuttingProxy(port)
        with s3_at(cutting.port), pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_MAX_ATTEMPTS", "1")  # tries of the library would hide the cuts
            yield cutting, direct
        cutting.close()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One episode; its pictures are 14 parts, everything else less than one."""
    schema = make_schema("raw")
    camera = schema.feature("images/cam_high").model_copy(update={"shape": (60, 80, 3)})
    features = tuple(camera if f.name == camera.name else f for f in schema.features)
    return written(tmp_path_factory.mktemp("cut") / "ds.zarr", DatasetSchema(
        **{**dict(schema), "features": features}
    ))  # fmt: skip


def written(path: Path, schema: DatasetSchema) -> Path:
    rng = np.random.default_rng(0)
    with open_writer(path, schema, shard_frames=16) as writer:
        steps = make_steps(16)
        for step in steps:
            picture = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
            step.observation["images/cam_high"] = picture  # type: ignore[index]
        record(writer, "e0", steps)
        writer.commit(["e0"])
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.chdir(tmp_path)


def interrupted(proxy: CuttingProxy, at: int, *, gone: bool, work: Any) -> bool:
    """Do `work` with a cut at byte `at`; once more if it failed. Says whether it did."""
    proxy.reset()
    proxy.cut_after(at, stay_gone=gone)
    told = None
    try:
        work()
    except StoreError as error:
        told = error
    proxy.heal()
    if told is None:
        return False
    assert "connection" in told.hint, told
    work()
    return True


@pytest.mark.timeout(600)
def test_cut_at_100_random_points_nothing_travels_twice_but_one_part(
    proxy: tuple[CuttingProxy, Any], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 pushes, each followed by a pull of what it left; every one of them is cut once.

    In half of them the server stays away and the command is given again, in the others only the
    connection that carries the byte is cut. One transfer at a time, or four: as many parts may be
    on their way when it happens.
    """
    import s3fs

    cutting, direct = proxy
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    want = tree(dataset)
    target = tmp_path / "copy.zarr"
    here, there = Registry(tmp_path / "here.db"), Registry(tmp_path / "there.db")
    here.register(open_dataset(dataset))
    for tag in ("prod", "paper"):
        here.tag("ds@1", tag)
    tags = here.tags("ds")

    def sent(workers: int) -> None:
        monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "here.db"))
        push(str(dataset), REMOTE, name="ds", workers=workers, part_bytes=PART)

    def fetched(workers: int) -> None:
        monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "there.db"))
        pull(f"{REMOTE}/ds", target, workers=workers)

    def cleared() -> None:
        for path in direct.find("team"):
            direct.rm_file(path)

    def arrived() -> None:
        assert tree(target) == want
        assert open_dataset(target).verify("hash") == []
        subprocess.run(["rm", "-r", str(target)], check=True)
        assert there.tags("ds").tags == tags.tags
        assert sorted(map(str, there.tags("ds").log)) == sorted(map(str, tags.log))
        (tmp_path / "there.db").unlink()

    # What it costs without a cut, and what a second call costs that finds everything there.
    cutting.reset()
    sent(1)
    whole_push, blobs = cutting.up + cutting.down, dict(cutting.asked)
    assert len(blobs) > 20
    assert set(blobs.values()) == {1}
    cutting.reset()
    sent(1)
    idle_push = cutting.up + cutting.down
    cutting.reset()
    fetched(1)
    whole_pull = cutting.up + cutting.down
    assert set(cutting.asked.values()) == {1}
    arrived()
    cutting.reset()
    pull(f"{REMOTE}/ds", target, workers=1, dry_run=True)
    (tmp_path / "there.db").unlink(missing_ok=True)
    idle_pull = cutting.up + cutting.down  # reads every document; more than a resumed pull does

    rng = np.random.default_rng(0)
    failed = cut = 0
    for n in range(POINTS // 2):
        workers, gone = (1, 4)[n % 2], n % 4 < 2
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1 if gone else 5)
        cleared()
        for work, whole, idle in (
            (sent, whole_push, idle_push),
            (fetched, whole_pull, idle_pull),
        ):
            at, before = int(rng.integers(0, whole * 0.98)), cutting.cuts
            failed += interrupted(cutting, at, gone=gone, work=lambda: work(workers))  # noqa: B023
            cut += cutting.cuts - before
            again = sum(cutting.asked.values()) - len(cutting.asked)
            assert again <= workers, (n, at, again)
            travelled = cutting.up + cutting.down
            assert travelled <= whole + idle + workers * (PART + 2000), (n, at, travelled)
        arrived()
    assert cut == POINTS, "every transfer was cut"
    assert failed >= POINTS * 0.45, "and those whose server stayed away had to be given again"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_killed_process_goes_on_where_it_stopped(
    proxy: tuple[CuttingProxy, Any], dataset: Path, tmp_path: Path, verb: str
) -> None:
    cutting, direct = proxy
    for path in direct.find("team"):
        direct.rm_file(path)
    cutting.reset()
    push(str(dataset), REMOTE, name="ds", part_bytes=PART)
    words = {
        "push": ["push", str(dataset), f"{REMOTE}-2", "--name", "ds"],
        "pull": ["pull", f"{REMOTE}/ds", "--out", str(tmp_path / "copy.zarr")],
    }[verb]
    cutting.reset()
    child = subprocess.Popen(
        [BIN / "act-data", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while sum(cutting.asked.values()) < 8 and child.poll() is None:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "copy.zarr").exists()
    subprocess.run([BIN / "act-data", *words], check=True, capture_output=True)
    again = sum(cutting.asked.values()) - len(cutting.asked)
    assert again <= 4, "transfers that were on their way"
    if verb == "push":
        pull(f"{REMOTE}-2/ds", tmp_path / "copy.zarr")
    assert tree(tmp_path / "copy.zarr") == tree(dataset)
    assert not [p for p in tmp_path.iterdir() if p.name.endswith((".pull", ".lock"))]
