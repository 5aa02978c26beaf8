"""Files that say what others hold: robot files, and the documents and shards of a dataset."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from act_data.errors import ActError
from act_data.interfaces import DatasetReader
from act_data.robot import parse_robot, preset_names, preset_text
from act_data.segments.annotations import annotation_of
from act_data.segments.ranges import read_ranges
from act_data.sources import Recording
from act_data.store import open_dataset, open_writer
from act_model.config import VectorContract
from act_model.legacy.pickled import arrays_in
from act_model.safety import read_urdf
from act_model.safety.kinematics import Workspace
from act_model.safety.records import Box
from act_model.safety.workspace import parse_workspace
from tests.data.store.contract import make_schema, make_steps, record
from tests.fuzz.edits import edited
from tests.fuzz.recordings import folder
from tests.small_robot import ROBOT


def robot(data: bytes) -> None:
    """A robot file."""
    parse_robot("robot.yaml", data)


def robots() -> list[bytes]:
    """The presets, and a small robot."""
    return [ROBOT.encode(), *(preset_text(name).encode() for name in preset_names())]


def urdf(data: bytes) -> None:
    """A robot's description: its limits, and where its joints bring a tip."""
    path = folder() / "r.urdf"
    path.write_bytes(data)
    read_urdf(path)
    box = Box(frame="tip", min=(0, 0, 0), max=(1, 1, 1))
    Workspace(path, [box], (VectorContract(name="action", names=("a", "b"), unit="rad"),))


def urdfs() -> list[bytes]:
    """An arm of two joints."""
    return [
        b"""<robot name="r"><link name="base"/><link name="upper"/><link name="tip"/>
        <joint name="a" type="continuous"><parent link="base"/><child link="upper"/></joint>
        <joint name="b" type="revolute"><parent link="upper"/><child link="tip"/>
        <origin xyz="0.5 0 0" rpy="0 1 0"/><axis xyz="0 1 0"/>
        <limit lower="-2" upper="2" velocity="9" effort="1"/></joint></robot>"""
    ]


def workspace(data: bytes) -> None:
    """The boxes that tips stay in."""
    parse_workspace("box.yaml", data)


def workspaces() -> list[bytes]:
    """Two boxes."""
    return [b"boxes: [{frame: tip, min: [0, -1, 0], max: [1, 1, 1.5]}, "
            b"{frame: a, stream: b, min: [0, 0, 0], max: [0, 0, 0]}]"]  # fmt: skip


def segments(data: bytes) -> None:
    """A file that lists segments, as CSV or as YAML; the first byte says which."""
    path = folder() / ("list.csv" if data[:1] < b"\x80" else "list.yaml")
    path.write_bytes(data[1:])
    recording = Recording("a", "mcap", (folder() / "a.mcap",))
    ranges = read_ranges(path)
    ranges.check([recording])
    ranges.of(recording).marks(10**18)


def sidecar(data: bytes) -> None:
    """The file beside a recording that says what it shows."""
    (folder() / "beside.yaml").write_bytes(data)
    annotation_of(Recording("beside", "mcap", (folder() / "beside.mcap",)))


def statistics(data: bytes) -> None:
    """The pickled statistics of a policy that another program trained."""
    arrays_in(data, "dataset_stats.pkl")


def statistics_files() -> list[bytes]:
    """By each protocol that makes them."""
    arrays = {"qpos_mean": np.arange(3, dtype=np.float32), "example_qpos": np.ones((2, 3))}
    return [pickle.dumps(arrays, protocol) for protocol in (3, 4, 5)]


def segment_files() -> list[bytes]:
    """Lists of segments with times of every form."""
    rows = "recording,start,end,task,success\na,1.5,2.5e0,pour,true\na,,1,,\n"
    absolute = "recording,start,end\na,2026-01-31T12:00:00.5Z,\na*,1700000000000000000,\n"
    yaml = "- {recording: a, start: 0, end: 1, notes: 'x'}\n- {recording: '*', start: 2}\n"
    csv = [
        b"\0" + text.encode() for text in (rows, absolute, "\ufeff" + rows, '"recording"\n"a"\n')
    ]
    return [*csv, b"\xff" + yaml.encode()]


