"""act-data recover, and ingest --recover, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from act_data.sources import find_recordings, open_recording
from act_data.store import open_dataset
from tests.bags import KINDS, Kind
from tests.cli.commands import done, listing, refused, run
from tests.small_robot import bag, entries, robot_file


def storage(folder: Path, kind: Kind) -> Path:
    path = bag(folder, "a", entries(60), kind)
    return path if kind == "ros1" else path / f"a.{kind}"


def content(path: Path) -> list[tuple[str, str, int, int | None, bytes]]:
    (recording,) = find_recordings([path])
    with open_recording(recording) as source:
        return [
            (m.topic, m.type, m.recv_ns, m.stamp_ns, bytes(m.payload))
            for m in source.messages(source.topics)
            if source.deserialize(m) is not None
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_recording_becomes_an_equal_one(tmp_path: Path, kind: Kind) -> None:
    path = storage(tmp_path, kind)
    report = json.loads(done(run("act-data", "recover", path, "--out", tmp_path / "out", "--json")))
    (file,) = report["files"]
    assert file["recovery"]["whole"]
    assert Path(file["out"]).name == ("a.bag" if kind == "ros1" else "a.mcap")
    assert content(Path(file["out"])) == content(path)
    again = run("act-data", "recover", file["out"], "--out", tmp_path / "again")
    assert again.code == 0, "what was written is whole"


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_recording_becomes_what_was_complete_with_exit_code_3(
    tmp_path: Path, kind: Kind
) -> None:
    path = storage(tmp_path, kind)
    whole = content(path)
    data = path.read_bytes()
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(data[: len(data) * 3 // 4])
    ended = run("act-data", "recover", cut, "--out", tmp_path / "out", "--json")
    assert ended.code == 3
    (file,) = json.loads(ended.out)["files"]
    assert not file["recovery"]["whole"]
    found = content(Path(file["out"]))
    assert 60 < len(found) < len(whole)
    assert set(found) <= set(whole)
    said = run("act-data", "recover", cut, "--out", tmp_path / "other")
    assert said.code == 3
    assert "is damaged" in said.out
    assert "/cam/image_raw" in said.out


@pytest.mark.parametrize("kind", KINDS)
def test_ingest_of_a_damaged_recording_equals_ingest_of_the_recovered_one(
    tmp_path: Path, kind: Kind
) -> None:
    robot = robot_file(tmp_path)
    path = storage(tmp_path, kind)
    data = path.read_bytes()
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(data[: len(data) * 3 // 4])
    refused(run("act-data", "ingest", cut, "--out", tmp_path / "no.zarr", "--robot", robot))
    direct = run(
        "act-data", "ingest", cut, "--out", tmp_path / "a.zarr", "--robot", robot, "--recover",
        "--json",
    )  # fmt: skip
    assert direct.code == 3
    (file,) = json.loads(direct.out)["recovered"]
    assert not file["whole"]
    assert run("act-data", "recover", cut, "--out", tmp_path / "out").code == 3
    done(
        run("act-data", "ingest", tmp_path / "out", "--out", tmp_path / "b.zarr", "--robot", robot)
    )
    a, b = (open_dataset(tmp_path / name).version for name in ("a.zarr", "b.zarr"))
    assert a.content_hash == b.content_hash
    again = run(
        "act-data", "ingest", path, "--out", tmp_path / "c.zarr", "--robot", robot, "--recover"
    )
    assert again.code == 0, "a whole recording loses nothing"


def test_places_that_cannot_be_written_are_refused_before_anything_is(tmp_path: Path) -> None:
    path = storage(tmp_path, "ros1")
    other = storage(tmp_path, "mcap")
    (tmp_path / "there.bag").write_bytes(b"x")
    before = listing(tmp_path)
    refused(run("act-data", "recover", path, "--out", tmp_path / "there.bag"), "exists")
    refused(run("act-data", "recover", path, "--out", tmp_path / "x.mcap"), ".bag file", code=2)
    refused(
        run("act-data", "recover", path, other, "--out", tmp_path / "x.bag"), "there are 2", code=2
    )
    refused(run("act-data", "recover", path, "--out", path / "x"))
    (tmp_path / "empty.bag").write_bytes(b"")
    refused(run("act-data", "recover", tmp_path / "empty.bag", "--out", tmp_path / "new"), "empty")
    assert listing(tmp_path) == sorted([*before, "empty.bag"])
