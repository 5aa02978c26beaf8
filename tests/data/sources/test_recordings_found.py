"""Which files are one recording and which are several."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from act_data.errors import DataError, NotFoundError
from act_data.sources import find_recordings, open_recording
from tests.bags import Kind, joint_state, write

S = 10**9


def demo(target: Path, kind: Kind, start_s: float, stop_s: float) -> Path:
    """A recording with a message at each tenth of a second in [start, stop)."""
    ticks = range(round(start_s * 10), round(stop_s * 10))
    return write(target, kind, [joint_state(i * S // 10, i * S // 10, [0.0]) for i in ticks])


def empty(target: Path) -> Path:
    return write(target, "ros1", [])


def names(*paths: Path) -> list[tuple[str, int]]:
    return [(r.name, len(r.files)) for r in find_recordings(list(paths))]


def test_all_missing_paths_are_named_at_once(tmp_path: Path) -> None:
    there = demo(tmp_path / "a", "ros1", 0, 1)
    with pytest.raises(NotFoundError) as caught:
        find_recordings([tmp_path / "b.bag", there, tmp_path / "c.bag"])
    assert "b.bag" in str(caught.value)
    assert "c.bag" in str(caught.value)
    assert "a.bag" not in str(caught.value)


def test_a_folder_without_recordings_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden").mkdir()
    demo(tmp_path / ".hidden" / "a", "ros1", 0, 1)
    with pytest.raises(NotFoundError, match=r"notes\.txt"):
        find_recordings([tmp_path])


def test_a_folder_is_read_in_natural_order_and_other_files_are_left_out(tmp_path: Path) -> None:
    for name in ("run10", "run9", "Run"):
        demo(tmp_path / name, "ros1", 0, 1)
    demo(tmp_path / "run2", "db3", 0, 1)
    demo(tmp_path / "run1", "mcap", 0, 1)
    (tmp_path / "readme.md").write_text("x")
    assert names(tmp_path) == [("Run", 1), ("run1", 1), ("run2", 1), ("run9", 1), ("run10", 1)]


def test_splits_that_continue_in_time_are_one_recording(tmp_path: Path) -> None:
    for i in range(12):
        demo(tmp_path / f"long_{i}", "ros1", 2 * i, 2 * i + 2)
    assert names(tmp_path) == [("long", 12)]
    (recording,) = find_recordings([tmp_path])
    assert [f.stem for f in recording.files] == [f"long_{i}" for i in range(12)]
    with open_recording(recording) as source:
        assert source.topics["/joints"].count == 240
        assert len(list(source.messages(["/joints"]))) == 240


def test_separate_demonstrations_stay_separate(tmp_path: Path) -> None:
    for i in range(3):
        demo(tmp_path / f"demo_{i}", "ros1", 10 * i, 10 * i + 8)
    assert names(tmp_path) == [("demo_0", 1), ("demo_1", 1), ("demo_2", 1)]


def test_recordings_that_overlap_in_time_stay_separate(tmp_path: Path) -> None:
    demo(tmp_path / "robot_0", "ros1", 0, 5)
    demo(tmp_path / "robot_1", "ros1", 3, 8)
    assert names(tmp_path) == [("robot_0", 1), ("robot_1", 1)]


def test_a_missing_number_ends_a_recording(tmp_path: Path) -> None:
    for i in (0, 1, 3, 4):
        demo(tmp_path / f"long_{i}", "ros1", 2 * i, 2 * i + 2)
    assert names(tmp_path) == [("long", 2), ("long", 2)]


def test_empty_splits_join_by_their_number(tmp_path: Path) -> None:
    empty(tmp_path / "long_0")
    demo(tmp_path / "long_1", "ros1", 0, 2)
    empty(tmp_path / "long_2")
    demo(tmp_path / "long_3", "ros1", 2, 4)
    assert names(tmp_path) == [("long", 4)]


def test_a_damaged_split_stays_alone_and_is_not_hidden(tmp_path: Path) -> None:
    for i in range(3):
        demo(tmp_path / f"long_{i}", "ros1", 2 * i, 2 * i + 2)
    (tmp_path / "long_1.bag").write_bytes(b"")
    found = find_recordings([tmp_path])
    assert [(r.name, len(r.files)) for r in found] == [("long_0", 1), ("long_1", 1), ("long_2", 1)]
    with pytest.raises(DataError, match=r"long_1\.bag is empty"):
        open_recording(found[1])


def test_a_file_named_alone_is_read_alone(tmp_path: Path) -> None:
    for i in range(2):
        demo(tmp_path / f"long_{i}", "ros1", 2 * i, 2 * i + 2)
    assert names(tmp_path / "long_1.bag") == [("long_1", 1)]
    assert names(tmp_path / "long_1.bag", tmp_path / "long_0.bag") == [("long", 2)]


def test_a_path_named_twice_is_one_recording(tmp_path: Path) -> None:
    bag = demo(tmp_path / "a", "ros1", 0, 1)
    assert names(bag, tmp_path, bag) == [("a", 1)]


@pytest.mark.parametrize("kind", ["db3", "mcap"])
def test_a_rosbag2_directory_is_one_recording_with_or_without_metadata(
    tmp_path: Path, kind: Kind
) -> None:
    run = demo(tmp_path / "run", kind, 0, 2)
    more = demo(tmp_path / "more", kind, 5, 7)
    (run / f"run.{kind}").rename(run / f"run_0.{kind}")
    (more / f"more.{kind}").rename(run / f"run_1.{kind}")
    shutil.rmtree(more)
    assert names(run) == [("run", 2)]
    (run / "metadata.yaml").unlink()
    assert names(run) == [("run", 2)]
    assert names(tmp_path) == [("run", 2)]
    (recording,) = find_recordings([run])
    with open_recording(recording) as source:
        assert len(list(source.messages(["/joints"]))) == 40


@pytest.mark.parametrize(
    "text", ["", "]", "a: 1", "rosbag2_bagfile_information: 3", "\x00", "!!omap [a: 1, a: 2]"]
)
def test_metadata_that_is_none_is_ignored_with_a_warning(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = demo(tmp_path / "run", "mcap", 0, 2)
    (run / "metadata.yaml").write_text(text)
    (recording,) = find_recordings([run])
    with open_recording(recording) as source:
        assert len(list(source.messages(["/joints"]))) == 20
    assert "metadata.yaml is ignored" in caplog.text


def test_a_missing_split_of_a_rosbag2_directory_is_an_error(tmp_path: Path) -> None:
    run = demo(tmp_path / "run", "db3", 0, 2)
    metadata = run / "metadata.yaml"
    text = metadata.read_text()
    assert text.count("- run.db3") == 1
    metadata.write_text(text.replace("- run.db3", "- run.db3\n  - run_1.db3"))
    (recording,) = find_recordings([run])
    with pytest.raises(DataError, match=r"missing: run_1\.db3"):
        open_recording(recording)
    (run / "run.db3").unlink()
    (recording,) = find_recordings([run])
    with pytest.raises(DataError, match=r"missing: run\.db3, run_1\.db3"):
        open_recording(recording)


def test_a_renamed_storage_file_is_read(tmp_path: Path) -> None:
    run = demo(tmp_path / "run", "mcap", 0, 2)
    (run / "run.mcap").rename(run / "other.mcap")
    (recording,) = find_recordings([run])
    with open_recording(recording) as source:
        assert len(list(source.messages(["/joints"]))) == 20


def test_a_recording_is_known_by_its_content_not_only_by_its_suffix(tmp_path: Path) -> None:
    bag = demo(tmp_path / "a", "ros1", 0, 1)
    bag.rename(tmp_path / "a.renamed")
    (recording,) = find_recordings([tmp_path])
    assert (recording.name, recording.kind) == ("a", "ros1")


def test_a_database_of_somebody_else_in_a_folder_is_no_recording(tmp_path: Path) -> None:
    run = demo(tmp_path / "run", "db3", 0, 1)
    (run / "run.db3").rename(tmp_path / "registry.sqlite")
    shutil.rmtree(run)
    with pytest.raises(NotFoundError, match="registry"):
        find_recordings([tmp_path])


def test_the_backup_that_reindexing_leaves_is_not_read_again(tmp_path: Path) -> None:
    bag = demo(tmp_path / "a", "ros1", 0, 1)
    shutil.copy(bag, tmp_path / "a.orig.bag")
    assert names(tmp_path) == [("a", 1)]


def test_a_link_that_leads_back_up_is_followed_once(tmp_path: Path) -> None:
    demo(tmp_path / "a", "ros1", 0, 1)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == [("a", 1)]
