"""Bad input never shows a traceback: what, where, the value, the way out; and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from act_data.records import SYNC_REASON
from act_data.store import open_dataset
from act_data.types import Reason
from tests.bags import KINDS, Entry, Kind
from tests.cli.commands import done, listing, refused, run, run_installed
from tests.small_robot import JOINTS, ROBOT, S, bag, entries, joints, picture, robot_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "bags" / "reach_00.bag"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the robot's file."""
    folder = tmp_path / "here"
    folder.mkdir()
    robot_file(folder)
    monkeypatch.chdir(folder)
    return folder


def ingest(*sources: object, out: object = "ds.zarr", robot: object = "small.yaml") -> object:
    return run("act-data", "ingest", *sources, "--out", out, "--robot", robot)


def changed(change: Callable[[Entry], Entry], frames: int = 30) -> list[Entry]:
    return [change(entry) for entry in entries(frames)]


def of(topic: str, after_s: float = 0.0, **values: object) -> Callable[[Entry], Entry]:
    """Overwrites fields of the messages of `topic` received `after_s` into the recording."""

    def change(entry: Entry) -> Entry:
        hit = entry[0] == topic and entry[2] >= (1 + after_s) * S
        return (*entry[:3], {**entry[3], **values}) if hit else entry

    return change


# --- recordings ---


def test_all_paths_that_do_not_exist_are_named(here: Path) -> None:
    bag(here, "good", entries())
    before = listing(here)
    refused(run_installed("act-data", "ingest", "gone.bag", "--out", "ds.zarr"), "gone.bag")
    refused(ingest("one.bag", "good.bag", "two"), "one.bag, two", "Check the spelling")
    assert listing(here) == before


def storage(here: Path, kind: Kind) -> Path:
    path = bag(here, f"whole_{kind}", entries(8), kind)
    return path if kind == "ros1" else path / f"{path.name}.{kind}"


