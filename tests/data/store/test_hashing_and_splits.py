"""Identity and splits depend on content alone and never change their mind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.records import EpisodeEntry, Feature
from act_data.store import open_dataset, open_writer
from act_data.store.differences import differences
from act_data.store.hashing import EpisodeHash, canonical_json, content_hash
from act_data.store.splits import DEFAULT_RULE, assign, bucket
from act_data.types import Role
from tests.data.store.contract import make_schema, make_steps, record

LOW = Feature(name="q", role=Role.OBSERVATION, dtype="float32", shape=(2,))
CAMERA = Feature(
    name="images/c", role=Role.OBSERVATION, dtype="uint8", shape=(1, 1, 3), codec="raw"
)


def entries(hashes: list[str], splits: list[str]) -> list[EpisodeEntry]:
    return [
        EpisodeEntry(uid=f"e{n}", start=n, length=1, hash=h, split=s)
        for n, (h, s) in enumerate(zip(hashes, splits, strict=True))
    ]


def test_the_episode_hash_is_what_the_format_says() -> None:
    import hashlib

    digest = EpisodeHash([LOW, CAMERA])
    digest.add("q", b"12345678")
    digest.add("images/c", b"abc")
    digest.add("images/c", b"")
    digest.add("q", b"abcdefgh")
    low = hashlib.sha256(b"12345678abcdefgh").digest()
    frames = hashlib.sha256(b"\3" + bytes(7) + b"abc" + bytes(8)).digest()
    whole = b"act-episode 1 2\n" + b'["q","float32",[2],"none"]' + low
    whole += b'["images/c","uint8",[1,1,3],"raw"]' + frames
    assert digest.hexdigest(2) == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_the_hash_does_not_depend_on_shards_uid_source_or_date(tmp_path: Path, codec: str) -> None:
    hashes = set()
    for n, shard_frames in enumerate((1, 3, 7, 64)):
        path = tmp_path / f"{n}.zarr"
        with open_writer(path, make_schema(codec), shard_frames=shard_frames) as writer:
            made = record(writer, f"uid-{n}", make_steps(7), seed=n)
            version = writer.commit([made.uid], message=f"try {n}")
        hashes.add((made.hash, version.content_hash))
        assert open_dataset(path).verify() == []
    assert len(hashes) == 1


def test_any_change_of_content_order_or_split_changes_the_version_hash() -> None:
    schema = make_schema("raw")
    base = entries(["a", "b"], ["train", "val"])
    others = [
        content_hash(schema, entries(["a", "c"], ["train", "val"])),
        content_hash(schema, entries(["b", "a"], ["train", "val"])),
        content_hash(schema, entries(["a", "b"], ["val", "train"])),
        content_hash(make_schema("jpeg"), base),
        content_hash(schema.model_copy(update={"fps": 11.0}), base),
    ]
    assert len({content_hash(schema, base), *others}) == 6
    moved = [e.model_copy(update={"uid": e.uid + "x", "start": e.start + 512}) for e in base]
    assert content_hash(schema, moved) == content_hash(schema, base)


def test_canonical_json_is_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "ü"]}) == '{"a":[1.5,"ü"],"b":1}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


names = st.text("0123456789abcdef", min_size=8, max_size=8)


@given(batches=st.lists(st.lists(names, min_size=1, max_size=5), min_size=1, max_size=5))
def test_an_episode_keeps_its_split_and_there_is_always_something_to_train_and_to_validate(
    batches: list[list[str]],
) -> None:
    hashes: list[str] = []
    version: list[EpisodeEntry] = []
    for batch in batches:
        old = [e.split for e in version]
        new = assign(version, batch)
        assert new == assign(version, batch)
        hashes += batch
        version = entries(hashes, [*old, *new])
        assert [e.split for e in version][: len(old)] == old
        splits = {e.split for e in version}
        assert splits == {"train", "val"} or (len(version) == 1 and splits == {"train"})


@given(names, names)
def test_an_episode_alone_does_not_decide_for_another(first: str, second: str) -> None:
    parent = entries(["x", "y"], ["train", "val"])
    together = assign(parent, [first, second])
    assert together == [*assign(parent, [first]), *assign(parent, [second])]
    assert together[0] == ("val" if bucket(first) < DEFAULT_RULE.val_share else "train")


def test_a_tenth_of_many_episodes_is_held_out() -> None:
    shares = [bucket(f"{n:064x}") for n in range(4000)]
    assert 0 <= min(shares) <= max(shares) < 1
    assert 0.08 < np.mean(np.array(shares) < DEFAULT_RULE.val_share) < 0.12


def test_differences_are_named_by_their_entry() -> None:
    here = make_schema("raw")
    assert differences(here, here) == []
    camera = here.features[1].model_copy(update={"codec": "jpeg", "shape": (8, 8, 3)})
    there = here.model_copy(
        update={"fps": 30.0, "features": (here.features[0], camera, *here.features[3:])}
    )
    found = differences(there, here)
    assert "fps is 30.0, not 10.0" in found
    assert "features.images/cam_high.codec is 'jpeg', not 'raw'" in found
    assert "features.images/cam_high.shape is [8, 8, 3], not [16, 24, 3]" in found
    assert "features.action is not there" in found
    assert "features.action is there, not here" in differences(here, there)
