"""A remote in the hands of an attacker: everything is refused, and nothing here changes."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import ActError, StoreError
from act_data.registry import Registry
from act_data.remotes import clone, pull, push
from act_data.store import open_dataset, open_writer
from act_data.store.shards import crc32c, index_bytes
from tests.data.remotes.datasets import make, tree
from tests.data.remotes.forger import TITLE, Edit, Forger, Json
from tests.data.store.contract import make_schema, make_steps, record

PART = 1500


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound remote, made once."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACT_REGISTRY", str(folder / "registry.db"))
        push(str(make(folder / "ds.zarr")), str(folder / "team"), name="ds", part_bytes=PART)
    return folder / "team"


@pytest.fixture
def team(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/mine").write_text("mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    monkeypatch.chdir(tmp_path / "home")
    return Path(shutil.copytree(sound, tmp_path / "team"))


def seen(tmp_path: Path) -> dict[str, bytes | None]:
    """Everything but the remote, the registry and the hidden folder of a pull."""
    return tree(tmp_path, without=("team", "registry.db", "home/.ds.zarr.pull"))


def assert_refused(tmp_path: Path, *says: str) -> ActError:
    before = seen(tmp_path)
    with pytest.raises(ActError) as caught:
        pull(str(tmp_path / "team/ds"))
    assert seen(tmp_path) == before
    assert not (tmp_path / "home/ds.zarr").exists()
    assert Registry().datasets() == []
    assert caught.value.hint
    for what in says:
        assert what in str(caught.value), (what, str(caught.value))
    assert len(str(caught.value)) < 1500
    return caught.value


# --- documents --------------------------------------------------------------------------------


def layer(key: str, value: Json, place: int = -1) -> Edit:
    """Sets one key of one layer."""
    return lambda m: m["layers"][place].__setitem__(key, value)


def titled(title: str) -> Edit:
    return layer("annotations", {TITLE: title})


def more(title: str) -> Edit:
    return lambda m: m["layers"].append({**m["layers"][0], "annotations": {TITLE: title}})


def put(key: str, value: Json) -> Edit:
    return lambda m: m.__setitem__(key, value)


def entry(key: str, value: Json) -> Edit:
    return lambda v: v["episodes"][0].__setitem__(key, value)


def renamed(uid: str) -> dict[str, Edit]:
    """The first episode under another uid, everywhere."""

    def link(m: Json) -> None:
        m["manifests"][0]["annotations"]["uid"] = uid

    def title(m: Json) -> None:
        for x in m["layers"]:
            if x["annotations"][TITLE] == "episodes/e0/zarr.json":
                x["annotations"][TITLE] = f"episodes/{uid}/zarr.json"

    return {"record": put("uid", uid), "told": entry("uid", uid), "version": link, "episode": title}


def array(key: str, value: Json) -> Edit:
    """Sets one key of the first array of the schema."""
    return lambda r: r["schema"]["features"][0].__setitem__(key, value)


def file_of(key: str, value: Json) -> Edit:
    def edit(r: Json) -> None:
        first = next(iter(r["files"]))
        r["files"][first][key] = value

    return edit


def key_of_file(new: str) -> Edit:
    def edit(r: Json) -> None:
        first = next(iter(r["files"]))
        r["files"][new] = r["files"].pop(first)

    return edit


def overlapping(v: Json) -> None:
    v["episodes"][1]["start"] = v["episodes"][0]["start"]


def twice(v: Json) -> None:
    v["episodes"].append(v["episodes"][0])


def swapped_parts(m: Json) -> None:
    place = next(
        n
        for n, x in enumerate(m["layers"][:-1])
        if x["annotations"] == m["layers"][n + 1]["annotations"] and "images" in str(x)
    )
    m["layers"][place : place + 2] = m["layers"][place : place + 2][::-1]


def moved(shards: int) -> dict[str, Edit]:
    """The first episode so many shards further, everywhere: where the second one lies."""

    def further(key: str) -> str:
        head, chunk, rest = key.partition("/c/")
        number, slash, rest = rest.partition("/")
        return f"{head}{chunk}{int(number) + shards}{slash}{rest}" if chunk else key

    def record_of(r: Json) -> None:
        r["start"] += 4 * shards
        r["files"] = {further(key): digest for key, digest in r["files"].items()}

    def titles(m: Json) -> None:
        for x in m["layers"]:
            x["annotations"][TITLE] = further(x["annotations"][TITLE])

    return {
        "record": record_of,
        "episode": titles,
        "told": lambda v: v["episodes"][0].__setitem__("start", 4 * shards),
        "root": put("next_shard", 9),
    }


def without_record(m: Json) -> None:
    m["layers"] = [x for x in m["layers"] if "episodes/" not in x["annotations"][TITLE]]


def interleaved(m: Json) -> None:
    m["layers"].append(m["layers"].pop(1))
    m["layers"].append(m["layers"][2])


DOCUMENTS: dict[str, tuple[str, dict[str, Json]]] = {
    # names that would be paths
    "traversal-in-a-title": ("'../../outside/evil'", {"version": more("../../outside/evil")}),
    "traversal-in-a-shard": (
        "'data/../../../outside/evil'",
        {"episode": titled("data/../../../outside/evil")},
    ),
    "absolute-title": ("'/etc/cron.d/evil'", {"version": more("/etc/cron.d/evil")}),
    "absolute-shard": ("'/etc/cron.d/evil'", {"episode": titled("/etc/cron.d/evil")}),
    "windows-drive": ("evil' against", {"version": more("C:\\evil")}),
    "backslashes": ("evil' against", {"version": more("..\\..\\evil")}),
    "network-share": ("evil' against", {"version": more("\\\\host\\share\\evil")}),
    "nul-in-a-title": ("against", {"version": more("zarr.json\0.txt")}),
    "control-characters": ("'zarr.json\\x1b[2J\\r\\n'", {"version": more("zarr.json\x1b[2J\r\n")}),
    "overlong-title": ("at most 1000 characters", {"version": more("a" * 100_000)}),
    "empty-title": ("at least 1 character", {"version": more("")}),
    "a-file-too-many": ("'notes.txt'", {"version": more("notes.txt")}),
    "look-alike-of-zarr.json": ("against", {"version": more("zarr\N{ONE DOT LEADER}json")}),
    "decomposed-unicode": ("against", {"version": more("versions/000001/e\u0301.json")}),
    "traversal-in-a-digest": (
        "digest: String should match",
        {"episode": layer("digest", "sha256:../../../../etc/passwd")},
    ),
    "traversal-behind-a-digest": (
        "digest: String should match",
        {"episode": layer("digest", "sha256:" + "a" * 64 + "/../x")},
    ),
    "newline-behind-a-digest": (
        "digest: String should match",
        {"episode": layer("digest", "sha256:" + "a" * 64 + "\n")},
    ),
    "another-hash-function": (
        "digest: String should match",
        {"episode": layer("digest", "md5:" + "a" * 32)},
    ),
    "traversal-in-a-uid": ("uid: String should match", renamed("../../../outside/evil")),
    "dots-as-a-uid": ("uid: String should match", renamed("..")),
    "device-as-a-uid": ("'CON' is no file name", renamed("CON")),
    "stream-of-a-uid": ("uid: String should match", renamed("e0:evil")),
    "uid-with-a-dot-at-its-end": ("'e0.' is no file name", renamed("e0.")),
    "uids-that-differ-in-case": ("'e1' and 'E1' are one file", renamed("E1")),
    "look-alike-uid": ("uid: String should match", renamed("\N{FULLWIDTH LATIN SMALL LETTER E}0")),
    "overlong-uid": ("uid: String should match", renamed("e" * 5000)),
    "traversal-in-a-record": (
        "'../../outside/evil'",
        {"record": key_of_file("../../outside/evil")},
    ),
    "traversal-in-a-sha256": (
        "cannot have 32 bytes and that sha256",
        {"record": file_of("sha256", "../../outside/evil")},
    ),
    "traversal-in-an-array": (
        "cannot be the name of an array",
        {"root": array("name", "../../outside")},
    ),
    "device-as-an-array": (
        "'images/nul.txt' is no file name",
        {"root": array("name", "images/nul.txt")},
    ),
    "arrays-that-differ-in-case": ("'action' and 'ACTION'", {"root": array("name", "ACTION")}),
    "groups-that-differ-in-case": ("'images' and 'Images'", {"root": array("name", "Images/qpos")}),
    "control-characters-in-the-name": (
        "is damaged: 'ds\\x1b",
        {"root": put("name", "ds\x1b]0;evil\x07")},
    ),
    # sizes, types and counts
    "negative-size": ("size: Input should be greater", {"episode": layer("size", -1)}),
    "size-with-a-fraction": (
        "size: Input should be a valid integer",
        {"episode": layer("size", 1.5)},
    ),
    "size-as-text": ("size: Input should be a valid integer", {"episode": layer("size", "64")}),
    "size-as-truth": ("size: Input should be a valid integer", {"episode": layer("size", True)}),
    "size-beyond-a-part": ("size: Input should be less", {"episode": layer("size", 1 << 40)}),
    "size-beyond-an-integer": ("size: Input should be less", {"episode": layer("size", 10**400)}),
    "smaller-than-declared": (
        "do not have its 32 bytes",
        {"episode": lambda m: layer("size", m["layers"][-1]["size"] + 1)(m)},
    ),
    "larger-than-declared": (
        "do not have its 32 bytes",
        {"episode": lambda m: layer("size", m["layers"][-1]["size"] - 1)(m)},
    ),
    "negative-size-in-a-record": ("cannot have -64 bytes", {"record": file_of("bytes", -64)}),
    "huge-manifest": ("promises 1099511627776 bytes", {"ref": put("size", 1 << 40)}),
    "manifest-longer-than-declared": (
        "bytes, more than",
        {"ref": lambda r: r.__setitem__("size", r["size"] - 1)},
    ),
    "episode-of-2^47-rows": (
        "lies behind the end",
        {"told": entry("length", 1 << 47), "record": put("length", 1 << 47)},
    ),
    "episode-of-no-row": (
        "an episode of 0 rows",
        {"told": entry("length", 0), "record": put("length", 0)},
    ),
    "episode-before-the-begin": (
        "from row -4",
        {"told": entry("start", -4), "record": put("start", -4)},
    ),
    "episode-within-a-shard": (
        "from row 2",
        {"told": entry("start", 2), "record": put("start", 2)},
    ),
    "pixels-without-end": (
        "steps of shape (1048576, 1048576)",
        {"root": array("shape", [1 << 20, 1 << 20])},
    ),
    "shards-without-end": (
        "shard_frames: Input should be less",
        {"root": put("shard_frames", 1 << 40)},
    ),
    "rows-without-end": ("4611686018427387904 rows", {"root": put("next_shard", 1 << 60)}),
    "versions-without-end": ("does not list 1000000000 versions", {"ref": put("version", 10**9)}),
    "list-for-a-text": ("mediaType: Input", {"version": put("mediaType", ["application/json"])}),
    "text-for-a-list": (
        "layers: Input should be a valid tuple",
        {"version": put("layers", "zarr.json")},
    ),
    "null-for-a-list": ("layers: Input should be a valid tuple", {"episode": put("layers", None)}),
    "no-layers": ("does not list 'zarr.json'", {"version": put("layers", [])}),
    # JSON
    "deep-json": ("recursion", {"version_bytes": lambda _: b"[" * 500_000}),
    "key-twice": ("a key stands twice", {"version_bytes": lambda d: d[:-1] + b', "layers": []}'}),
    "not-a-number": (
        "NaN is no JSON number",
        {"version_bytes": lambda d: d.replace(b'"schemaVersion": 2', b'"a": NaN')},
    ),
    "cut-json": ("is damaged", {"version_bytes": lambda d: d[:-20]}),
    "not-utf-8": (
        "codec can't decode",
        {"version_bytes": lambda d: d.replace(b"zarr.json", b"zarr\xff.json")},
    ),
    "an-array": ("valid dictionary", {"version_bytes": lambda d: b"[" + d + b"]"}),
    "another-spelling": ("not as this store writes it", {"record_bytes": lambda d: d + b" "}),
    "digest-of-a-document": (
        "its digest does not fit",
        {"record_bytes": lambda d: d.replace(b"pick", b"drop")},
    ),
    # what does not belong together
    "unknown-media-type": ("mediaType: Input", {"episode": layer("mediaType", "application/x-sh")}),
    "unknown-version-of-a-manifest": (
        "schemaVersion: Input should be 2",
        {"version": put("schemaVersion", 3)},
    ),
    "unknown-key": ("command: Extra inputs", {"version": put("command", "rm -rf /")}),
    "unknown-version-of-a-ref": (
        "format_version: Input should be 1",
        {"ref": put("format_version", 2)},
    ),
    "another-format": ("'other-zarr'", {"root": put("format", "other-zarr")}),
    "newer-format": ("'act-zarr' version 2", {"root": put("format_version", 2)}),
    "ref-of-another-dataset": ("is of the dataset 'other'", {"ref": put("dataset", "other")}),
    "ref-of-another-uid": ("is of the dataset with uid", {"ref": put("uid", "f" * 32)}),
    "ref-to-another-content": (
        "is not the version 2 that the ref names",
        {"ref": put("content_hash", "f" * 64)},
    ),
    "ref-to-another-version": ("'versions/000002/zarr.json'", {"ref": put("version", 1)}),
    "ref-to-version-0": ("version: Input should be greater", {"ref": put("version", 0)}),
    "head-of-another-version": ("is not the version 2", {"root": put("head", {"version": 1})}),
    "version-after-itself": ("of 2, after 2", {"told": put("parent", 2)}),
    "number-of-another-version": ("is of 1, after 1", {"told": put("number", 1)}),
    "content-hash-of-nothing": (
        "does not have the content hash",
        {"told": put("content_hash", "0" * 64), "resign": False},
    ),
    "an-episode-twice": ("names an episode twice", {"told": twice}),
    "place-of-another-episode": ("is not the episode 'e1'", {"told": overlapping}),
    "two-episodes-at-one-place": ("lie at the same place", moved(3)),
    "record-of-another-episode": ("is not the episode 'e0'", {"record": put("hash", "0" * 64)}),
    "a-shard-too-few": ("does not list the files", {"episode": lambda m: m["layers"].pop()}),
    "an-episode-too-few": (
        "does not list the episodes",
        {"version": lambda m: m["manifests"].pop()},
    ),
    "parts-in-another-order": ("its parts are not the file", {"episode": swapped_parts}),
    "parts-apart": ("twice", {"episode": interleaved}),
    "no-record": ("is not the manifest of episode", {"episode": without_record}),
    "sha256-of-another-file": (
        "is not the file that the record names",
        {"record": file_of("sha256", "0" * 64)},
    ),
    "size-of-another-file": ("do not have its 1 bytes", {"record": file_of("bytes", 1)}),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_forged_document_is_refused(team: Path, tmp_path: Path, name: str) -> None:
    says, edits = DOCUMENTS[name]
    Forger(team).forge(**edits)
    assert_refused(tmp_path, says)
    with pytest.raises(ActError):
        clone(str(team / "ds"), tmp_path / "home/ds.zarr")
    assert not (tmp_path / "home/ds.zarr").exists()


def test_the_forger_without_an_edit_makes_a_remote_that_is_pulled(
    team: Path, tmp_path: Path
) -> None:
    """So that what is refused above is refused for its edit."""
    Forger(team).forge(record=lambda _: None, root=lambda _: None, told=lambda _: None)
    pull(str(team / "ds"))
    assert open_dataset(tmp_path / "home/ds.zarr").verify("deep") == []


def test_a_version_manifest_that_is_its_own_episode_ends(team: Path, tmp_path: Path) -> None:
    def nested(m: Json) -> None:
        older = Forger(team)._load(team / "refs/ds/v1.json")
        m["manifests"][0] |= {"digest": older["digest"], "size": older["size"]}

    Forger(team).forge(version=nested)
    assert_refused(tmp_path, "mediaType")


def test_a_ref_that_leads_to_an_episode_is_refused(team: Path, tmp_path: Path) -> None:
    def to_episode(r: Json) -> None:
        link = Forger(team)._load(Forger(team).manifest(r["digest"]))["manifests"][0]
        r.update(digest=link["digest"], size=link["size"])

    Forger(team).forge(ref=to_episode)
    assert_refused(tmp_path, "mediaType: Input should be 'application/vnd.act-toolkit.version")


def test_names_in_a_folder_of_refs_are_no_tags(team: Path, tmp_path: Path) -> None:
    for name in ("..json", "a\nb.json", ".hidden.json", "con.json", "\x1b[2J.json"):
        (team / "refs/ds" / name).write_text("{}")
    from act_data.errors import NotFoundError

    with pytest.raises(NotFoundError) as caught:
        pull(str(team / "ds@none"))
    assert caught.value.hint == "It has latest, v1, v2."


# --- files of a folder ------------------------------------------------------------------------


def replaced(make: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """Put something else in the place of a blob."""

    def edit(team: Path, outside: Path) -> None:
        blob, _ = Forger(team).shard()
        shutil.copy(blob, outside / "copy")
        blob.unlink()
        make(blob, outside)

    return edit


def _socket(blob: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(blob.parent)
        made.bind(blob.name[:40])
        os.chdir(here)
    blob.with_name(blob.name[:40]).rename(blob)


def _flipped(team: Path, _: Path) -> None:
    blob, _ = Forger(team).shard()
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)


def _cut(team: Path, _: Path) -> None:
    blob, _ = Forger(team).shard()
    blob.write_bytes(blob.read_bytes()[:-1])


def _longer(team: Path, _: Path) -> None:
    blob, _ = Forger(team).shard()
    blob.write_bytes(blob.read_bytes() + bytes(1 << 20))


def _sparse(team: Path, _: Path) -> None:
    blob, _ = Forger(team).shard()
    os.truncate(blob, 1 << 42)


def _linked_folder(team: Path, outside: Path) -> None:
    (team / "blobs").rename(outside / "blobs")
    (team / "blobs").symlink_to(outside / "blobs")


def _linked_ref(team: Path, outside: Path) -> None:
    ref = team / "refs/ds/latest.json"
    ref.rename(outside / "latest.json")
    ref.symlink_to(outside / "latest.json")


def _looping_ref(team: Path, _: Path) -> None:
    ref = team / "refs/ds/latest.json"
    ref.unlink()
    ref.symlink_to(ref)


def _huge_ref(team: Path, _: Path) -> None:
    os.truncate(team / "refs/ds/latest.json", 1 << 40)


def _linked_manifest(team: Path, outside: Path) -> None:
    manifest = Forger(team).manifest(Forger(team)._load(Forger(team).ref)["digest"])
    manifest.unlink()
    manifest.symlink_to(outside / "secret")


FILES = {
    "blob-with-another-bit": _flipped,
    "blob-that-is-cut": _cut,
    "blob-that-is-longer": _longer,
    "blob-of-4-tebibytes": _sparse,
    "blob-that-is-gone": replaced(lambda blob, _: None),
    "link-to-the-right-content": replaced(lambda blob, out: blob.symlink_to(out / "copy")),
    "link-to-a-device": replaced(lambda blob, _: blob.symlink_to("/dev/zero")),
    "link-to-itself": replaced(lambda blob, _: blob.symlink_to(blob)),
    "named-pipe": replaced(lambda blob, _: os.mkfifo(blob)),
    "socket": replaced(_socket),
    "folder": replaced(lambda blob, _: blob.mkdir()),
    "hard-link-to-other-content": replaced(lambda blob, out: blob.hardlink_to(out / "secret")),
    "blobs-behind-a-link": _linked_folder,
    "ref-behind-a-link": _linked_ref,
    "ref-that-links-to-itself": _looping_ref,
    "ref-of-a-tebibyte": _huge_ref,
    "manifest-behind-a-link": _linked_manifest,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", FILES)
def test_a_forged_file_is_refused(team: Path, tmp_path: Path, name: str) -> None:
    FILES[name](team, tmp_path / "outside")
    error = assert_refused(tmp_path)
    assert "secret" not in str(error)


# --- what was planted here --------------------------------------------------------------------


def _staged(tmp_path: Path) -> tuple[Path, Path]:
    """The folder of an interrupted pull, and one file in it."""
    blob, layer = Forger(tmp_path / "team").shard()
    kept = blob.read_bytes()
    blob.write_bytes(b"")
    with pytest.raises(StoreError):
        pull(str(tmp_path / "team/ds"))
    blob.write_bytes(kept)
    folder = tmp_path / "home/.ds.zarr.pull"
    record = open_dataset_record(tmp_path, layer)
    return folder, folder / record


def open_dataset_record(tmp_path: Path, layer: Json) -> str:
    """The sha256 of the whole file that `layer` is a part of."""
    import json

    forger = Forger(tmp_path / "team")
    whole = forger._load(forger.manifest(forger._load(forger.ref)["digest"]))
    one = forger._load(forger.manifest(whole["manifests"][0]["digest"]))
    document = json.loads(forger._joined(one, "episodes/e0/zarr.json"))
    files = document["attributes"]["act_episode"]["files"]
    return str(files[layer["annotations"][TITLE]]["sha256"])


@pytest.mark.parametrize("suffix", ["", ".part"], ids=["arrived", "half-arrived"])
@pytest.mark.parametrize("kind", ["link", "hard-link", "pipe", "other-content"])
def test_a_planted_file_among_what_arrived_is_not_written_through(
    team: Path, tmp_path: Path, kind: str, suffix: str
) -> None:
    _, arrived = _staged(tmp_path)
    planted = arrived.with_suffix(suffix)
    planted.unlink(missing_ok=True)
    secret = tmp_path / "outside/secret"
    {
        "link": lambda: planted.symlink_to(secret),
        "hard-link": lambda: planted.hardlink_to(secret),
        "pipe": lambda: os.mkfifo(planted),
        "other-content": lambda: planted.write_bytes(b"evil" * 1000),
    }[kind]()
    pull(str(team / "ds"))
    assert secret.read_text() == "secret"
    assert open_dataset(tmp_path / "home/ds.zarr").verify("deep") == []


@pytest.mark.parametrize("name", [".ds.zarr.pull", ".ds.zarr.pull/new"])
def test_a_planted_link_in_the_place_of_a_folder_leads_nowhere(
    team: Path, tmp_path: Path, name: str
) -> None:
    place = tmp_path / "home" / name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "outside")
    if name.endswith("pull"):
        assert_refused(tmp_path, "is not a folder")
    else:
        pull(str(team / "ds"))
        assert open_dataset(tmp_path / "home/ds.zarr").verify("deep") == []
    assert tree(tmp_path / "outside") == {"secret": b"secret"}


def test_a_planted_link_in_a_folder_is_not_pushed_through(team: Path, tmp_path: Path) -> None:
    make(tmp_path / "home/mine.zarr", (3,), first=7)
    shutil.rmtree(team / "blobs")
    (team / "blobs").symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="symbolic link"):
        push("mine.zarr", str(team))
    assert tree(tmp_path / "outside") == {"secret": b"secret"}


# --- bombs ------------------------------------------------------------------------------------


def test_a_picture_that_swells_is_refused_where_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that says it is a terabyte, in a shard whose every digest fits."""
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.chdir(tmp_path)
    with open_writer(tmp_path / "ds.zarr", make_schema("zstd"), shard_frames=1) as writer:
        record(writer, "e0", make_steps(1))
        writer.commit(["e0"])
    push("ds.zarr", "team")
    bomb = b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    frame = bomb + crc32c(bomb)
    index = np.array([[0, len(frame)]], dtype="<u8").tobytes()
    shard = frame + index + crc32c(index)
    assert len(index) + 4 == index_bytes(1)
    forger = Forger(tmp_path / "team")
    digest, size = forger.put(shard)
    _, old = forger.shard()

    def record_of(r: Json) -> None:
        r["files"][old["annotations"][TITLE]] = {"bytes": size, "sha256": digest[7:]}

    def parts(m: Json) -> None:
        for x in m["layers"]:
            if x["annotations"] == old["annotations"]:
                x.update(digest=digest, size=size)

    forger.forge(record=record_of, episode=parts)
    pull("team/ds", Path("copy.zarr"))
    copy = open_dataset(tmp_path / "copy.zarr")
    with pytest.raises(StoreError, match=r"holds \d+ bytes of pixels where 1152 are expected"):
        copy.read("images/cam_high", 0)
    assert [p.episode for p in copy.verify()] == ["e0"]


@pytest.mark.timeout(60)
def test_an_answer_that_swells_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server that sends a gigabyte of spaces as a megabyte of gzip for a ref."""
    import resource

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    bomb = gzip.compress(b" " * (1 << 20), 9) * 1024

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(bomb)))
            self.end_headers()
            self.wfile.write(bomb)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client hangs up
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(StoreError, match="more than 65536 bytes"):
            pull(f"http://127.0.0.1:{server.server_address[1]}/team/ds")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "KiB"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_more_than_fits_on_the_disk_is_refused_before_it_travels(
    team: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    error = assert_refused(tmp_path, "1000 are free")
    assert "--cameras" in error.hint


def test_the_corpus_is_large() -> None:
    assert len(DOCUMENTS) + len(FILES) >= 100