SUFFIX = {"ros1": "bag", "db3": "db3", "mcap": "mcap"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_empty_cut_or_garbage_is_named(here: Path, kind: Kind) -> None:
    whole = storage(here, kind).read_bytes()
    path = here / f"bad.{SUFFIX[kind]}"
    contents = {"empty": b"", "garbage": np.random.default_rng(0).bytes(4000), "text": b"hello\n"}
    contents |= {f"cut at {n}": whole[:n] for n in (1, 12, 100, len(whole) // 3, len(whole) // 2)}
    contents |= {f"cut {n} before the end": whole[:-n] for n in (5000, 300, 9, 1)}
    before = [*listing(here), path.name]
    for what, content in contents.items():
        path.write_bytes(content)
        refused(ingest(path.name), path.name)
        assert listing(here) == sorted(before), what


def test_a_cut_bag_ends_the_installed_command_with_two_lines(here: Path) -> None:
    Path("cut.bag").write_bytes(EXAMPLE.read_bytes()[:100_000])
    before = listing(here)
    said = refused(
        run_installed("act-data", "ingest", "cut.bag", "--out", "ds.zarr"),
        "cut.bag is damaged or was cut",
        "act-data recover",
    )
    assert len(said.splitlines()) == 2
    assert listing(here) == before


def test_a_bag_that_the_recorder_did_not_close_points_to_recovery(here: Path) -> None:
    data = bytearray(bag(here, "a", entries(5)).read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    data[at : at + 8] = bytes(8)
    Path("a.bag.active").write_bytes(data)
    Path("a.bag").unlink()
    refused(ingest("a.bag.active"), "a.bag.active has no index", "act-data recover")
    refused(ingest("."), "a.bag.active has no index")
    assert listing(here) == ["a.bag.active", "small.yaml"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_without_messages_lacks_every_topic(here: Path, kind: Kind) -> None:
    path = bag(here, "nothing", [], kind)
    before = listing(here)
    refused(ingest(path), "nothing", "lacks 3 of 3 required topics", "no topic at all")
    refused(ingest(path, robot="auto"), "nothing", "no robot preset fits", "--robot")
    assert listing(here) == before


def test_a_folder_without_recordings_says_what_it_holds(here: Path) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "holiday.jpg").write_bytes(b"\xff\xd8")
    (here / "void").mkdir()
    refused(ingest("photos"), "photos holds no recording", "holiday.jpg", ".bag, .db3 or .mcap")
    refused(ingest("void"), "void holds no recording; it holds nothing")
    refused(ingest("photos/holiday.jpg"), "photos/holiday.jpg is not a recording")


def test_a_bag_of_another_robot_is_told_what_it_has_and_the_nearest_names(here: Path) -> None:
    renamed = [("/arms" if e[0] == "/arm" else e[0], *e[1:]) for e in entries(3)]
    bag(here, "other", renamed)
    refused(
        ingest("other.bag"),
        "other: the recording lacks 1 of 3 required topics of robot 'small'",
        "arm: /arm, nearest: /arms",
        "It has: /arms (JointState), /cam/image_raw (Image), /lead (JointState)",
        "required: false",
    )
    refused(ingest("other.bag", robot="auto"), "lacks 8 of 8 required topics of robot 'aloha'")
    typed = [(e[0], JOINTS, e[2], joints(0)) if e[0] == "/cam/image_raw" else e for e in entries(3)]
    bag(here, "typed", typed)
    refused(
        ingest("typed.bag"), "typed", "/cam/image_raw is 'sensor_msgs/msg/JointState'", "'image'"
    )


def test_every_bad_recording_of_a_folder_is_named_before_any_is_written(here: Path) -> None:
    (here / "bags").mkdir()
    bag(here / "bags", "1", entries())
    (here / "bags" / "2.bag").write_bytes(EXAMPLE.read_bytes()[:5000])
    (here / "bags" / "3.bag").write_bytes(b"")
    before = listing(here)
    refused(
        ingest("bags"),
        "2 of 3 recordings cannot be ingested",
        "bags/2.bag is damaged",
        "bags/3.bag is empty",
        "Nothing was written",
    )
    assert listing(here) == before


# --- what is in the messages ---

BAD_MESSAGES = {
    "joint names": (of("/arm", name=["x", "y"]), ["/arm", "no joint 'a', 'b'", "lists 'x', 'y'"]),
    "joint dimension": (
        of("/arm", name=[], position=[1, 2, 3]),
        ["/arm", "3 values of position without names", "2 joints are wanted: a, b"],
    ),
    "ragged lengths": (of("/arm", position=[1.0]), ["/arm", "2 names, 1 of position"]),
    "ragged later": (of("/lead", 0.5, position=[1.0]), ["/lead", "2 names, 1 of position"]),
    "joint twice": (of("/arm", name=["a", "a"]), ["/arm", "listed twice: 'a'"]),
    "image step": (of("/cam/image_raw", step=5), ["/cam/image_raw", "step 5", "do not fit"]),
    "image data": (of("/cam/image_raw", data=b"abc"), ["3 bytes do not fit together"]),
    "image data later": (of("/cam/image_raw", 0.5, data=b"abc"), ["3 bytes do not fit together"]),
    "image of nothing": (of("/cam/image_raw", **picture(0, 0, 0)), ["height 0, width 0"]),
    "image encoding": (of("/cam/image_raw", encoding="rgb9"), ["'rgb9'", "rgb8, bgr8"]),
    "image size changes": (
        of("/cam/image_raw", 0.5, **picture(0, 8, 8)),
        ["'images/cam'", "(8, 8, 3)", "(16, 24, 3)"],
    ),
    "nothing but NaN": (
        of("/arm", position=[np.nan, 1]),
        ["no usable step", "arm: not_finite in 30"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("out", ["ds.zarr", "ds", "ds.hdf5"])
def test_messages_that_do_not_fit_are_named_with_their_recording(here: Path, out: str) -> None:
    for name, (change, says) in BAD_MESSAGES.items():
        path = bag(here, "message bag", changed(change))
        before = listing(here)
        refused(ingest(path.name, out=out), "message bag: ", *says)
        assert listing(here) == before, name
        path.unlink()


def test_damaged_pictures_are_named(here: Path) -> None:
    kind = "sensor_msgs/msg/CompressedImage"
    topic = "/cam/image_raw/compressed"
    jpeg = b"\xff\xd8\xff\xe0 no JPEG at all"
    for data, says in [
        (jpeg, "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF89a", "'47 49 46 38'"),
        (b"", ""),
    ]:
        damaged = [
            (topic, kind, e[2], {"header": e[2], "format": "jpeg", "data": data})
            if e[0] == "/cam/image_raw"
            else e
            for e in entries(5)
        ]
        path = bag(here, "pictures", damaged)
        refused(ingest("pictures.bag"), "pictures: ", topic, says)
        path.unlink()
    assert listing(here) == ["small.yaml"]


def test_streams_that_never_overlap_give_no_step_and_say_why(here: Path) -> None:
    def later(entry: Entry) -> Entry:
        t = entry[2] + 10 * S
        return (*entry[:2], t, {**entry[3], "header": t}) if entry[0] == "/arm" else entry

    bag(here, "apart", changed(later))
    bag(here, "one", entries(1))
    before = listing(here)
    refused(ingest("apart.bag"), "apart: no usable step", "Of ", "tolerance_ms")
    refused(ingest("one.bag"), "one: no usable step", "too short")
    assert listing(here) == before


def test_numbers_that_are_not_finite_are_masked_and_counted(here: Path) -> None:
    def broken(entry: Entry) -> Entry:
        hit = entry[0] == "/arm" and 1.3 * S < entry[2] < 1.5 * S
        return (*entry[:3], {**entry[3], "position": [np.inf, 1]}) if hit else entry

    bag(here, "nan", changed(broken))
    report = json.loads(done(run("act-data", "ingest", "nan.bag", "--out", "ds.zarr",
                                 "--robot", "small.yaml", "--json")))  # fmt: skip
    (episode,) = report["episodes"]
    reader = open_dataset(Path("ds.zarr"))
    arm = [c.name for c in reader.schema.columns].index("arm")
    wrong = np.flatnonzero(reader.read(SYNC_REASON, 0)[:, arm] == Reason.NOT_FINITE)
    assert (
        len(wrong)
        == episode["masked"]
        == episode["sync"]["streams"]["arm"]["invalid"]["not_finite"]
    )
    assert 5 <= len(wrong) <= 7
    assert episode["sync"]["valid"] == episode["sync"]["ticks"] - len(wrong)
    assert not np.isfinite(reader.read("qpos", 0)[wrong]).all(axis=1).any()
    record = json.loads(done(run("act-data", "stats", "ds.zarr", "--split", "all", "--json")))
    assert record["features"]["qpos"]["masked"] == len(wrong)
    assert np.isfinite(record["features"]["qpos"]["max"]).all()


# --- presets ---


def test_a_misspelt_preset_gets_the_nearest_one(here: Path) -> None:
    bag(here, "a", entries(3))
    refused(ingest("a.bag", robot="alhoa"), "'alhoa'", "Did you mean 'aloha'?", "cobot_magic")
    refused(ingest("a.bag", robot="smal.yaml"), "smal.yaml", "Give an existing YAML file")
    refused(run("act-data", "robots", "cobot"), "'cobot'", "cobot_magic")


def test_every_mistake_of_a_robot_file_gets_its_line(here: Path) -> None:
    bag(here, "a", entries(3))
    text = ROBOT.replace("fps: 30", "fps: fast").replace("topic: /arm", "topic: arm")
    text = text.replace("kind: image}", "kind: imgae}").replace("from: lead", "from: leader")
    robot_file(here, text, "wrong.yaml")
    refused(
        ingest("a.bag", robot="wrong.yaml"),
        "wrong.yaml has 4 problems",
        "wrong.yaml:2: fps is 'fast'",
        "wrong.yaml:4: streams.cam.kind is 'imgae'. Did you mean 'image'?",
        "wrong.yaml:5: streams.arm.topic is 'arm'",
        "wrong.yaml:10: array 'action' is made from the unknown stream 'leader'",
        "Did you mean 'lead'?",
        code=2,
    )
    robot_file(here, "name: [", "broken.yaml")
    refused(ingest("a.bag", robot="broken.yaml"), "broken.yaml:1", code=2)
    Path("binary.yaml").write_bytes(b"name: \xff\n")
    refused(ingest("a.bag", robot="binary.yaml"), "binary.yaml:1: not UTF-8", code=2)
    assert not Path("ds.zarr").exists()


# --- where to ---


def test_what_lies_at_the_out_path_is_never_touched(here: Path) -> None:
    bag(here, "a", entries(3))
    import zarr

    Path("file.zarr").write_text("notes")
    Path("file.hdf5").write_text("notes")
    for name in ("folder.zarr", "folder"):
        Path(name).mkdir()
        (Path(name) / "thesis.tex").write_text("")
    Path("folder.hdf5").mkdir()
    zarr.create_group("foreign.zarr")
    before = listing(here)
    for out, says in {
        "file.zarr": "is a file",
        "file.hdf5": "is not a sound HDF5 file",
        "folder.zarr": "is not an act-zarr dataset",
        "folder": "'thesis.tex', which is no episode",
        "folder.hdf5": "is a folder",
        "foreign.zarr": "of another program",
        "a.bag": "'a.bag' is a file",
    }.items():
        refused(ingest("a.bag", out=out), out, says)
    assert listing(here) == before
    assert Path("file.zarr").read_text() == Path("file.hdf5").read_text() == "notes"


@pytest.mark.parametrize("out", ["ds.zarr", "ds"])
def test_a_dataset_of_another_schema_says_what_differs(here: Path, out: str) -> None:
    bag(here, "a", entries(3))
    bag(here, "b", entries(5))
    done(ingest("a.bag", out=out))
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    ended = run("act-data", "ingest", "b.bag", "--out", out, "--robot", "small.yaml", "--fps", "15")
    refused(ended, "another schema: fps is 30.0, not 15.0", "into another path")
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before


def test_a_path_that_cannot_be_written_is_named(here: Path) -> None:
    bag(here, "a", entries(3))
    before = listing(here)
    for out in (
        "a.bag/ds.zarr",
        "a.bag/ds",
        "small.yaml/more/ds.hdf5",
        "/proc/ds.zarr",
        "/proc/ds",
    ):
        refused(ingest("a.bag", out=out), "cannot write", "check the permissions")
    refused(ingest("a.bag", out="x" * 300 + ".zarr"), "File name too long", "x" * 300)
    refused(ingest("a.bag", out="x" * 246 + ".zarr"), "File name too long")
    refused(ingest("a.bag", out="/"), "'/' is no name", code=2)
    refused(ingest("a.bag", out="ds.h5"), "'ds.h5' is no name", "NAME.hdf5", code=2)
    assert listing(here) == before
    done(ingest("a.bag", out="new/folders/ds.zarr"))


def test_one_hdf5_file_takes_one_recording(here: Path) -> None:
    bag(here, "a", entries(5))
    bag(here, "b", entries(6))
    before = listing(here)
    refused(ingest("a.bag", "b.bag", out="one.hdf5"), "one.hdf5", "2 recordings", code=2)
    gap = [e for e in entries(90) if not (e[0] == "/arm" and 2 * S < e[2] < 3 * S)]
    bag(here, "cut", gap)
    ended = run("act-data", "ingest", "cut.bag", "--out", "one.hdf5", "--robot", "small.yaml",
                "--gap", "cut")  # fmt: skip
    refused(ended, "one.hdf5", "exactly one episode", code=2)
    assert listing(here) == sorted([*before, "cut.bag"])
    done(ingest("a.bag", out="one.hdf5"))
    refused(ingest("b.bag", out="one.hdf5"), "exactly one episode", code=2)


@pytest.mark.parametrize("out", ["ds.zarr", "ds", "ds.hdf5"])
def test_a_full_disk_leaves_no_half_dataset_and_a_second_try_completes(
    here: Path, out: str
) -> None:
    bag(here, "large", entries(30, size=(64, 96)))
    before = listing(here)
    command = ["act-data", "ingest", "large.bag", "--out", out, "--robot", "small.yaml",
               "--codec", "raw"]  # fmt: skip
    ended = run_installed(*command, prefix="ulimit -f 200")  # type: ignore[arg-type]
    refused(ended, "cannot write", out, "Make room on the disk")
    assert listing(here) == before
    done(run(*command))
    assert open_dataset(Path(out)).verify() == []
    done(run("act-data", "verify", out))


def test_a_disk_that_fills_up_later_keeps_what_was_finished(here: Path) -> None:
    bag(here, "1", entries(10, size=(64, 96)))
    bag(here, "2", entries(40, size=(64, 96)))
    command = ["act-data", "ingest", "1.bag", "2.bag", "--out", "ds.zarr", "--robot", "small.yaml",
               "--codec", "raw"]  # fmt: skip
    ended = run_installed(*command, prefix="ulimit -f 400")  # type: ignore[arg-type]
    refused(ended, "cannot write", "1 finished episodes are kept")
    refused(run("act-data", "show", "ds.zarr"), "holds no version yet")
    out = done(run(*command))
    assert "1 new of 2 episodes" in out
    assert open_dataset(Path("ds.zarr")).verify() == []


def test_a_registry_that_cannot_be_written_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag(here, "a", entries(3))
    monkeypatch.setenv("ACT_REGISTRY", "/proc/registry.db")
    refused(run("act-data", "list"), "/proc/registry.db")
    monkeypatch.setenv("ACT_REGISTRY", str(here / "small.yaml"))
    refused(run("act-data", "list", "--json"), "small.yaml")


# --- names ---


def test_long_strange_and_undecodable_names_are_only_names(here: Path) -> None:
    path = bag(here, "good", entries(3))
    name = "béc 😀 [0] [red]x #1 %s"
    path.rename(f"{name}.bag")
    out = done(ingest(f"{name}.bag", out=f"{name}.zarr"))
    assert name in out
    assert json.loads(done(run("act-data", "show", f"{name}.zarr", "--json")))["episodes"]
    legacy = os.fsdecode(b"\xb0\xb2.bag")  # a name in GBK
    Path(f"{name}.bag").rename(legacy)
    assert r"\xb0\xb2" in done(ingest(legacy, out="legacy.zarr"))
    assert json.loads(done(run("act-data", "show", "legacy.zarr", "--json")))["steps"] == 2
    refused(ingest(legacy, out=os.fsdecode(b"\xb0.zarr")), "no UTF-8 path", code=2)
    ended = run("act-data", "ingest", legacy, "--out", "ds.zarr", "--task", os.fsdecode(b"\xb0"))
    refused(ended, "--task is '\\udcb0'", code=2)
    refused(run("act-data", "show", os.fsdecode(b"\xb0.zarr")), "'\\udcb0.zarr' is no name")
    refused(ingest("y" * 300 + ".bag"), "File name too long")
    for command in ("show", "verify", "stats", "rebuild"):
        refused(run("act-data", command, "y" * 300), "File name too long")
    assert not Path("ds.zarr").exists()


@pytest.mark.parametrize(
    "option",
    ["--fps=-1", "--fps=nan", "--fps=0", "--latency-ms=-1", "--max-gap-s=inf", "--max-gap-s=nan",
     "--action-shift=-1", "--quality=0", "--gap=keep", "--sync=best", "--clock=mine",
     "--codec=h264"],
)  # fmt: skip
def test_numbers_and_choices_out_of_range_are_usage_errors(here: Path, option: str) -> None:
    bag(here, "a", entries(3))
    before = listing(here)
    ended = run("act-data", "ingest", "a.bag", "--out", "ds.zarr", option)
    assert (ended.code, ended.out) == (2, "")
    assert option.split("=")[0] in ended.err
    assert listing(here) == before


# --- datasets ---


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two recordings, datasets of them, and a checkpoint trained on one."""
    folder = tmp_path_factory.mktemp("made")
    robot_file(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACT_REGISTRY", str(folder / "registry.db"))
        patch.chdir(folder)
        bag(folder, "a", entries(40))
        bag(folder, "b", entries(50, start_s=9, phase=1))
        done(ingest("a.bag", "b.bag"))
        done(run("act-data", "ingest", "a.bag", "--out", "slow.zarr", "--robot", "small.yaml",
                 "--fps", "15"))  # fmt: skip
        other = ROBOT.replace("[a, b]", "[b, a]", 1).replace("name: small", "name: other")
        robot_file(folder, other, "other.yaml")
        done(ingest("a.bag", out="other.zarr", robot="other.yaml"))
        done(train("ds.zarr", "run"))
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` to damage, with a registry of its own."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ACT_REGISTRY", str(folder / "registry.db"))
    done(run("act-data", "rebuild", "."))
    return folder


def train(dataset: str, out: str, *options: object) -> object:
    return run("act-model", "train", dataset, "--out", out, "--size", "tiny", "--steps", 2,
               "--chunk", 5, "--batch-size", 2, "--backbone-weights", "none", "--device", "cpu",
               "--workers", 0, *options)  # fmt: skip


def test_a_damaged_or_newer_root_is_told_apart(copy: Path) -> None:
    root = copy / "ds.zarr" / "zarr.json"
    good = root.read_bytes()
    newer = good.replace(b'"format_version": 1', b'"format_version": 2')
    assert newer != good
    for content, says in [
        (newer, "made by a newer version of this toolkit: format version 2"),
        (good[:100], "zarr.json' is damaged"),
        (b"", "zarr.json' is damaged"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "zarr.json' is damaged"),
        (good.replace(b'"name": "ds"', b'"name": "xx"'), "its digest does not fit"),
    ]:
        root.write_bytes(content)
        for command in (["show"], ["verify", "--json"], ["stats"]):
            refused(run("act-data", command[0], "ds.zarr", *command[1:]), says)
        refused(ingest("a.bag"), says)
        refused(train("ds.zarr", "other_run"), says)
        assert root.read_bytes() == content
    root.write_bytes(newer)
    refused(run_installed("act-data", "show", "ds.zarr"), "newer version", "Update the toolkit")
    root.unlink()
    refused(run("act-data", "show", "ds.zarr"), "zarr.json' is missing")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shards(dataset: Path) -> list[Path]:
    return sorted(p for p in (dataset / "data").rglob("*") if p.is_file() and "c" in p.parts)


def test_one_flipped_bit_is_found_named_and_refused(copy: Path) -> None:
    files = shards(copy / "ds.zarr")
    assert len(files) >= 14
    for path in files[:: len(files) // 4]:
        whole = path.read_bytes()
        flip(path)
        key = str(path.relative_to(copy / "ds.zarr"))
        ended = run("act-data", "verify", "ds.zarr")
        assert ended.code == 1
        assert key in ended.out
        assert "1 problems" in ended.err
        ended = run("act-data", "verify", "ds.zarr", "--json")
        assert ended.code == 1
        (problem,) = json.loads(ended.out)["problems"]
        assert key in problem["what"]
        assert problem["array"] in key
        assert problem["episode"]
        refused(train("ds.zarr", "run2"), "no longer matches its version 1", key, "act-data verify")
        refused(run("act-data", "stats", "ds.zarr"), "no longer matches its version 1", key)
        path.write_bytes(whole)
    flip(files[0])
    assert run_installed("act-data", "verify", "ds.zarr").code == 1
    refused(run_installed("act-model", "train", "ds.zarr", "--out", "run2"), "no longer matches")
    assert not (copy / "run2").exists()
    assert not list(copy.glob("*.stats.json"))


def test_a_deleted_file_and_a_foreign_one_are_found(copy: Path) -> None:
    path = shards(copy / "ds.zarr")[0]
    path.unlink()
    ended = run("act-data", "verify", "ds.zarr")
    assert ended.code == 1
    assert str(path.relative_to(copy / "ds.zarr")) in ended.out


def test_unknown_names_get_the_nearest_ones(copy: Path) -> None:
    for tool, command in [("act-data", "show"), ("act-data", "verify"), ("act-data", "stats"),
                          ("act-model", "train")]:  # fmt: skip
        refused(run(tool, command, "slwo"), "no dataset is called 'slwo'", "Did you mean slow?")
    refused(run("act-data", "show", "ds@7"), "dataset 'ds' has no version 7", "It has 1.")
    refused(run("act-data", "show", "ds@x"), "dataset 'ds' has no tag 'x'")
    refused(run("act-data", "show", "gone.zarr"), "gone.zarr does not exist", "act-data list")
    for tool, command in [("act-data", "show"), ("act-model", "train")]:
        refused(run(tool, command, "a.bag"), "'a.bag' is a recording", "act-data ingest a.bag")
    refused(run("act-data", "rebuild", "gone"), "gone does not exist")


# --- training ---


def test_what_the_network_cannot_be_made_of_is_refused_before_a_run_exists(copy: Path) -> None:
    arrays = "qpos, images/cam, action"
    for options, says in [
        (["--camera", "front"], ["no cameras front: it has cam"]),
        (["--depth", "cam"], ["no depth cam: it has none"]),
        (["--camera", "cam", "--camera", "cam"], ["'cam'", "twice"]),
        (["--state", "qposs"], ["no array 'qposs'", arrays]),
        (["--state", "images/cam"], ["'images/cam'", "(16, 24, 3)", "qpos, action"]),
        (["--state", "timestamp"], ["'timestamp'", "vectors of the robot"]),
        (["--action", "sync_skew"], ["'sync_skew'", "qpos, action"]),
        (["--image-size", "big"], ["'big' is not HEIGHTxWIDTH", "240x320"]),
        (["--image-size", "0x0"], ["0x0", "16 to 4096"]),
        (["--image-size", "99999x99999"], ["'99999x99999'"]),
        (["--image-size", "²x3"], ["'²x3'"]),
        (["--device", "cuda:99"], ["no device 'cuda:99'", "cpu"]),
        (["--device", "gpu"], ["no device 'gpu'"]),
    ]:
        refused(train("ds.zarr", "new", *options), *says, code=2)
        assert not (copy / "new").exists(), options
    refused(train("ds.zarr", "new", "--backbone-weights", "gone.safetensors"), "gone.safetensors")
    refused(train("ds.zarr", "new", "--backbone-weights", "a.bag"), "a.bag", "safetensors")
    for option in ("--lr=inf", "--lr=nan", "--lr=0", "--kl-weight=nan", "--kl-weight=inf",
                   "--chunk=0", "--steps=-1", "--batch-size=0", "--loss=l3", "--size=huge",
                   ):  # fmt: skip
        ended = train("ds.zarr", "new", option)
        assert (ended.code, ended.out) == (2, "")
    assert not (copy / "new").exists()


def test_a_run_folder_is_never_overwritten_and_only_a_run_is_resumed(copy: Path) -> None:
    before = {p: p.read_bytes() for p in (copy / "run").rglob("*") if p.is_file()}
    refused(train("ds.zarr", "run"), "run is not empty", "Resume that run, or name a new folder")
    refused(train("ds.zarr", "run", "--resume", "--chunk", 7), "chunk_size was 5, is 7")
    refused(train("slow.zarr", "run", "--resume"), "run/last was started otherwise")
    assert {p: p.read_bytes() for p in (copy / "run").rglob("*") if p.is_file()} == before
    refused(train("ds.zarr", "new", "--resume"), "new holds no run to resume")
    assert not (copy / "new").exists()
    refused(train("ds.zarr", "a.bag/new"), "a.bag/new cannot be the folder of a run", code=2)
    refused(train("ds.zarr", "ds.zarr"), "ds.zarr is not empty")


def test_a_finished_run_goes_on_with_more_steps(copy: Path) -> None:
    report = json.loads(done(train("ds.zarr", "run", "--resume", "--steps", 3, "--json")))
    assert report["steps"] == 3


def test_a_chunk_longer_than_every_episode_is_refused(copy: Path) -> None:
    refused(train("ds.zarr", "long", "--chunk", 200), "chunk of 200", "has 39 steps", code=2)
    assert not (copy / "long").exists()


# --- deployment ---


def deploy(*arguments: object) -> object:
    return run("act-model", "deploy", *arguments, "--device", "cpu")


def test_without_a_checkpoint_the_way_to_one_is_named(here: Path) -> None:
    refused(run_installed("act-model", "deploy"), "no checkpoint is registered", "act-model train")
    refused(deploy("gone"), "gone is no checkpoint")
    refused(deploy("."), ". is no checkpoint", "training run")


def test_a_damaged_checkpoint_is_named_file_by_file(copy: Path) -> None:
    best = copy / "run" / "best"
    files = sorted(best.iterdir())
    assert len(files) == 5
    for path in files:
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], b"", None):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            refused(deploy("run"), path.name)
        path.write_bytes(whole)
    config = best / "config.json"
    config.write_bytes(config.read_bytes().replace(b'"format_version": 1', b'"format_version": 9'))
    refused(deploy("run"), "config.json has format version 9, this version reads up to 1", "Update")


def test_a_robot_that_does_not_fit_is_shown_beside_the_policy(copy: Path) -> None:
    said = refused(deploy("run", "--source", "slow.zarr#0"), "rate [Hz]", "30.0", "15.0", code=2)
    assert "policy (small)" in said
    assert "robot (small)" in said
    refused(deploy("run", "--source", "other.zarr"), "state qpos order", "2: arm/a, arm/b",
            "2: arm/b, arm/a", "robot (other)", code=2)  # fmt: skip
    refused(deploy("run", "--source", "a.bag", "--robot", "other.yaml"), "2: arm/b, arm/a", code=2)
    refused(
        deploy("run", "--source", EXAMPLE, "--robot", "cobot_magic"),
        "does not fit the policy in 3 points", "14: puppet_left/joint0", "images/cam", code=2,
    )  # fmt: skip
    refused(deploy("run", "--source", EXAMPLE, "--robot", "small.yaml"), "lacks 3 of 3", "/odom")


def test_a_source_that_is_not_there_is_named(copy: Path) -> None:
    refused(deploy("run", "--source", "ds.zarr#2"), "no episode 2", "It has 0 to 1.")
    refused(deploy("run", "--source", "ds.zarr#-1"), "'-1' is no episode number", code=2)
    refused(deploy("run", "--source", "ds#x"), "'x' is no episode number", code=2)
    refused(deploy("run", "--source", "gone.bag"), "no such file or folder: gone.bag")
    refused(deploy("run", "--source", "gone"), "no dataset is called 'gone'")
    refused(deploy("run", "--source", "small.yaml"), "small.yaml is not a recording")
    refused(deploy("run", "--source", "a.bag"), "no robot preset 'small'", "path of a YAML file")
    refused(deploy("run", "--robot", "aloha"), "'aloha' says how topics are read", code=2)
    refused(deploy("run", "--execute", "99"), "execute is 99, a chunk has 5", code=2)
    refused(deploy("run", "--log", "a.bag/log"), "a.bag/log: cannot write the action log")
    ended = deploy("run", "--max-ticks", "0")
    assert (ended.code, ended.out) == (2, "")


def test_what_would_move_a_robot_in_a_wrong_way_is_refused_before_it_does(copy: Path) -> None:
    refused(deploy("run", "--mode", "live"), "a recording cannot be moved", "--sink", code=2)
    motor = deploy("run", "--mode", "sim", "--sink", "motor:left")
    refused(motor, "there is no sink 'motor'", "null", code=2)
    refused(deploy("run", "--record", "r.zarr"), "moves nothing that could be recorded", code=2)
    refused(deploy("run", "--chunks", "prefix"), "was not trained to continue", "align", code=2)
    refused(deploy("run", "--urdf", "gone.urdf"), "no file 'gone.urdf'")
    Path("r.urdf").write_text("<!DOCTYPE r [<!ENTITY a 'b'>]><robot/>")
    refused(deploy("run", "--urdf", "r.urdf"), "declares a document type", code=2)
    assert not Path("r.zarr").exists()


def test_the_plan_is_told_and_a_live_rollout_is_commanded_logged_and_recorded(copy: Path) -> None:
    live = ("run", "--mode", "live", "--sink", "jsonl:sent", "--armed", "--record", "r.zarr")
    plan = json.loads(done(deploy(*live, "--explain", "--json")))
    assert (plan["moves"], plan["watchdog"], plan["process"]) == (True, True, True)
    assert all(element["low"] < element["high"] for element in plan["elements"])
    assert "as fast as its demonstrations" in plan["limits_from"]
    assert not Path("sent").exists()
    said = json.loads(done(deploy(*live, "--log", "log", "--json")))["rollout"]
    told = [json.loads(line)["do"] for line in Path("sent").read_text().splitlines()]
    assert told.count("send") == said["commands"] > 10
    assert told[-1] == "stop"
    assert len(Path("log").read_text().splitlines()) == said["ticks"]
    shown = done(run("act-data", "show", "r.zarr"))
    assert said["recorded"][0] in shown
    assert "commander" in shown


def test_a_robots_own_limits_narrow_those_of_its_data(copy: Path) -> None:
    limits = "{a: {high: 0.01, velocity: 0.5}}"
    arm = f"{{topic: /arm, kind: joint_state, from: lead, limits: {limits}}}"
    robot_file(Path(), f"{ROBOT}commands:\n  arm: {arm}\n", "limited.yaml")
    bag_of = ("run", "--source", "a.bag", "--explain", "--json", "--robot")
    plans = [json.loads(done(deploy(*bag_of, name))) for name in ("small.yaml", "limited.yaml")]
    (before, other), (after, same) = (plan["elements"] for plan in plans)
    assert before["high"] > 0.01
    assert after["high"] == pytest.approx(0.01)
    assert after["velocity"] == min(before["velocity"], 0.5)
    assert (after["low"], same) == (before["low"], other)
    ours = ", and 1 of 2 joints of robot limited.yaml"
    assert plans[1]["limits_from"].endswith(ours)
    sink = ("--mode", "live", "--sink", "mcap:sent.mcap#limited.yaml")
    plan = json.loads(done(deploy("run", *sink, "--explain", "--json")))
    assert plan["limits_from"].endswith(ours)
    refused(
        deploy("run", "--mode", "live", "--sink", "ros1#gone.yaml", "--explain"),
        "no robot file 'gone.yaml'",
    )


TWO_JOINTS = """<robot name="r"><link name="base"/><link name="upper"/><link name="tip"/>
<joint name="a" type="continuous"><parent link="base"/><child link="upper"/></joint>
<joint name="b" type="prismatic"><parent link="upper"/><child link="tip"/>
<limit lower="-2" upper="2" velocity="9" effort="1"/></joint></robot>"""


def test_a_tip_that_may_be_nowhere_near_is_never_sent_there(copy: Path) -> None:
    Path("r.urdf").write_text(TWO_JOINTS)
    Path("box.yaml").write_text("boxes: [{frame: tip, min: [5, 5, 5], max: [6, 6, 6]}]")
    boxed = ("run", "--workspace", "box.yaml")
    refused(deploy(*boxed), "a workspace needs to know", "--urdf", code=2)
    refused(deploy("run", "--workspace", "gone", "--urdf", "r.urdf"), "no workspace file 'gone'")
    assert "workspace       tip in x 5 to 6, y 5 to 6, z 5 to 6 m" in done(
        deploy(*boxed, "--urdf", "r.urdf", "--explain")
    )
    ran = json.loads(done(deploy(*boxed, "--urdf", "r.urdf", "--log", "log", "--json")))["rollout"]
    lines = [json.loads(line) for line in Path("log").read_text().splitlines()]
    wanted = [line for line in lines if line["raw"] is not None]
    assert ran["safety"]["workspace"] == len(wanted) > 10
    assert {str(line["filtered"]) for line in lines} == {"None"}
    assert all("workspace" in line["interventions"] for line in wanted)
    Path("box.yaml").write_text("boxes: [{frame: tap, min: [1, 5, 5], max: [0, 6, 6]}]")
    refused(deploy(*boxed, "--urdf", "r.urdf"), "box.yaml:1: boxes.0", "x is from 1 to 0", code=2)
    Path("box.yaml").write_text("boxes: [{frame: tap, min: [0, 0, 0], max: [1, 1, 1]}]")
    refused(deploy(*boxed, "--urdf", "r.urdf"), "no link 'tap'", "Did you mean 'tip'?", code=2)


def test_a_checkpoint_finds_its_dataset_from_any_folder(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done(train("ds.zarr", "again"))
    monkeypatch.chdir(copy / "again" / "best")
    assert json.loads(done(deploy(".", "--json")))["held_out"] is True
    monkeypatch.chdir(tmp_path)
    assert json.loads(done(deploy("--json")))["rollout"]["compared_ticks"] > 0


def test_a_dataset_that_was_moved_is_found_and_one_that_is_gone_is_named(copy: Path) -> None:
    done(train("ds.zarr", "again"))
    Path("ds.zarr").rename("moved.zarr")
    refused(deploy("again"), "is no longer at", "ds.zarr", "--source")
    done(run("act-data", "rebuild", "moved.zarr"))
    assert "moved.zarr#" in done(deploy("again"))
    shutil.rmtree("moved.zarr")
    refused(deploy("again"), "is no longer at", "--source")
    done(deploy("again", "--source", "a.bag", "--robot", "small.yaml"))
