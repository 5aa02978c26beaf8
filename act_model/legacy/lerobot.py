"""ACT policies of LeRobot: safetensors, config.json, and the statistics of their normaliser.

Since 0.4 (2025) the statistics lie beside the weights, in the state of a processor step; before,
they were buffers of the policy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from act_data.errors import InputError, NotFoundError, StoreError
from act_model.legacy.foreign import Foreign, renamed, sizes
from act_model.transforms import IMAGENET_MEAN, IMAGENET_STD

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_PREPROCESSOR = "policy_preprocessor.json"
_STATE, _ACTION, _PICTURES = "observation.state", "action", "observation.image"
_EPSILON = 1e-8  # added to what they divide by
_MAX_JSON = 1 << 20

_NAMES: Mapping[str, str | None] = {
    "backbone.": "backbone.nets.0.",
    "encoder.": "encoder.",
    "decoder.": "decoder.",
    "vae_encoder.": "style.encoder.",
    "vae_encoder_cls_embed.weight": "style.cls_D",
    "vae_encoder_robot_state_input_proj.": "style.state.",
    "vae_encoder_action_input_proj.": "style.action.",
    "vae_encoder_latent_output_proj.": "latent.parameters_of.",
    "vae_encoder_pos_enc": None,
    "encoder_robot_state_input_proj.": "state_token.",
    "encoder_latent_input_proj.": "z_token.",
    "encoder_img_feat_input_proj.": "image_token.",
    "encoder_1d_feature_pos_embed.weight": "positions",
    "decoder_pos_embed.weight": "queries_KD",
    "action_head.": "action_head.",
}
# What their configuration may say besides sizes, and the one value that ours computes.
_FIXED = {
    "pre_norm": False,
    "feedforward_activation": "relu",
    "replace_final_stride_with_dilation": False,
    "n_obs_steps": 1,
}


class _Feature(BaseModel):
    shape: tuple[PositiveInt, ...]


class _Config(BaseModel):
    """What of config.json decides what the network computes; `input_shapes` is of 2024."""

    type: str = "act"
    input_features: dict[str, _Feature] = {}
    input_shapes: dict[str, tuple[PositiveInt, ...]] = {}
    normalization_mapping: dict[str, str] = {}
    n_heads: PositiveInt = 8
    dropout: float = Field(0.1, ge=0, lt=1)
    pre_norm: bool = False
    feedforward_activation: str = "relu"
    replace_final_stride_with_dilation: bool = False
    n_obs_steps: int = 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every input."""
        return {name: f.shape for name, f in self.input_features.items()} or self.input_shapes


class _Step(BaseModel):
    registry_name: str = ""
    state_file: str | None = None


class _Processor(BaseModel):
    steps: list[_Step]


def read(folder: Path) -> Foreign:
    """The policy in `folder`, the `pretrained_model` of a training run.

    Raises:
        NotFoundError: A file is missing.
        StoreError: A file is damaged.
        InputError: The policy is no ACT, or one that ours cannot be.
    """
    try:
        config = _Config.model_validate(_json(folder / CONFIG))
    except ValidationError as e:
        first = e.errors()[0]
        raise StoreError(
            f"{folder / CONFIG}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint="Get the checkpoint again.",
        ) from e
    _check(folder / CONFIG, config)
    tensors = _tensors(folder / WEIGHTS)
    statistics = _statistics(folder, tensors)
    network = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("model.")
    }
    weights, left_out = renamed(network, _NAMES, str(folder / WEIGHTS))
    cameras, size = _cameras(folder / CONFIG, config)
    _check_colours(folder, statistics, cameras)
    model = sizes(weights, str(folder / WEIGHTS)) | {
        "heads": config.n_heads,
        "dropout": config.dropout,
    }
    if size is not None:
        model["image_size"] = size
    return Foreign(
        dialect="lerobot",
        source=str(folder / WEIGHTS),
        model=model,
        weights=weights,
        left_out=left_out,
        cameras=tuple(name.rpartition(".")[2] for name in cameras),
        camera_count=len(cameras),
        has_depth=False,
        state_mean_S=_numbers(folder, statistics, _STATE, "mean"),
        state_std_S=_numbers(folder, statistics, _STATE, "std") + _EPSILON,
        action_mean_A=_numbers(folder, statistics, _ACTION, "mean"),
        action_std_A=_numbers(folder, statistics, _ACTION, "std"),
    )