def sidecars() -> list[bytes]:
    """Sidecars in YAML and JSON."""
    return [
        b"task: pour\nsuccess: true\nnotes: >\n  long\n",
        b'{"operator": "A", "success": null}',
        b"",
    ]


# --- a dataset --------------------------------------------------------------------------------


@cache
def _dataset() -> tuple[Path, Mapping[str, bytes]]:
    """A small dataset, and its files by name as they were committed."""
    path = folder() / "ds.zarr"
    shutil.rmtree(path, ignore_errors=True)
    with open_writer(path, make_schema("jpeg"), shard_frames=4) as writer:
        for n, length in ((0, 5), (1, 3)):
            record(writer, f"uid{n}", make_steps(length, seed=n), seed=n)
        writer.commit(["uid0", "uid1"])
    files = {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
    return path, files


def _with(name: str, content: bytes) -> None:
    """Open, read and verify the dataset with one file exchanged."""
    path, files = _dataset()
    file = path / name
    file.write_bytes(content)
    try:
        reader = open_dataset(path)
        for feature in reader.schema.features:
            for episode in range(len(reader.episodes)):
                _read(reader, feature.name, episode)
        reader.stats()
        reader.verify()
    finally:
        file.write_bytes(files[name])


def _read(reader: DatasetReader, feature: str, episode: int) -> None:
    try:
        reader.read(feature, episode)
    except ActError:
        return  # another array may be sound


def documents_of_a_store(data: bytes) -> None:
    """One of the JSON documents of a dataset; the first byte says which."""
    if not data:
        return
    names = [name for name in _dataset()[1] if name.endswith(".json")]
    _with(names[data[0] % len(names)], data[1:])


def values_of_a_store(data: bytes) -> None:
    """One value of a document exchanged for another: the document stays JSON.

    Args:
        data: Which document, which value (two bytes), and what takes its place, as JSON or text.
    """
    if len(data) < 4:
        return
    _, files = _dataset()
    names = [name for name in files if name.endswith(".json")]
    name = names[data[0] % len(names)]
    document = json.loads(files[name])
    places = list(_places(document))
    holder, key = places[int.from_bytes(data[1:3], "little") % len(places)]
    text = data[3:].decode("utf-8", "replace")
    try:
        holder[key] = json.loads(text)
    except (ValueError, RecursionError):
        holder[key] = text
    try:
        content = json.dumps(document).encode()
    except (ValueError, RecursionError):
        return
    _with(name, content)


def _places(node: object) -> list[tuple[object, object]]:
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    return [place for key, inner in items for place in ((node, key), *_places(inner))]


def shards_of_a_store(data: bytes) -> None:
    """A program of changes to one of the shards of a dataset; the first byte says which."""
    if not data:
        return
    _, files = _dataset()
    names = [name for name in files if not name.endswith(".json")]
    name = names[data[0] % len(names)]
    index = range(max(0, len(files[name]) - 16 * 4 - 4), len(files[name]) - 4, 4)
    places = [(at, size) for at in index for size in (4, 8)]
    _with(name, edited(files[name], data[1:], places))


def document_seeds() -> list[bytes]:
    """Every document as it is."""
    names = [name for name in _dataset()[1] if name.endswith(".json")]
    return [bytes([n]) + _dataset()[1][name] for n, name in enumerate(names)]


def value_seeds() -> list[bytes]:
    """Values that a document should not have."""
    odd = [
        "null",
        "-1",
        "1e400",
        "99999999999999999999",
        '"x"',
        "[]",
        "{}",
        "true",
        "NaN",
        '"../x"',
    ]
    documents = sum(name.endswith(".json") for name in _dataset()[1])
    return [
        bytes([n, 7 * k, 0]) + value.encode()
        for n in range(documents)
        for k, value in enumerate(odd)
    ]


def shard_seeds() -> list[bytes]:
    """Programs for every shard."""
    shards = sum(not name.endswith(".json") for name in _dataset()[1])
    return [bytes([n, what, 9 * what, what, 5 * what]) for n in range(shards) for what in range(8)]
