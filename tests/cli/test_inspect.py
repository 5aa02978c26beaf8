"""act-data inspect: the page, the robot file, and what happens at a damaged recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from act_data.inspect import Inspection
from tests.bags import KINDS, Kind
from tests.cli.commands import done, listing, refused, run
from tests.data.inspect.robots import LEADER_AND_FOLLOWER, SINGLE_ARM, every
from tests.small_robot import IMAGE, bag, picture


def test_the_page_shows_topics_rates_clocks_and_presets(tmp_path: Path) -> None:
    out = done(run("act-data", "inspect", bag(tmp_path, "two_arms", LEADER_AND_FOLLOWER)))
    lines = out.splitlines()
    assert lines[0].startswith("two_arms: ros1, ")
    assert "compression none, 3.0 s, 1" in lines[0]
    (row,) = [line for line in lines if line.startswith("/leader_left/joint_states")]
    assert "3 joints: shoulder, elbow, wrist" in row
    assert "receive clock" in row
    assert row.split()[-2:] == ["0.5", "0.5"]
    assert "preset cobot_magic does not: cam_high: /camera_f/color/image_raw" in out


def test_the_recipe_of_the_help_works(tmp_path: Path) -> None:
    source = bag(tmp_path, "arm", SINGLE_ARM)
    robot = tmp_path / "robot.yaml"
    ended = run("act-data", "inspect", source, "--write", robot)
    done(ended)
    assert f"written to {robot}" in ended.err
    out = done(run("act-data", "ingest", source, "--out", tmp_path / "ds.zarr", "--robot", robot))
    assert "1 new of 1 episodes, 89 steps" in out


def test_json_is_one_document_that_its_record_reads(tmp_path: Path) -> None:
    robot = tmp_path / "robot.yaml"
    out = done(
        run("act-data", "inspect", bag(tmp_path, "arm", SINGLE_ARM), "--json", "--write", robot)
    )
    found = Inspection.model_validate(json.loads(out))
    assert found.written == str(robot)
    assert found.proposal is not None
    assert robot.read_text() == found.proposal.yaml
    assert [t.topic for t in found.recordings[0].topics] == [
        "/camera/color/image_raw",
        "/joint_states",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_recording_gets_a_page_and_exit_code_3(tmp_path: Path, kind: Kind) -> None:
    path = bag(tmp_path, "cut", SINGLE_ARM, kind)
    file = path if path.is_file() else path / f"cut.{kind}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    ended = run("act-data", "inspect", path)
    assert ended.code == 3
    assert "DAMAGED: " in ended.out
    assert "way out: " in ended.out
    assert "Traceback" not in ended.err
    as_json = run("act-data", "inspect", path, "--json")
    assert as_json.code == 3
    (card,) = Inspection.model_validate(json.loads(as_json.out)).recordings
    assert str(file) in card.damage
    assert "--recover" in card.way_out
    (recovery,) = card.recovery
    assert not recovery.whole
    assert 0 < recovery.messages == sum(topic.messages for topic in card.topics) < 390


def test_what_is_left_of_a_cut_recording_is_ingested_as_the_page_says(tmp_path: Path) -> None:
    path = bag(tmp_path, "cut", SINGLE_ARM, "mcap") / "cut.mcap"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    robot = tmp_path / "robot.yaml"
    assert run("act-data", "inspect", path, "--write", robot).code == 3
    assert "# The recording is damaged: ingest it with --recover." in robot.read_text()
    ended = run(
        "act-data", "ingest", path, "--out", tmp_path / "d.zarr", "--robot", robot, "--recover"
    )
    assert ended.code == 3, ended.err
    assert "1 new of 1 episodes" in ended.out


def test_what_lies_before_and_behind_a_damage_is_on_the_page(tmp_path: Path) -> None:
    large = [
        ("/big/image_raw", IMAGE, t, {"header": t, **picture(0, 240, 320)}) for t, _ in every(9)
    ]
    path = bag(tmp_path, "late", [*SINGLE_ARM, *large], "ros1")  # several chunks
    data = bytearray(path.read_bytes())
    at = data.rindex(b"op=\x02") - 4  # the last message of the last chunk
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    ended = run("act-data", "inspect", path, "--json")
    (card,) = Inspection.model_validate(json.loads(ended.out)).recordings
    assert ended.code == 3
    assert card.damage
    assert sum(topic.messages for topic in card.topics) == card.recovery[0].messages
    assert 100 < card.recovery[0].messages < 417
    assert [fit.name for fit in card.presets]


def test_beside_a_damaged_recording_a_sound_one_is_proposed_for(tmp_path: Path) -> None:
    (tmp_path / "bags").mkdir()
    bag(tmp_path / "bags", "b", SINGLE_ARM)
    (tmp_path / "bags" / "a.bag").write_bytes(b"")
    robot = tmp_path / "robot.yaml"
    ended = run("act-data", "inspect", tmp_path / "bags", "--write", robot)
    assert ended.code == 3
    assert "is empty (0 bytes)" in ended.out
    assert robot.is_file()


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        pytest.param(["nowhere.bag"], "no such file", 1, id="nothing-there"),
        pytest.param(["arm.bag", "--write", "there.yaml"], "there.yaml exists", 1, id="exists"),
        pytest.param(["arm.bag", "--write", "no/r.yaml"], "no folder", 1, id="no-folder"),
        pytest.param(["there.yaml"], "is not a recording", 1, id="no-recording"),
    ],
)
def test_what_cannot_be_is_refused_before_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    bag(tmp_path, "arm", SINGLE_ARM)
    (tmp_path / "there.yaml").write_text("mine")
    before = listing(tmp_path)
    refused(run("act-data", "inspect", *arguments), says, code=code)
    assert listing(tmp_path) == before
    assert (tmp_path / "there.yaml").read_text() == "mine"


def test_without_anything_to_read_the_page_is_there_and_the_robot_is_not(tmp_path: Path) -> None:
    source = bag(tmp_path, "text", [("/chatter", "std_msgs/msg/String", 10**9, {"data": "hello"})])
    ended = run("act-data", "inspect", source, "--write", tmp_path / "robot.yaml")
    assert ended.code == 1
    assert "/chatter" in ended.out
    assert "/chatter: text" in ended.err
    assert "hint:  " in ended.err
    assert not (tmp_path / "robot.yaml").exists()
