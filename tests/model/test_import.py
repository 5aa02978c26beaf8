"""Checkpoints of other programs become ours, and predict what they predicted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from act_data.interfaces import DatasetReader
from act_data.store import open_dataset
from act_model.policy import Policy
from benchmarks.peers.act_layout import (
    NORMALISER,
    SIZE,
    Published,
    save_as_lerobot,
)
from tests.cli.commands import done, refused, run
from tests.small_robot import bag, entries, robot_file

# Faults of the files; the others are policies that ours cannot be.
NOT_WHOLE = ("config.json", "no JSON", "n_heads", "no safetensors", "no std of 'action'", "nan")


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    there = tmp_path_factory.mktemp("robot")
    recording = bag(there, "a", entries(40, size=SIZE))
    done(run("act-data", "ingest", recording, "--out", there / "ds.zarr",
             "--robot", robot_file(there)))  # fmt: skip
    return open_dataset(there / "ds.zarr")


def saved(folder: Path, camera: str = "cam", **fields: Any) -> Published:
    """A policy for the robot, saved into `folder`."""
    net = Published(**({"cameras": 1, "joints": 2, "chunk": 7} | fields))
    save_as_lerobot(folder, net, [camera])
    return net


def difference(ours: Path, theirs: Path) -> float:
    """Largest difference of the two over a few observations, in normalised units."""
    policy, seen = Policy.load(ours, "cpu"), np.load(theirs / "seen.npz")
    assert np.abs(np.diff(seen["actions"], axis=0)).max() > 0.01  # it tells observations apart
    ours_NKA = np.stack(
        [
            policy.predict({"qpos": state, "images/cam": pictures[0]})
            for pictures, state in zip(seen["pictures"], seen["joints"], strict=True)
        ]
    )
    return float(np.abs((ours_NKA - seen["actions"]) / seen["std"]).max())


@pytest.mark.parametrize(
    "fields",
    [{}, {"decoder_layers": 3}, {"resnet": "resnet34"}, {"style_layers": 0}],
    ids=["default", "three decoder layers", "resnet34", "trained without the encoder"],
)
def test_a_policy_of_lerobot_predicts_as_before(
    robot: DatasetReader, tmp_path: Path, fields: dict[str, Any]
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    net = saved(theirs, **fields)
    if not net.style.layers:  # LeRobot leaves that half out altogether
        weights = load_file(theirs / "model.safetensors")
        kept = {name: t for name, t in weights.items() if "vae_encoder" not in name}
        save_file(kept, theirs / "model.safetensors")
    said = json.loads(
        done(run("act-model", "import", theirs, "--out", ours, "--like", robot.path, "--json"))
    )
    assert said["dialect"] == "lerobot"
    assert bool(said["fresh"]) == (not net.style.layers)
    assert difference(ours, theirs) < 1e-5


def test_statistics_inside_the_weights_are_read_as_well(
    robot: DatasetReader, tmp_path: Path
) -> None:
    """As LeRobot wrote them until 2025."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    saved(theirs)
    numbers = load_file(theirs / NORMALISER)
    for name in ("policy_preprocessor.json", NORMALISER):
        (theirs / name).unlink()
    weights = load_file(theirs / "model.safetensors")
    for name, tensor in numbers.items():
        feature, _, quantity = name.rpartition(".")
        begin = "unnormalize_outputs" if feature == "action" else "normalize_inputs"
        weights[f"{begin}.buffer_{feature.replace('.', '_')}.{quantity}"] = tensor
    save_file(weights, theirs / "model.safetensors")
    done(run("act-model", "import", theirs, "--out", ours, "--like", robot.path))
    assert difference(ours, theirs) < 1e-5


def _config(**fields: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        told = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(told | fields))

    return change


def _tensor(file: str, name: str, tensor: torch.Tensor | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / file)
        tensors.pop(name, None)
        save_file(tensors | ({} if tensor is None else {name: tensor}), folder / file)

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json"),
        (lambda f: (f / "config.json").write_text("{"), "no JSON"),
        (_config(type="diffusion"), "diffusion"),
        (_config(pre_norm=True), "pre_norm"),
        (_config(n_heads="many"), "n_heads"),
        (_config(n_heads=7), "not a multiple of heads 7"),
        (_config(normalization_mapping={"STATE": "MIN_MAX"}), "MIN_MAX"),
        (_config(input_features={"observation.state": {"shape": [3]}}), "do not fit"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "no safetensors"),
        (_tensor("model.safetensors", "model.action_head.weight", None), "action_head.weight"),
        (_tensor("model.safetensors", "model.more.weight", torch.ones(2)), "more.weight"),
        (_tensor("model.safetensors", "model.action_head.bias", torch.ones(3)), "(3,)"),
        (_tensor("model.safetensors", "model.action_head.weight", torch.ones(3)), "no ACT network"),
        (_tensor(NORMALISER, "action.std", None), "no std of 'action'"),
        (_tensor(NORMALISER, "action.std", torch.tensor([1.0, float("nan")])), "nan"),
        (_tensor(NORMALISER, "observation.images.cam.mean", torch.ones(3)), "ImageNet"),
        (_tensor(NORMALISER, "observation.state.mean", torch.ones(3)), "statistics 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_refused_and_leaves_nothing(
    robot: DatasetReader, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "theirs"
    saved(folder)
    damage(folder)
    ended = run("act-model", "import", folder, "--out", tmp_path / "ours", "--like", robot.path)
    refused(ended, says, code=1 if says in NOT_WHOLE else 2)
    assert not (tmp_path / "ours").exists()


def test_cameras_of_other_names_are_told_and_an_import_replaces_nothing(
    robot: DatasetReader, tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    saved(theirs, camera="top")
    words = ("act-model", "import", theirs, "--out", ours, "--like", robot.path)
    refused(run(*words), "top", "--camera", code=2)
    assert "cameras cam" in done(run(*words, "--camera", "cam"))
    assert difference(ours, theirs) < 1e-5
    refused(run(*words, "--camera", "cam"), "exists")
