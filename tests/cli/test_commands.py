"""Every command as it is meant to be used: data on stdout, words on stderr, JSON on request."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from act_data.robot import load_robot, preset_names
from tests.cli.commands import BIN, Ended, done, refused, run, run_installed
from tests.small_robot import bag, entries, robot_file

ESCAPE = "\x1b"


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def document(ended: Ended) -> Any:
    """The one JSON document on stdout; NaN and Infinity are none."""
    return json.loads(done(ended), parse_constant=refuse)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, not yet a dataset."""
    folder = tmp_path_factory.mktemp("commands")
    robot_file(folder)
    bag(folder, "a", entries(40))
    bag(folder, "b", entries(50, start_s=9, phase=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACT_REGISTRY", str(folder / "registry.db"))
        done(run("act-data", "ingest", "a.bag", "b.bag", "--out", "ds.zarr", *ROBOT))
        done(run("act-data", "stats", "ds.zarr"))
        done(train("run"))
    return folder


@pytest.fixture
def there(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in `made`, with its registry."""
    monkeypatch.chdir(made)
    monkeypatch.setenv("ACT_REGISTRY", str(made / "registry.db"))
    return made


ROBOT = ("--robot", "small.yaml")


def train(out: str, *options: object) -> Ended:
    return run("act-model", "train", "ds.zarr", "--out", out, "--size", "tiny", "--steps", 2,
               "--chunk", 5, "--batch-size", 2, "--backbone-weights", "none", "--device", "cpu",
               "--workers", 0, *options)  # fmt: skip


# --- act-data ---


def test_ingest_says_what_became_of_every_recording(there: Path, tmp_path: Path) -> None:
    bags = ["a.bag", "b.bag"]
    one = run("act-data", "ingest", "a.bag", "--out", tmp_path / "one.zarr", *ROBOT)
    out = done(one)
    for word in ("a: 40 ticks at 30 Hz, 100.0 % valid", "cam", "arm", "lead", "skew p50", "new",
                 "1 new of 1 episodes, 39 steps", "one.zarr", "one@1"):  # fmt: skip
        assert word in out
    assert one.err == ""
    out = done(run("act-data", "ingest", *bags, "--out", tmp_path / "one.zarr", *ROBOT))
    assert "already there" in out
    assert "1 new of 2 episodes" in out
    report = document(run("act-data", "ingest", *bags, "--out", tmp_path / "ds", *ROBOT, "--json"))
    assert [e["recording"] for e in report["episodes"]] == ["a", "b"]
    assert report["episodes"][0]["sync"]["streams"]["cam"]["received"] == 40
    assert (report["version"], report["added"], report["robot"]) == (1, 2, "small")


def test_stats_are_a_table_and_a_file_and_stay_with_the_version(there: Path) -> None:
    ended = run("act-data", "stats", "ds.zarr")
    out = done(ended)
    for word in ("qpos [rad]", "arm/a", "lead/b", "images/cam", "train split", "q99"):
        assert word in out
    assert ended.err == "saved to ds.stats.json\n"
    record = document(run("act-data", "stats", "ds", "--json"))
    assert json.loads(Path("ds.stats.json").read_text()) == record
    assert document(run("act-data", "stats", "ds", "--split", "all", "--json"))["episodes"] == 2
    assert document(run("act-data", "show", "ds", "--json"))["has_stats"] is True
    done(run("act-data", "stats", "ds"))


def test_list_is_empty_at_first_and_says_how_to_change_that() -> None:
    ended = run("act-data", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "act-data ingest" in ended.err
    assert document(run("act-data", "list", "--json")) == []


def test_list_and_show_give_a_datasets_passport(there: Path) -> None:
    out = done(run("act-data", "list"))
    assert re.search(r"ds +small +\S+ds\.zarr +30 +1 +2 +88", out)
    row = next(r for r in document(run("act-data", "list", "--json")) if r["name"] == "ds")
    assert (row["name"], row["robot"], row["path"]) == ("ds", "small", str(there / "ds.zarr"))
    for ref in ("ds", "ds@1", "ds@latest", "ds.zarr", there / "ds.zarr"):
        out = done(run("act-data", "show", ref))
        for word in (
            "robot small, 30 Hz",
            "2 episodes, 88 steps",
            "images/cam",
            "16x24x3",
            "jpeg q95",
        ):
            assert word in out
    card = document(run("act-data", "show", "ds", "--json"))
    assert [e["steps"] for e in card["episodes"]] == [39, 49]
    assert card["content_hash"] == row["versions"][0]["content_hash"]


def test_verify_proves_a_dataset(there: Path) -> None:
    ended = run("act-data", "verify", "ds")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.endswith("ds.zarr version 1: sound\n")
    result = document(run("act-data", "verify", "ds", "--json"))
    assert (result["episodes"], result["problems"]) == (2, [])


def test_rebuild_finds_the_datasets_again(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "new.db"))
    ended = run("act-data", "rebuild", there)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "1 datasets: ds\n"
    assert document(run("act-data", "rebuild", "--json")) == ["ds"]


def test_robots_are_listed_and_a_preset_is_the_start_of_an_own_one(tmp_path: Path) -> None:
    out = done(run("act-data", "robots"))
    presets = document(run("act-data", "robots", "--json"))
    assert [p["name"] for p in presets] == list(preset_names())
    for name in preset_names():
        assert name in out
        copy = tmp_path / f"{name}.yaml"
        copy.write_text(done(run("act-data", "robots", name)))
        assert load_robot(copy) == load_robot(name)
        assert document(run("act-data", "robots", name, "--json"))["yaml"] == copy.read_text()


# --- act-model ---


def test_train_writes_the_numbers_of_the_run_as_event_files_too(there: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done(train("events", "--tensorboard", "--val-every", 1))
    done(train("events", "--tensorboard", "--val-every", 1, "--steps", 3, "--resume"))
    read = EventAccumulator(str(there / "events" / "tensorboard"))
    read.Reload()
    text = (there / "events" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    train_lines = [line for line in lines if line["kind"] == "train"]
    for name in ("loss", "lr", "s/backward", "samples_per_s"):
        events = read.Scalars(f"train/{name}")
        assert [event.step for event in events] == [1, 2, 3]
        assert [event.value for event in events] == pytest.approx([e[name] for e in train_lines])
    validated = [line["l1"] for line in lines if line["kind"] == "val"]
    assert [event.value for event in read.Scalars("val/l1")] == pytest.approx(validated)


def test_train_says_how_it_went_and_where_the_checkpoint_is(there: Path, tmp_path: Path) -> None:
    ended = train(str(tmp_path / "one"))
    out = done(ended)
    for word in ("held-out episodes", "l1/lead/a", "2 steps over", "best at 2", "one/best"):
        assert word in out
    assert "step 2: loss" in ended.err
    assert "random weights" in ended.err
    assert "act-model deploy" in ended.err
    report = document(train(str(tmp_path / "two"), "--json"))
    assert (report["steps"], report["best_step"], report["version"]) == (2, 2, 1)
    assert Path(report["checkpoint"]).is_dir()
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line, parse_constant=refuse)["kind"] for line in lines} == {"train", "val"}


@pytest.mark.parametrize("options", [(), ("--chunks", "ensemble"), ("--mode", "shadow")])
def test_deploy_compares_with_the_demonstrator(there: Path, options: tuple[str, ...]) -> None:
    command = ["act-model", "deploy", "run", "--device", "cpu", *options]
    out = done(run(*command))
    for word in ("held out of training", "ticks at 30 Hz", "inference p50", "lead/a", "% of range"):
        assert word in out
    result = document(run(*command, "--json"))
    rollout = result["rollout"]
    assert (result["step"], result["held_out"]) == (2, True)
    assert rollout["compared_ticks"] > 0
    assert [j["name"] for j in rollout["joints"]] == ["lead/a", "lead/b"]


def test_deploy_called_bare_takes_the_newest_checkpoint(there: Path, tmp_path: Path) -> None:
    done(train(str(tmp_path / "newer")))
    assert document(run("act-model", "deploy", "--json"))["checkpoint"].endswith("newer/best")


def test_deploy_on_a_bag_logs_every_action(there: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    result = document(run("act-model", "deploy", "run", "--source", "a.bag", *ROBOT, "--device",
                          "cpu", "--log", log, "--max-ticks", 20, "--json"))  # fmt: skip
    assert result["rollout"]["ticks"] == 20
    lines = [json.loads(line, parse_constant=refuse) for line in log.read_text().splitlines()]
    assert len(lines) >= 20


def test_deploy_reads_what_is_left_of_a_cut_bag_when_told_so(there: Path, tmp_path: Path) -> None:
    bag, cut = Path("a.bag"), tmp_path / "cut.bag"
    data = bag.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 4])
    command = ["act-model", "deploy", "run", "--device", "cpu", "--source", cut, *ROBOT]
    refused(run(*command), "cut.bag", "act-data recover")
    rollout = document(run(*command, "--recover", "--json"))["rollout"]
    assert (rollout["stop"], rollout["ticks"] > 0) == ("end", True)
    refused(run("act-model", "deploy", "run", "--recover"), "how a bag is read", code=2)


def test_a_recording_of_the_training_set_is_known_in_another_dataset(there: Path) -> None:
    done(run("act-data", "ingest", "a.bag", "b.bag", "--out", "raw.zarr", *ROBOT, "--codec", "raw"))
    episodes = document(run("act-data", "show", "ds", "--json"))["episodes"]
    command = ["act-model", "deploy", "run", "--device", "cpu", "--json", "--max-ticks", 2]
    for n, episode in enumerate(episodes):
        held_out = episode["split"] == "val"
        for dataset in ("ds", "raw"):
            result = document(run(*command, "--source", f"{dataset}#{n}"))
            assert result["held_out"] is held_out, (dataset, n)
    report = document(run("act-model", "evaluate", "run", "--dataset", "raw", "--device", "cpu",
                          "--json"))  # fmt: skip
    assert report["held_out"] is all(episodes[n]["split"] == "val" for n in report["episodes"])


def test_evaluate_measures_the_held_out_episodes(there: Path) -> None:
    out = done(run("act-model", "evaluate", "run", "--device", "cpu"))
    for word in ("held out of training", "step 1", "step 5", "lead/a", "mean error"):
        assert word in out
    report = document(run("act-model", "evaluate", "run", "--device", "cpu", "--json"))
    assert report["held_out"] is True
    assert [h["step"] for h in report["horizons"]] == [1, 5]


# --- the terminal ---


def on_terminal(*command: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout through a pipe, and stderr as a terminal gets it."""
    terminal, inside = os.openpty()
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=inside,
        env={**plain, "TERM": "xterm-256color", **environment},
    )
    os.close(inside)
    seen = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not data:
            break
        seen += data
    os.close(terminal)
    assert process.stdout is not None
    with process.stdout as stdout:
        out = stdout.read().decode()
    return process.wait(60), out, seen.decode()


def test_off_a_terminal_there_is_neither_a_bar_nor_a_colour(there: Path, tmp_path: Path) -> None:
    for ended in (
        run_installed("act-data", "ingest", "a.bag", "--out", tmp_path / "x.zarr", *ROBOT),
        run_installed("act-data", "stats", "ds"),
        run_installed("act-data", "show", "gone"),
    ):
        assert ESCAPE not in ended.out + ended.err
        assert "%" not in ended.err
        assert "\r" not in ended.err


def test_on_a_terminal_there_is_a_bar_and_stdout_stays_data(there: Path, tmp_path: Path) -> None:
    code, out, seen = on_terminal(
        "act-data", "ingest", "a.bag", "--out", str(tmp_path / "x.zarr"), *ROBOT, "--json"
    )
    assert code == 0
    assert json.loads(out)["added"] == 1
    assert "ingest" in seen
    size = (there / "a.bag").stat().st_size / 1000
    assert f"{size:.1f}/{size:.1f} kB" in seen


def test_colours_are_for_terminals_that_want_them(there: Path) -> None:
    code, out, seen = on_terminal("act-data", "show", "gone")
    assert (code, out) == (1, "")
    assert f"{ESCAPE}[31merror" in seen
    code, _, seen = on_terminal("act-data", "show", "gone", NO_COLOR="1")
    assert code == 1
    assert "error: no dataset is called 'gone'" in seen
    assert f"{ESCAPE}[3" not in seen


def test_long_lines_and_brackets_come_out_as_they_are(there: Path, tmp_path: Path) -> None:
    name = "[bold]" + "x" * 150 + "[0]"
    ended = run_installed("act-data", "show", f"{tmp_path}/{name}.zarr")
    assert f"error: {tmp_path}/{name}.zarr does not exist\n" in ended.err


@pytest.mark.parametrize("command", ["robots", "robots aloha", "list", "show ds", "list --json"])
def test_a_reader_that_goes_away_is_no_error(there: Path, command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [str(BIN / "act-data"), *command.split()], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert done.stderr == b""
    assert done.returncode in (0, 1, -signal.SIGPIPE)


def test_ctrl_c_keeps_what_was_finished_and_says_so(there: Path, tmp_path: Path) -> None:
    out = tmp_path / "ds.zarr"
    for n in range(8):
        bag(tmp_path, f"{n}", entries(60, phase=n))
    bags = sorted(map(str, tmp_path.glob("*.bag")))
    command = [str(BIN / "act-data"), "ingest", *bags, "--out", str(out), *ROBOT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # A second record says that the first episode is finished, and not still being so.
    while process.poll() is None and len(list(out.glob("episodes/*/zarr.json"))) < 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    text, said = process.communicate(timeout=60)
    assert (process.returncode, text) == (130, ""), "it was done before it could be stopped"
    assert said == "stopped by the keyboard; what was finished is kept\n"
    assert not list(tmp_path.glob(".ds.zarr*"))
    again = run("act-data", "ingest", *bags, "--out", out, *ROBOT)
    assert "already there" in done(again)


def test_the_commands_are_those_of_the_package() -> None:
    for tool in ("data", "model"):
        code = f"from act_cli.{tool} import main; import sys; sys.argv = ['x', '--help']; main()"
        text = subprocess.check_output([sys.executable, "-c", code], text=True)
        assert "Commands" in text
    assert run_installed("act-data").code == 2
    ended = run_installed("act-data", "ingest")
    assert (ended.code, ended.out) == (2, "")
    assert "Usage" in ended.err
