"""Sidecars: what a person wrote beside a recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from act_data.errors import InputError
from act_data.segments import Sidecar, annotation_of
from act_data.sources import find_recordings
from tests.bags import KINDS, Kind, joint_state, write


def recorded(folder: Path, kind: Kind = "ros1", name: str = "pour") -> Path:
    return write(folder / name, kind, [joint_state(10**9, 10**9, [1.0])])


def said(path: Path) -> Sidecar:
    (recording,) = find_recordings([path])
    return annotation_of(recording)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_sidecar_lies_beside_a_bag_and_inside_a_rosbag2_folder(
    tmp_path: Path, kind: Kind, suffix: str
) -> None:
    path = recorded(tmp_path, kind)
    assert said(path) == Sidecar()
    beside = path.with_suffix(suffix) if kind == "ros1" else path / f"episode{suffix}"
    text = {
        ".yaml": "task: pour tea\noperator: ada\nsuccess: no\n",
        ".json": '{"task": "pour tea", "operator": "ada", "success": false, "notes": null}',
    }
    beside.write_text(text[suffix])
    assert said(path) == Sidecar(task="pour tea", operator="ada", success=False)


def test_a_bare_storage_file_has_one_of_its_name(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "mcap")
    (file,) = folder.glob("*.mcap")
    (folder / "metadata.yaml").unlink()
    file.with_suffix(".yaml").write_text("notes: alone\n")
    assert said(file) == Sidecar(notes="alone")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("task: a\ncolour: red\n", ":2: unknown key 'colour'"),
        ("task: a\nsuccess: maybe\n", ":2: success is 'maybe'"),
        ("task: [a, b]\n", ":1: task is"),
        ("- task\n", ":1: not a mapping"),
        ("", ":1: the file is empty"),
        ("task: a\ntask: b\n", ":2: key 'task' is there twice"),
        ("task: 'open\n", "not YAML"),
    ],
    ids=["unknown", "no-answer", "a-list", "not-a-mapping", "empty", "twice", "no-yaml"],
)
def test_a_mistake_in_a_sidecar_is_told_with_file_and_line(
    tmp_path: Path, text: str, says: str
) -> None:
    path = recorded(tmp_path)
    path.with_suffix(".yaml").write_text(text)
    with pytest.raises(InputError, match=r"pour\.yaml") as caught:
        said(path)
    assert says in str(caught.value)
    assert caught.value.hint


def test_two_sidecars_are_one_too_many(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    for suffix in (".yaml", ".json"):
        path.with_suffix(suffix).write_text("task: a\n")
    with pytest.raises(InputError, match="annotated twice"):
        said(path)


def test_the_last_word_is_said_field_by_field() -> None:
    flag = Sidecar(task="flag", success=False)
    file = Sidecar(task="file", notes="kept")
    assert flag.over(file) == Sidecar(task="flag", success=False, notes="kept")
    assert file.over(flag) == Sidecar(task="file", success=False, notes="kept")
