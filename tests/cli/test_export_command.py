"""act-model export, bench and --runtime onnx as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from act_data.store import open_dataset
from tests.cli.commands import done, refused, run
from tests.model.small_policy import save_checkpoint
from tests.small_robot import bag, entries, robot_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint `best` beside the dataset that it was trained on."""
    there = tmp_path_factory.mktemp("there")
    robot = robot_file(there)
    done(run("act-data", "ingest", bag(there, "a", entries(40)), "--out", there / "ds.zarr",
             "--robot", robot))  # fmt: skip
    return save_checkpoint(there / "best", open_dataset(there / "ds.zarr"))


def test_an_export_runs_in_deploy_and_moves_the_actions_by_nothing(
    folder: Path, tmp_path: Path
) -> None:
    refused(
        run("act-model", "deploy", folder, "--runtime", "onnx"), "best.onnx", "act-model export"
    )
    said = json.loads(done(run("act-model", "export", folder, "--to", "onnx", "--check", "--json")))
    assert said["file"] == str(folder.parent / "best.onnx")
    assert said["parity"] <= 1e-5
    assert said["checked"] == 4
    logs = {}
    for name in ("torch", "onnx"):
        logs[name] = tmp_path / f"{name}.jsonl"
        done(run("act-model", "deploy", folder, "--runtime", name, "--device", "cpu", "--json",
                 "--log", logs[name], "--max-ticks", 5))  # fmt: skip
    ticks = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs.values()]
    assert len(ticks[0]) == len(ticks[1]) == 5
    for one, other in zip(*ticks, strict=True):
        assert one["raw"] == pytest.approx(other["raw"], abs=1e-5)

    timed = json.loads(done(run("act-model", "bench", folder, "--runtime", "onnx", "--json",
                                "--predictions", 3)))  # fmt: skip
    assert timed["runtime"] == "onnx"
    assert timed["predictions"] == 3
    assert "observation to actions" in done(run("act-model", "bench", folder, "--predictions", 3))


def test_an_export_that_cannot_be_written_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(run("act-model", "export", folder, "--out", tmp_path / "file" / "x.onnx"), "x.onnx")
    refused(run("act-model", "export", tmp_path / "gone"), "gone")
    assert [p.name for p in tmp_path.iterdir() if p.name != "registry.db"] == ["file"]
