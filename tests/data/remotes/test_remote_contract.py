"""What every remote must do, whatever it is: whole files, and refs that one of many moves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from act_data.errors import ConflictError, InputError, StoreError
from act_data.remotes import objects, pull, push
from act_data.remotes.objects import ObjectRemote
from act_data.remotes.opening import open_remote
from act_data.remotes.remote import Remote
from tests.data.remotes.datasets import make, tree
from tests.s3_server import s3_at, s3_server


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as port, s3_at(port) as files:
        files.mkdir("team")
        yield "s3://team"


class Without(ObjectRemote):
    """An S3 server that knows no conditions, as some do not: it refuses them."""

    def _swap_by_server(self, key: str, old: bytes | None, new: bytes) -> bool:
        raise OSError("501 NotImplemented: A header you provided implies functionality")


@pytest.fixture(params=["folder", "file-url", "s3", "s3-without-conditions", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    if request.param.startswith("s3"):
        address = f"{request.getfixturevalue('bucket')}/{request.node.name}".replace("[", "-")
        address = address.replace("]", "")
        return (Without if "without" in request.param else ObjectRemote)(address, address)
    where = {"folder": "", "file-url": "file://", "memory": "memory://"}[request.param]
    return open_remote(f"{where}{tmp_path}/team")


def test_a_file_is_read_as_it_was_written(remote: Remote) -> None:
    assert remote.read("blobs/sha256/ab/abcd", 100) is None
    assert remote.sizes("blobs/sha256/ab") == {}
    for data in (b"one", b"", b"\0" * 1000):
        remote.write("blobs/sha256/ab/abcd", data)
        assert remote.read("blobs/sha256/ab/abcd", 1000) == data
        assert remote.sizes("blobs/sha256/ab") == {"abcd": len(data)}
    remote.write("blobs/sha256/ab/ef", b"two")
    assert remote.sizes("blobs/sha256/ab") == {"abcd": 1000, "ef": 3}
    assert remote.sizes("blobs/sha256") == {}, "folders are no files"
    with pytest.raises(StoreError, match="more than 999"):
        remote.read("blobs/sha256/ab/abcd", 999)


def test_a_ref_is_swapped_only_from_what_it_was(remote: Remote) -> None:
    key = "refs/ds/latest.json"
    assert not remote.swap(key, b"x", b"one"), "it is not there"
    assert remote.swap(key, None, b"one")
    assert not remote.swap(key, None, b"two"), "it is there"
    assert not remote.swap(key, b"other", b"two")
    assert remote.read(key, 100) == b"one"
    assert remote.swap(key, b"one", b"two")
    assert remote.read(key, 100) == b"two"
    assert "latest.json" in remote.sizes("refs/ds")
    assert remote.sizes("refs/ds/latest.json.locks") == {}


def test_of_many_who_swap_at_once_one_succeeds(remote: Remote) -> None:
    won: list[int] = []
    ready = threading.Barrier(4)

    def swap(n: int) -> None:
        ready.wait()
        if remote.swap("refs/ds/latest.json", None, f"{n}".encode()):
            won.append(n)

    threads = [threading.Thread(target=swap, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert remote.read("refs/ds/latest.json", 100) == f"{won[0]}".encode()


def test_a_lock_object_is_waited_for_and_a_dead_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "LOCK_WAIT_S", 0.2)
    remote = open_remote(f"memory://{tmp_path}/team")
    key = "refs/ds/latest.json"
    lock = f"{key}.locks/{int(time.time() * 1000):015d}-other"
    remote.write(lock, b"{}")
    with pytest.raises(ConflictError, match="-other"):
        remote.swap(key, None, b"one")
    assert remote.read(key, 100) is None
    old = f"{key}.locks/{int((time.time() - 3600) * 1000):015d}-dead"
    remote.write(old, b"{}")
    remote._files.rm_file(f"{remote._folder}/{lock}")  # type: ignore[attr-defined]
    assert remote.swap(key, None, b"one")


def test_a_bucket_that_is_not_there_is_told(bucket: str) -> None:
    remote = open_remote("s3://no-such-bucket/x")
    assert remote.read("refs/ds/latest.json", 100) is None
    with pytest.raises(StoreError, match="cannot be written") as caught:
        remote.write("blobs/sha256/ab/abcd", b"one")
    assert "buckets are not made" in caught.value.hint


@pytest.mark.parametrize("address", ["", "a\0b"])
def test_nothing_is_no_remote(address: str) -> None:
    with pytest.raises(InputError, match="is no remote"):
        open_remote(address)


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_two_processes_that_push_at_once_leave_one_sound_history(
    where: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a version 2 of its own; both push it at the same moment."""

    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    team = str(tmp_path / "team") if where == "folder" else f"{bucket}/race"
    make(tmp_path / "a.zarr", (9,))
    push(str(tmp_path / "a.zarr"), team, name="ds")
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr")
    make(tmp_path / "a.zarr", (5,), first=1)
    make(tmp_path / "b.zarr", (6,), first=2)
    code = (
        "import sys; from act_data.errors import ConflictError; from act_data.remotes import push\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try: push(sys.argv[1], sys.argv[2], name='ds'); print('pushed')\n"
        "except ConflictError as e: print('told', e.hint)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / f"{name}.zarr"), team],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "ACT_REGISTRY": str(tmp_path / f"{name}.db")},
        )
        for name in "ab"
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = [child.communicate("go\n")[0] for child in children]
    words = sorted(output.split()[0] for output in outputs)
    assert words == ["pushed", "told"]
    assert any("act-data pull" in output for output in outputs)

    winner = "ab"[[o.startswith("pushed") for o in outputs].index(True)]
    pull(f"{team}/ds", tmp_path / "copy.zarr")
    assert tree(tmp_path / "copy.zarr") == tree(tmp_path / f"{winner}.zarr")
    pull(f"{team}/ds@v2", tmp_path / "v2.zarr")
    assert tree(tmp_path / "v2.zarr") == tree(tmp_path / f"{winner}.zarr")
