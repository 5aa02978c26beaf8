"""What is pushed is pulled as it was, and nothing travels twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from act_data.check import verify
from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.records import DatasetFacts
from act_data.registry import Registry
from act_data.remotes import clone, pull, push
from act_data.stats import compute
from act_data.store import open_dataset, open_writer
from act_data.store.facts import facts_of, save_facts
from tests.data.remotes.datasets import LENGTHS, make, tree
from tests.data.store.contract import assert_reads_back, column, make_schema, make_steps, record
from tests.s3_server import s3_at, s3_server

PART = 1000


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as port, s3_at(port) as files:
        files.mkdir("team")
        yield "s3://team"


@pytest.fixture(params=["folder", "s3", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place on a folder, an S3 server, and a file system that only fsspec knows."""
    if request.param == "folder":
        return str(tmp_path / "team")
    where = request.getfixturevalue("bucket") if request.param == "s3" else "memory://team"
    return f"{where}/{tmp_path.name}"


def test_a_dataset_comes_back_byte_for_byte(remote: str, tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    sent = push("ds.zarr", remote, part_bytes=PART)
    assert (sent.dataset, sent.version, sent.versions, sent.episodes) == ("ds", 2, (1, 2), 2)
    assert (
        sent.sent_bytes == sent.bytes > sum(len(b or b"") for b in tree(ds / "data").values()) / 2
    )
    before = open_dataset(ds).version
    report = pull(f"{remote}/ds", tmp_path / "copy.zarr")
    assert (report.version, report.content_hash, report.part) == (2, before.content_hash, False)
    assert tree(tmp_path / "copy.zarr") == tree(ds)
    assert verify("copy.zarr", "deep").sound
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_only_what_is_missing_travels(remote: str, tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr", LENGTHS[:1])
    first = push("ds.zarr", remote, part_bytes=PART)
    assert push("ds.zarr", remote, part_bytes=PART).sent_bytes == 0
    pull(f"{remote}/ds", tmp_path / "copy.zarr")

    make(ds, LENGTHS[1:], first=1)
    second = push("ds.zarr", remote, part_bytes=PART)
    assert second.sent_bytes < second.bytes - first.bytes * 0.7
    report = pull(f"{remote}/ds", tmp_path / "copy.zarr")
    new = open_dataset(ds).episode("e1")
    assert report.bytes == sum({d.sha256: d.bytes for d in new.files.values()}.values())
    assert tree(tmp_path / "copy.zarr") == tree(ds)
    again = pull(f"{remote}/ds", tmp_path / "copy.zarr")
    assert again.bytes == 0


def test_a_version_by_number_and_the_way_from_it_to_the_newest(remote: str, tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    push("ds.zarr", remote)
    old = pull(f"{remote}/ds@v1", tmp_path / "copy.zarr")
    assert (old.version, old.episodes) == (1, 1)
    copy = open_dataset(tmp_path / "copy.zarr")
    assert copy.version == open_dataset(ds, 1).version
    assert copy.verify("deep") == []
    pull(f"{remote}/ds@latest", tmp_path / "copy.zarr")
    assert tree(tmp_path / "copy.zarr") == tree(ds)
    assert pull(f"{remote}/ds@1", tmp_path / "copy.zarr").bytes == 0, "never back"
    assert open_dataset(tmp_path / "copy.zarr").version.number == 2


def test_a_version_that_is_pushed_alone_goes_without_the_others(
    remote: str, tmp_path: Path
) -> None:
    make(tmp_path / "ds.zarr")
    assert push("ds.zarr@1", remote).versions == (1,)
    with pytest.raises(NotFoundError, match="v2") as caught:
        pull(f"{remote}/ds@v2")
    assert caught.value.hint == "It has latest, v1."
    assert push("ds.zarr", remote).versions == (1, 2)
    assert push("ds.zarr@1", remote).versions == (1,)
    assert pull(f"{remote}/ds").version == 2, "an older version does not move 'latest' back"


def test_a_clone_has_every_version_with_its_bytes(remote: str, tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    push("ds.zarr", remote)
    report = clone(f"{remote}/ds", tmp_path / "clone.zarr")
    assert report.versions == (1, 2)
    for number in (1, 2):
        assert open_dataset(tmp_path / "clone.zarr", number).verify("deep") == []
    assert Registry().resolve("ds@1").content_hash == open_dataset(ds, 1).version.content_hash


@pytest.mark.parametrize(
    ("cameras", "episodes", "arrays", "uids"),
    [
        pytest.param(["none"], None, False, ["e0", "e1"], id="no-camera"),
        pytest.param(None, ["1"], True, ["e1"], id="one-episode"),
        pytest.param(["cam_high"], ["e0"], True, ["e0"], id="by-names"),
        pytest.param(["none"], ["1-1"], False, ["e1"], id="both"),
    ],
)
def test_a_part_is_a_sound_dataset_that_says_what_it_is_a_part_of(
    tmp_path: Path,
    cameras: list[str] | None,
    episodes: list[str] | None,
    arrays: bool,
    uids: list[str],
) -> None:
    remote = str(tmp_path / "team")
    ds = make(tmp_path / "ds.zarr")
    save_facts(open_dataset(ds), DatasetFacts(licence="CC-BY-4.0"))
    whole = push("ds.zarr", remote, part_bytes=PART)
    report = pull(f"{remote}/ds", tmp_path / "part.zarr", cameras=cameras, episodes=episodes)
    part = open_dataset(tmp_path / "part.zarr")
    assert part.verify("deep") == []
    assert report.part
    assert [e.uid for e in part.episodes] == uids
    assert ("images/cam_high" in [f.name for f in part.schema.features]) is arrays
    facts = facts_of(part)
    assert facts.licence == "CC-BY-4.0"
    assert facts.part_of is not None
    assert (facts.part_of.dataset, facts.part_of.version) == ("ds", 2)
    assert facts.part_of.content_hash == whole.content_hash
    assert facts.part_of.without == (() if arrays else ("images/cam_high",))
    assert facts.part_of.of_episodes == 2
    if not arrays:
        assert report.bytes < whole.bytes / 20, "no picture travelled"
        assert not (tmp_path / "part.zarr/data/images").exists()
    for place, uid in enumerate(uids):
        steps = make_steps(LENGTHS[int(uid[1:])], seed=int(uid[1:]))
        for feature in part.schema.features:
            got = part.read(feature.name, place)
            assert (got == column(steps, feature)).all()
    again = pull(f"{remote}/ds", tmp_path / "part.zarr", cameras=cameras, episodes=episodes)
    assert (again.uid, again.bytes, again.content_hash) == (report.uid, 0, report.content_hash)
    with pytest.raises(ConflictError, match="is another dataset"):
        pull(f"{remote}/ds", tmp_path / "part.zarr")
    with open_writer(tmp_path / "part.zarr", part.schema) as writer:
        assert [e.uid for e in writer.commit([]).episodes] == uids, "it can be continued"


def test_a_selection_of_everything_is_the_dataset_itself(tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    push("ds.zarr", "team")
    report = pull("team/ds", Path("copy.zarr"), cameras=["cam_high"], episodes=["0-1"])
    assert not report.part
    assert tree(tmp_path / "copy.zarr") == tree(ds)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        pytest.param({"cameras": ["wrist"]}, "no camera 'wrist'", "cam_high", id="camera"),
        pytest.param({"episodes": ["2"]}, "no episode '2'", "There are 2, from 0", id="number"),
        pytest.param({"episodes": ["1-0"]}, "no episode '1-0'", "ranges", id="range"),
        pytest.param({"episodes": ["e7"]}, "no episode 'e7'", "uids", id="uid"),
    ],
)
def test_a_part_that_is_not_there_is_told_and_leaves_nothing(
    tmp_path: Path, options: dict[str, list[str]], message: str, hint: str
) -> None:
    make(tmp_path / "ds.zarr")
    push("ds.zarr", "team")
    with pytest.raises(NotFoundError, match=message) as caught:
        pull("team/ds", Path("part.zarr"), **options)
    assert hint in caught.value.hint
    assert not (tmp_path / "part.zarr").exists()


def test_of_two_who_push_at_once_one_is_told_how_to_go_on(remote: str, tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr", LENGTHS[:1])
    push("ds.zarr", remote)
    other = Path(shutil.copytree(ds, tmp_path / "other.zarr"))
    make(ds, (5,), first=1)
    make(other, (6,), first=2)
    push("ds.zarr", remote, name="ds")
    before = pull(f"{remote}/ds", tmp_path / "before.zarr").content_hash
    (tmp_path / "registry.db").unlink()  # the other person has a machine of their own
    with pytest.raises(ConflictError, match="version 2 that is not yours") as caught:
        push("other.zarr", remote, name="ds")
    assert "act-data pull" in caught.value.hint
    with pytest.raises(ConflictError, match="version 2 of its own"):
        pull(f"{remote}/ds", other)

    # Theirs, with my episode added to it, is a version that both can have.
    pull(f"{remote}/ds", tmp_path / "theirs.zarr")
    with open_writer(tmp_path / "theirs.zarr", make_schema("jpeg")) as writer:
        record(writer, "e2", make_steps(6, seed=2), seed=2)
        writer.commit(["e2"])
    push("theirs.zarr", remote, name="ds")
    final = pull(f"{remote}/ds", tmp_path / "before.zarr")
    assert (final.version, final.episodes) == (3, 3)
    assert final.content_hash != before
    reader = open_dataset(tmp_path / "before.zarr")
    for n, (seed, length) in enumerate([(0, 9), (1, 5), (2, 6)]):
        assert_reads_back(reader, n, make_steps(length, seed=seed))


def test_a_name_that_is_taken_by_another_dataset_is_refused(remote: str, tmp_path: Path) -> None:
    make(tmp_path / "ds.zarr")
    make(tmp_path / "b/ds.zarr", (3,))
    push("ds.zarr", remote)
    with pytest.raises(ConflictError, match="is another dataset") as caught:
        push("b/ds.zarr", remote, name="ds")
    assert "--name" in caught.value.hint
    push("b/ds.zarr", remote, name="ds-b")
    assert pull(f"{remote}/ds-b").episodes == 1


def test_a_dry_run_says_the_bytes_and_touches_nothing(remote: str, tmp_path: Path) -> None:
    make(tmp_path / "ds.zarr")
    planned = push("ds.zarr", remote, dry_run=True)
    with pytest.raises(NotFoundError, match="no dataset 'ds'"):
        pull(f"{remote}/ds")
    done = push("ds.zarr", remote)
    assert (planned.sent_bytes, planned.sent_blobs) == (done.sent_bytes, done.sent_blobs)
    before = tree(tmp_path)
    wanted = pull(f"{remote}/ds", tmp_path / "new/copy.zarr", dry_run=True)
    assert tree(tmp_path) == before
    assert wanted.fetched_bytes == wanted.bytes == pull(f"{remote}/ds", Path("copy.zarr")).bytes


def test_a_damaged_dataset_is_not_pushed(tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    shard = next(p for p in sorted(ds.glob("data/images/**/c/**/0")) if p.is_file())
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="is not what was committed"):
        push("ds.zarr", "team")
    shard.unlink()
    with pytest.raises(StoreError, match="missing or not as it was"):
        push("ds.zarr", "team")
    assert not (tmp_path / "team/refs").exists()


def test_what_a_lost_blob_leaves_is_told_and_mended_by_a_push(tmp_path: Path) -> None:
    make(tmp_path / "ds.zarr")
    push("ds.zarr", "team", part_bytes=PART)
    blob = max((tmp_path / "team/blobs").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    blob.unlink()
    with pytest.raises(StoreError, match="is missing") as caught:
        pull("team/ds", Path("copy.zarr"))
    assert "Push" in caught.value.hint
    assert not (tmp_path / "copy.zarr").exists()
    assert push("ds.zarr", "team", part_bytes=PART).sent_blobs == 1
    pull("team/ds", Path("copy.zarr"))
    assert verify("copy.zarr").sound


def test_statistics_and_facts_travel_also_when_they_come_later(tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    push("ds.zarr", "team")
    pull("team/ds", Path("copy.zarr"))
    reader = open_dataset(ds)
    reader.save_stats(compute(reader, "train", None))
    save_facts(reader, DatasetFacts(licence="CC0-1.0", cite="Ours, 2026"))
    assert 0 < push("ds.zarr", "team").sent_bytes < 20_000
    pull("team/ds", Path("copy.zarr"))
    copy = open_dataset(tmp_path / "copy.zarr")
    assert copy.stats() == reader.stats()
    assert facts_of(copy).cite == "Ours, 2026"
    assert tree(tmp_path / "copy.zarr") == tree(ds)
    make(ds, (3,), first=2)
    assert facts_of(open_dataset(ds)).licence == "CC0-1.0", "a later version inherits them"
    assert open_dataset(ds).verify() == []


def test_an_unfinished_episode_here_is_not_overwritten(tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr", LENGTHS[:1])
    push("ds.zarr", "team")
    pull("team/ds", Path("copy.zarr"))
    with open_writer(tmp_path / "copy.zarr", make_schema("jpeg")) as writer:
        record(writer, "mine", make_steps(3, seed=9), seed=9)  # durable, in no version
    make(ds, LENGTHS[1:], first=1)
    push("ds.zarr", "team")
    before = tree(tmp_path / "copy.zarr")
    with pytest.raises(ConflictError, match="'mine' was finished"):
        pull("team/ds", Path("copy.zarr"))
    assert tree(tmp_path / "copy.zarr") == before


@pytest.mark.parametrize(
    ("out", "error"),
    [
        pytest.param("ds.hdf5", InputError, id="not-zarr"),
        pytest.param("s3://team/x.zarr", InputError, id="url"),
        pytest.param("file.zarr", ConflictError, id="a-file"),
        pytest.param("folder.zarr", ConflictError, id="a-folder"),
        pytest.param("link.zarr", ConflictError, id="a-link"),
    ],
)
def test_what_lies_at_the_target_stays(tmp_path: Path, out: str, error: type[Exception]) -> None:
    make(tmp_path / "ds.zarr")
    push("ds.zarr", "team")
    (tmp_path / "file.zarr").write_text("mine")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr/mine").write_text("mine")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "folder.zarr")
    before = tree(tmp_path)
    with pytest.raises(error):
        pull("team/ds", Path(out))
    assert tree(tmp_path) == before


def test_an_hdf5_dataset_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with open_writer(tmp_path / "ds.hdf5", make_schema()) as writer:
        record(writer, "e", make_steps(3))
        writer.commit(["e"])
    with pytest.raises(InputError, match="cannot be pushed") as caught:
        push("ds.hdf5", "team")
    assert "act-data convert" in caught.value.hint