def _check(path: Path, config: _Config) -> None:
    if config.type != "act":
        raise InputError(
            f"{path} is of a policy {config.type!r}", hint="Only ACT policies can be imported."
        )
    other = [
        f"{name} {getattr(config, name)!r} instead of {value!r}"
        for name, value in _FIXED.items()
        if getattr(config, name) != value
    ]
    other += [
        f"normalisation {mode!r} of {kind} instead of 'MEAN_STD'"
        for kind, mode in config.normalization_mapping.items()
        if kind in ("STATE", "ACTION", "VISUAL") and mode.upper() != "MEAN_STD"
    ]
    if _STATE not in config.shapes():
        other.append(f"no {_STATE!r} among the inputs")
    if other:
        raise InputError(
            f"{path}: our network cannot be this one: {'; '.join(other)}",
            hint="Policies with LeRobot's default choices of these can be imported.",
        )


def _cameras(path: Path, config: _Config) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The names of the pictures in order, and the size that all of them have."""
    shapes = {name: shape for name, shape in config.shapes().items() if name.startswith(_PICTURES)}
    found = {shape[1:] for shape in shapes.values()}
    if len(found) > 1 or any(len(shape) != 3 or shape[0] != 3 for shape in shapes.values()):
        raise InputError(
            f"{path}: the pictures are {shapes}, not (3, H, W) of one size",
            hint="Our network sees all cameras in one size.",
        )
    return tuple(shapes), found.pop() if found else None


def _statistics(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By "<feature>.<quantity>", e.g. "observation.state.mean"."""
    file = folder / _PREPROCESSOR
    if file.is_file():
        try:
            steps = _Processor.model_validate(_json(file)).steps
        except ValidationError as e:
            raise StoreError(f"{file} lists no steps", hint="Get the checkpoint again.") from e
        files = [s.state_file for s in steps if s.state_file and "normalizer" in s.registry_name]
        if files:
            return _tensors(folder / Path(files[0]).name)
    found = {}
    for begin in ("normalize_inputs.buffer_", "normalize_targets.buffer_",
                  "unnormalize_outputs.buffer_"):  # fmt: skip
        for name, tensor in tensors.items():
            if name.startswith(begin):
                feature, _, quantity = name.removeprefix(begin).rpartition(".")
                found[f"{feature.replace('_', '.')}.{quantity}"] = tensor
    return found


def _check_colours(
    folder: Path, statistics: Mapping[str, Tensor], cameras: tuple[str, ...]
) -> None:
    for camera in cameras:
        for quantity, wanted in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            # The old buffers have "_" for ".", which a camera's own name may have, too.
            names = (f"{camera}.{quantity}", f"{camera.replace('_', '.')}.{quantity}")
            found = next((statistics[name] for name in names if name in statistics), None)
            if found is None or not torch.allclose(found.flatten().float(), torch.tensor(wanted)):
                told = "nothing" if found is None else found.flatten().tolist()
                raise InputError(
                    f"{folder}: the pictures of {camera!r} were normalised with {quantity} {told}, "
                    f"ours are with ImageNet's {list(wanted)}",
                    hint="LeRobot trains with these unless use_imagenet_stats is off.",
                )


def _numbers(
    folder: Path, statistics: Mapping[str, Tensor], feature: str, quantity: str
) -> NDArray[np.float64]:
    try:
        numbers: NDArray[np.float64] = statistics[f"{feature}.{quantity}"].double().numpy()
    except KeyError:
        raise NotFoundError(
            f"{folder} has no {quantity} of {feature!r}",
            hint=f"It stands in the *normalizer*.safetensors that {_PREPROCESSOR} names.",
        ) from None
    if not np.isfinite(numbers).all():
        raise StoreError(
            f"{folder}: {quantity} of {feature!r} is {numbers.tolist()}",
            hint="Compute the statistics of its dataset, and save the policy again.",
        )
    return numbers


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise StoreError(
                f"{path} has {path.stat().st_size} bytes", hint="Such a file has a few thousand."
            )
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(
            f"{path} does not exist", hint="Name the `pretrained_model` folder of a LeRobot policy."
        ) from None
    except (ValueError, RecursionError) as e:
        raise StoreError(f"{path} is no JSON: {e}", hint="Get the checkpoint again.") from e
    if not isinstance(data, dict):
        raise StoreError(f"{path} holds no object", hint="Get the checkpoint again.")
    return data


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist", hint="Get the whole checkpoint.") from None
    except SafetensorError as e:
        raise StoreError(
            f"{path} is no safetensors file: {e}", hint="Get the checkpoint again."
        ) from e
