"""A configuration file: what it sets, what wins over it, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from act_data.errors import InputError, NotFoundError
from act_model import recipe
from act_model.config import AugmentConfig, ModelConfig, TrainConfig
from act_model.config_file import ConfigFile, read_config
from act_model.recipe import TrainRequest
from tests.cli.commands import refused, run
from tests.model.memory_dataset import dataset_of, schema_of

TEXT = """\
model:
  backbone: resnet34   # deeper
  latent: none
  image_size: [48, 64]
  is_pad_head: true
train:
  lr: 1e-3
  loss: {kind: l2, is_pad_weight: 0.5}
  augment: {crop: 0.8}
"""
NO_FILE = ConfigFile({}, {})


def written(tmp_path: Path, text: str, name: str = "act.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def request(**fields: object) -> TrainRequest:
    return TrainRequest.model_validate({"dataset": "ds", **fields})


def run_config(file: ConfigFile, **flags: object) -> TrainConfig:
    reader, asked = dataset_of(5, schema=schema_of(cameras={})), request(**flags)
    return recipe._train_config(asked, file, reader, *recipe._family(asked, file))


def network(file: ConfigFile, **flags: object) -> ModelConfig:
    asked = request(**flags)
    fields = recipe._model_fields(asked, file, *recipe._family(asked, file))
    return ModelConfig.model_validate({"state_dim": 1, "action_dim": 1, **fields})


def test_a_file_sets_fields_as_typed_values_and_only_those(tmp_path: Path) -> None:
    file = read_config(written(tmp_path, TEXT))
    assert file.model == {
        "backbone": "resnet34", "latent": "none", "image_size": (48, 64), "is_pad_head": True
    }  # fmt: skip
    assert file.train == {
        "lr": 1e-3, "loss": {"kind": "l2", "is_pad_weight": 0.5}, "augment": {"crop": 0.8}
    }  # fmt: skip


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    data = {"model": {"latent": "vq", "cameras": ["a", "b"]}, "train": {"augment": None}}
    for indent in (None, "\t"):
        path = written(tmp_path, json.dumps(data, indent=indent), "act.json")
        assert read_config(path) == ConfigFile(
            {"latent": "vq", "cameras": ("a", "b")}, {"augment": None}
        )


def test_flags_win_over_the_file_the_file_over_the_size_and_the_size_over_the_defaults(
    tmp_path: Path,
) -> None:
    text = TEXT.replace("latent: none", "heads: 2") + "  workers: 0\n  state: [qpos, qvel]\n"
    file = read_config(written(tmp_path, text))
    flags = {"size": "tiny", "lr": 0.25, "kl_weight": 3, "image_size": (32, 32), "workers": 2}
    config, model = run_config(file, **flags), network(file, **flags)
    assert (config.lr, config.loss.kl_weight, config.workers) == (0.25, 3, 2)  # flags
    assert model.image_size == (32, 32)
    assert (config.loss.kind, config.loss.is_pad_weight) == ("l2", 0.5)  # file
    assert (model.heads, model.backbone, config.state) == (2, "resnet34", ("qpos", "qvel"))
    assert (model.hidden_dim, config.lr_backbone) == (128, 5e-5)  # size
    assert (config.steps, config.batch_size, model.chunk_size) == (100_000, 8, 100)  # defaults


def test_augment_is_switched_by_the_flag_and_shaped_by_the_file(tmp_path: Path) -> None:
    file = read_config(written(tmp_path, TEXT))
    shaped = AugmentConfig(crop=0.8)
    assert run_config(file).augment == run_config(file, augment=True).augment == shaped
    assert run_config(file, augment=False).augment is None
    assert run_config(NO_FILE).augment is None
    assert run_config(NO_FILE, augment=True).augment == AugmentConfig()


def test_imagenet_weights_are_looked_for_of_the_backbone_that_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "imagenet_at_hand", lambda name: name == "resnet34")
    file = read_config(written(tmp_path, TEXT))
    assert network(file).backbone_weights == "imagenet"
    assert network(NO_FILE).backbone_weights == "none"  # resnet18 is not there
    assert network(file, backbone_weights="none").backbone_weights == "none"


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        (
            "modle: {}\n",
            ":1: unknown key 'modle'",
            "Did you mean 'model'? Use one of: model, train",
        ),
        ("model:\n  latnet: vq\n", ":2: unknown key 'model.latnet'", "'latent'? Use one of:"),
        ("train:\n  loss:\n    knd: l1\n", ":3: unknown key 'train.loss.knd'", "kl_weight"),
        ("model: {latent: gauss}\n", ":1: model.latent is 'gauss'", "Correct"),
        ("model: {state_dim: 14}\n", "model.state_dim comes from the dataset", "Leave it out"),
        ("train: {lr: -1}\n", "train.lr is '-1'", "Correct"),
        ("train: {lr: .inf}\n", "train.lr is '.inf'", "Correct"),
        ("train: {grad_clip: inf}\n", "train.grad_clip is 'inf'", "Correct"),
        ("train: {augment: true}\n", "train.augment is 'true'", "Its fields are: crop"),
        ("train: 7\n", "train is '7', not a mapping", "Correct"),
        ("- 1\n", "not a mapping", "Write `model:` and `train:`"),
        ("model: [\n", "not YAML", "Correct"),
        ("model: !!python/name:os.system\n", "tag", "Correct"),
        ("", "empty", "Correct"),
    ],
)
def test_a_mistake_is_answered_with_file_line_value_and_choices(
    tmp_path: Path, text: str, says: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_config(written(tmp_path, text))
    assert "act.yaml:" in str(caught.value)
    assert says in str(caught.value)
    assert hint in caught.value.hint


def test_the_command_tells_a_mistake_before_it_looks_at_the_dataset(tmp_path: Path) -> None:
    path = written(tmp_path, "model: {latnet: vq}\n")
    said = refused(run("act-model", "train", "ds", "--config", path), code=2)
    assert "act.yaml:1: unknown key 'model.latnet'" in said
    assert "Did you mean 'latent'?" in said


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = "train:\n  lr: fast\n  stpes: 3\nmodel:\n  heads: 0\n"
    with pytest.raises(InputError, match="has 3 problems") as caught:
        read_config(written(tmp_path, text))
    told = str(caught.value)
    assert (
        told.index(":2: train.lr") < told.index(":3: unknown key") < told.index(":5: model.heads")
    )


@pytest.mark.parametrize(
    "text", ["model: {image_size: [8, 640]}", "model: {image_size: [48, 9999]}"]
)
def test_an_image_size_has_the_limits_of_the_flag(tmp_path: Path, text: str) -> None:
    file = read_config(written(tmp_path, text))
    with pytest.raises(InputError, match="has a side out of 16 to 4096"):
        network(file)
    assert network(file, image_size=(48, 64)).image_size == (48, 64)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no configuration file"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"model:\n  latent: \xe9\n")
    with pytest.raises(InputError, match=r"latin\.yaml:2: not UTF-8"):
        read_config(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match="larger than"):
        read_config(written(tmp_path, "# " + "x" * 70_000))
