"""act-data convert as a user types it: reports, exit codes, and training on what came in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from act_data.convert import ConvertReport
from act_data.store import open_dataset
from tests.cli.commands import BIN, done, refused, run
from tests.data.convert.originals import aloha_folder, lerobot_v21, replay_buffer, robomimic_file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def convert(*words: object) -> Any:
    return run("act-data", "convert", *words)


def test_the_report_says_what_became_of_every_array(here: Path) -> None:
    aloha_folder(here / "eps", "mobile")
    text = done(convert("eps", "ds.zarr", "--fps", 50, "--map", "effort="))
    lines = text.splitlines()
    assert lines[0] == "eps: aloha_hdf5, compressed + base_action"
    assert any(
        line.split()[:5] == ["images/cam_high"] * 2 + ["jpeg", "->", "jpeg"] for line in lines
    )
    assert "  left out: effort, asked for" in lines
    assert any("the original programs train on action[t-1]" in line for line in lines)
    assert lines[-1].startswith("2 new of 2 episodes, 8 steps at 50 Hz -> ds.zarr (ds@1, ")
    again = done(convert("eps", "ds.zarr", "--fps", 50, "--map", "effort="))
    assert "0 new of 2 episodes, 8 steps" in again


def test_the_report_is_a_record(here: Path) -> None:
    aloha_folder(here / "eps")
    for words in (("ds.zarr",), ("lr", "--to", "lerobot"), ("out",)):
        document = json.loads(done(convert("eps", *words, "--fps", 50, "--json")))
        report = ConvertReport.model_validate(document)
        assert report.model_dump(mode="json") == document
        assert (report.source_format, report.added) == ("aloha_hdf5", 2)
        assert bool(report.content_hash) is ("lr" not in words)
    listed = json.loads(done(run("act-data", "list", "--json")))
    assert sorted(row["name"] for row in listed) == ["ds", "out"]


def test_skipped_episodes_end_with_three(here: Path) -> None:
    aloha_folder(here / "eps", lengths=(3, 3))
    with h5py.File(here / "eps" / "episode_0.hdf5", "r+") as root:
        root["action"][1, 0] = np.nan
    refused(convert("eps", "ds.zarr", "--fps", 50), "step 1: array 'action'", "--damaged skip")
    ended = convert("eps", "ds.zarr", "--fps", 50, "--damaged", "skip")
    assert ended.code == 3
    assert "skipped episode_0.hdf5: episode_0.hdf5, step 1" in ended.err
    assert "1 new of 1 episodes" in ended.out


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        pytest.param(("gone", "ds.zarr"), ("'gone'",), 1, id="nothing-there"),
        pytest.param(("eps", "ds.zarr"), ("--fps",), 2, id="no-rate"),
        pytest.param(("eps", "ds.zarr", "--map", "x"), ("SOURCE=TARGET",), 2, id="map-of-nothing"),
        pytest.param(
            ("eps", "ds.zarr", "--map", "=x"), ("SOURCE=TARGET",), 2, id="map-from-nothing"
        ),
        pytest.param(
            ("eps", "d.zarr", "--map", "a=b", "--map", "a=c"), ("'a' twice",), 2, id="map-twice"
        ),
        pytest.param(
            ("eps", "d.zarr", "--fps", 9, "--map", "nope=x"), ("'nope'", "qpos"), 2, id="unknown"
        ),
        pytest.param(("eps", "ds.h5"), ("no name for a dataset",), 2, id="h5"),
        pytest.param(("eps", "ds.zarr", "--to", "lerobot"), ("cannot be of",), 2, id="suffix"),
        pytest.param(("eps", "ds", "--to", "act_zarr"), ("cannot be of",), 2, id="no-suffix"),
        pytest.param(("eps", "one.hdf5", "--fps", 9), ("exactly one episode",), 2, id="one-file"),
        pytest.param(("eps", "eps", "--fps", 9), ("the source itself",), 1, id="onto-itself"),
        pytest.param(("text", "ds.zarr"), ("not a sound HDF5 file",), 1, id="a-text-file"),
        pytest.param(("empty", "ds.zarr"), ("no dataset that is known",), 2, id="empty-folder"),
        pytest.param(
            ("eps", "ds.zarr", "--from", "lerobot", "--fps", 9), ("info.json",), 1, id="wrong-from"
        ),
        pytest.param(
            ("eps", "ds.zarr", "--from", "replay_buffer"), ("episode_ends",), 1, id="wrong-from-2"
        ),
    ],
)
def test_what_cannot_be_is_told_in_two_lines_and_leaves_nothing(
    here: Path, words: tuple[object, ...], says: tuple[str, ...], code: int
) -> None:
    aloha_folder(here / "eps")
    (here / "text").write_text("hello")
    (here / "empty").mkdir()
    before = sorted(str(p) for p in here.rglob("*"))
    refused(convert(*words), *says, code=code)
    assert sorted(str(p) for p in here.rglob("*")) == before


def test_a_killed_export_leaves_nothing_that_looks_whole(here: Path) -> None:
    aloha_folder(here / "eps", lengths=(3000,))
    words = ["convert", "eps", "lr", "--to", "lerobot", "--fps", "50"]
    child = subprocess.Popen([str(BIN / "act-data"), *words], cwd=here, env=dict(os.environ))
    deadline = time.monotonic() + 60
    while not list(here.glob(".lr.partial/data/*/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (here / "lr").exists()
    aloha_folder(here / "few")
    done(convert("few", "lr", "--to", "lerobot", "--fps", 50))
    assert sorted(p.name for p in here.iterdir()) == ["eps", "few", "lr"]


@pytest.mark.parametrize("kind", ["aloha", "lerobot", "replay_buffer", "robomimic"])
def test_a_policy_trains_on_what_was_imported(here: Path, kind: str) -> None:
    train: list[object] = []
    if kind == "aloha":
        aloha_folder(here / "src", "mobile", lengths=(6, 5))
    elif kind == "lerobot":
        lerobot_v21(here / "src", (6, 5))
    elif kind == "replay_buffer":
        replay_buffer(here / "src", (6, 5))
        train = ["--map", "state=qpos"]
    else:
        robomimic_file(here / "src", (6, 5))
        train = ["--map", "robot0_eef_pos=qpos"]
    rate = [] if kind in ("lerobot", "robomimic") else ["--fps", 10]
    done(convert("src", "ds.zarr", *rate, *train))
    assert run("act-data", "verify", "ds.zarr").code == 0
    assert json.loads(done(run("act-data", "show", "ds.zarr", "--json")))["steps"] == 11
    done(run("act-data", "stats", "ds.zarr"))
    done(
        run(
            "act-model", "train", "ds.zarr", "--out", "run", "--size", "tiny", "--steps", 2,
            "--batch-size", 2, "--chunk", 4, "--backbone-weights", "none", "--device", "cpu",
        )
    )  # fmt: skip
    assert (here / "run" / "best" / "model.safetensors").is_file()
    done(run("act-model", "deploy", "run/best", "--source", "ds.zarr#0", "--mode", "replay"))
    assert open_dataset(here / "ds.zarr").schema.columns == ()
