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
from benchmarks.peers.act_layout import Published
from tests.cli.commands import done, refused, run
from tests.small_robot import bag, entries, robot_file

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
STATE = {"mean": torch.tensor([0.3, -0.2]), "std": torch.tensor([0.7, 0.001])}
ACTION = {"mean": torch.tensor([-0.1, 0.4]), "std": torch.tensor([0.05, 2.0])}
# Faults of the files; the others are policies that ours cannot be.
NOT_WHOLE = ("config.json", "no JSON", "n_heads", "no safetensors", "no std of 'action'", "nan")
NORMALISER = "policy_preprocessor_step_3_normalizer_processor.safetensors"


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    there = tmp_path_factory.mktemp("robot")
    done(run("act-data", "ingest", bag(there, "a", entries(40)), "--out", there / "ds.zarr",
             "--robot", robot_file(there)))  # fmt: skip
    return open_dataset(there / "ds.zarr")


def published(**other: Any) -> Published:
    sizes = {"cameras": 1, "backbones": 1, "joints": 2, "actions": 2, "chunk": 7}
    return Published(**(sizes | other))


def lerobot_folder(folder: Path, net: Published, **config: object) -> Path:
    """What LeRobot's `save_pretrained` leaves, of a policy with one camera 32x48."""
    folder.mkdir()
    save_file(
        {name: t.contiguous() for name, t in net.lerobot().items()}, folder / "model.safetensors"
    )
    features = {"observation.state": (2,), "observation.images.cam": (3, 32, 48)}
    told = {
        "type": "act", "n_heads": 8, "dropout": 0.1, "n_obs_steps": 1, "pre_norm": False,
        "input_features": {n: {"type": "X", "shape": s} for n, s in features.items()},
        "normalization_mapping": dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD"),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(told | config))
    step = {"registry_name": "normalizer_processor", "state_file": NORMALISER}
    (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": [{}, step]}))
    numbers = {
        "observation.state": STATE,
        "action": ACTION,
        "observation.images.cam": {"mean": MEAN.view(3, 1, 1), "std": STD.view(3, 1, 1)},
    }
    flat = {f"{name}.{q}": tensor for name, both in numbers.items() for q, tensor in both.items()}
    save_file(flat, folder / NORMALISER)
    return folder


def difference(policy: Policy, net: Published) -> float:
    """Largest difference of the two over a few observations, in normalised units."""
    rng, largest = np.random.default_rng(0), 0.0
    for _ in range(3):
        picture = rng.integers(0, 256, (16, 24, 3), np.uint8)
        qpos = rng.normal(0, 1, 2).astype(np.float32)
        ours = policy.predict({"qpos": qpos, "images/cam": picture})
        seen = policy.transform.images([torch.from_numpy(picture)[None]])
        state = (torch.from_numpy(qpos) - STATE["mean"]) / STATE["std"]
        theirs = net(seen, state[None])[0]
        assert theirs.std() > 0.02
        ours_KA = (torch.from_numpy(ours) - ACTION["mean"]) / ACTION["std"]
        largest = max(largest, float((ours_KA - theirs).abs().max()))
    return largest


@pytest.mark.parametrize(
    "other",
    [{}, {"decoder": (3, 3)}, {"resnet": "resnet34"}, {"style_layers": 0}],
    ids=["default", "three decoder layers", "resnet34", "trained without the encoder"],
)
def test_a_policy_of_lerobot_predicts_as_before(
    robot: DatasetReader, tmp_path: Path, other: dict[str, Any]
) -> None:
    net = published(**other)
    folder = lerobot_folder(tmp_path / "theirs", net)
    if not net.style.layers:  # LeRobot leaves that half out altogether
        weights = {n: t for n, t in load_file(folder / "model.safetensors").items()
                   if "vae_encoder" not in n}  # fmt: skip
        save_file(weights, folder / "model.safetensors")
    said = json.loads(done(run("act-model", "import", folder, "--out", tmp_path / "ours", "--like",
                               robot.path, "--json")))  # fmt: skip
    assert said["dialect"] == "lerobot"
    assert bool(said["fresh"]) == (not net.style.layers)
    assert difference(Policy.load(tmp_path / "ours", "cpu"), net) < 1e-5


def test_statistics_inside_the_weights_are_read_as_well(
    robot: DatasetReader, tmp_path: Path
) -> None:
    """As LeRobot wrote them until 2025."""
    net = published()
    folder = lerobot_folder(tmp_path / "theirs", net)
    for name in ("policy_preprocessor.json", NORMALISER):
        (folder / name).unlink()
    weights = load_file(folder / "model.safetensors")
    for begin, feature, numbers in (
        ("normalize_inputs", "observation_state", STATE),
        ("normalize_inputs", "observation_images_cam", {"mean": MEAN, "std": STD}),
        ("unnormalize_outputs", "action", ACTION),
    ):
        weights |= {f"{begin}.buffer_{feature}.{q}": t.clone() for q, t in numbers.items()}
    save_file(weights, folder / "model.safetensors")
    done(run("act-model", "import", folder, "--out", tmp_path / "ours", "--like", robot.path))
    assert difference(Policy.load(tmp_path / "ours", "cpu"), net) < 1e-5


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
    folder = lerobot_folder(tmp_path / "theirs", published())
    damage(folder)
    ended = run("act-model", "import", folder, "--out", tmp_path / "ours", "--like", robot.path)
    refused(ended, says, code=1 if says in NOT_WHOLE else 2)
    assert not (tmp_path / "ours").exists()


def test_cameras_of_other_names_are_told_and_an_import_replaces_nothing(
    robot: DatasetReader, tmp_path: Path
) -> None:
    features = {
        "observation.state": {"shape": [2]},
        "observation.images.top": {"shape": [3, 32, 48]},
    }
    net = published()
    folder = lerobot_folder(tmp_path / "theirs", net, input_features=features)
    _tensor(NORMALISER, "observation.images.top.mean", MEAN)(folder)
    _tensor(NORMALISER, "observation.images.top.std", STD)(folder)
    words = ("act-model", "import", folder, "--out", tmp_path / "ours", "--like", robot.path)
    refused(run(*words), "top", "--camera", code=2)
    assert "cameras cam" in done(run(*words, "--camera", "cam"))
    assert difference(Policy.load(tmp_path / "ours", "cpu"), net) < 1e-5
    refused(run(*words, "--camera", "cam"), "exists")
