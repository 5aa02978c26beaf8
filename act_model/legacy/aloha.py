"""ACT policies of ALOHA's programs: tonyzhaozh/act, act-plus-plus, and AgileX's aloha-devel.

A pickled state dict and dataset_stats.pkl; the settings that made the network are in neither. Their
decoder hands on what its first layer says, so the other layers are left out, unless somebody mended
that and trained them.

Shape suffixes: C channels, D hidden dim.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from act_data.errors import InputError, NotFoundError, StoreError
from act_model.legacy.confined import read_weights
from act_model.legacy.foreign import Foreign, renamed, sizes
from act_model.legacy.pickled import read_arrays
from act_model.legacy.records import Dialect

WEIGHTS = ("policy_best.ckpt", "policy_last.ckpt")
STATISTICS = "dataset_stats.pkl"
HEADS = 8  # what all three train with unless told otherwise
_AGILEX_CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")  # fixed in its programs
_EPSILON = 1e-5  # of a batch norm

_NAMES: Mapping[str, str | None] = {
    "model.transformer.encoder.": "encoder.",
    "model.transformer.decoder.": "decoder.",
    "model.encoder.": "style.encoder.",
    # act-plus-plus builds a whole transformer there (2024-01), which cannot be trained.
    "model.encoder.encoder.": None,
    "model.encoder.decoder.": None,
    "model.cls_embed.weight": "style.cls_D",
    "model.encoder_joint_proj.": "style.state.",
    "model.encoder_action_proj.": "style.action.",
    "model.latent_proj.": "latent.parameters_of.",
    "model.latent_out_proj.": "z_token.",
    "model.pos_table": None,
    "model.input_proj_robot_state.": "state_token.",
    "model.input_proj.": "image_token.",
    "model.query_embed.weight": "queries_KD",
    "model.additional_pos_embed.weight": "positions",
    "model.latent_pos.weight": "z_position_D",
    "model.robot_state_pos.weight": "state_position_D",
    "model.action_head.": "action_head.",
    "model.is_pad_head.": None,
    "model.input_proj_next_action.": None,
}
# Of a depth network: theirs -> ours. A batch norm follows each but the first.
_DEPTH_CONVS = {"conv1": ("conv", None)} | {
    f"layer{2 + n // 2}.{n % 2}.{conv}": (
        f"blocks.{n}.{ours}",
        f"layer{2 + n // 2}.{n % 2}.{norm}",
    )
    for n in range(4)
    for conv, norm, ours in (
        ("conv1", "bn1", "conv1"),
        ("conv2", "bn2", "conv2"),
        ("extra.0", "extra.1", "short"),
    )
    if n % 2 == 0 or ours != "short"
}


def read(path: Path, *, allow_pickle: bool, heads: int | None, vq_classes: int | None) -> Foreign:
    """The policy in the folder `path`, or in the file with its statistics beside it.

    Raises:
        NotFoundError: A file is missing.
        StoreError: A file is damaged, or holds anything but tensors.
        InputError: `allow_pickle` is not set; the policy is no ACT, or one that ours cannot be; or
            a setting that the files do not tell was not given.
    """
    file = weights_file(path)
    if file is None:
        raise NotFoundError(
            f"{path} has neither {' nor '.join(WEIGHTS)}",
            hint="Name the file with the weights; dataset_stats.pkl belongs beside it.",
        )
    tensors = read_weights(file, allow_pickle=allow_pickle)
    statistics = _Statistics(file.with_name(STATISTICS))
    cameras = _numbered(tensors, r"model\.backbones\.(\d+)\.")
    stems = _numbered(tensors, r"model\.depth_backbones\.(\d+)\.")
    used = _used_layers(tensors)
    latent = _latent(tensors, str(file), vq_classes)
    table = dict(_NAMES)
    table |= {f"model.backbones.{n}.0.body.": f"backbone.nets.{n}." for n in range(cameras)}
    layers = _numbered(tensors, r"model\.transformer\.decoder\.layers\.(\d+)\.")
    table |= {f"model.transformer.decoder.layers.{n}.": None for n in range(used, layers)}
    if latent.get("latent") == "vq":
        table["model.latent_proj."] = "latent.logits."
    depth = _depth(tensors, stems, str(file)) if stems else {}
    others = {n: t for n, t in tensors.items() if not n.startswith("model.depth_backbones.")}
    weights, left_out = renamed(others, table, str(file))
    if depth:
        depth |= _split_projection(
            weights, depth_channels=len(depth["depth_stems.stems.0.blocks.3.conv2.bias"])
        )
    model = sizes(weights, str(file)) | latent
    dialect = _dialect(tensors, cameras, model)
    return Foreign(
        dialect=dialect,
        source=str(file),
        model=model
        | {
            "heads": heads or HEADS,
            "backbone_per_camera": dialect != "act",
            "depth_stem": "agilex" if stems else "group_norm",
        },
        weights=weights | depth,
        left_out=left_out,
        cameras=_AGILEX_CAMERAS if dialect == "cobot_magic" and cameras == 3 else (),
        camera_count=None if dialect == "act" else cameras,
        has_depth=bool(stems),
        state_mean_S=statistics.vector("qpos_mean"),
        state_std_S=statistics.vector("qpos_std"),
        action_mean_A=statistics.vector("action_mean"),
        action_std_A=statistics.vector("action_std"),
    )


def weights_file(path: Path) -> Path | None:
    """The pickled weights that `path` means: itself, or one in it under a usual name."""
    if path.is_file():
        return path
    return next((path / name for name in WEIGHTS if (path / name).is_file()), None)


class _Statistics:
    """dataset_stats.pkl."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrays = read_arrays(path)

    def vector(self, name: str) -> NDArray[np.float64]:
        """One number for each joint."""
        if name not in self._arrays:
            raise NotFoundError(
                f"{self._path} has no {name!r}, only {sorted(self._arrays)!r}",
                hint="The statistics of the policy's own training are needed.",
            )
        vector = np.atleast_1d(self._arrays[name])
        positive = not name.endswith("std") or bool((vector > 0).all())
        if vector.ndim != 1 or not np.isfinite(vector).all() or not positive:
            raise StoreError(
                f"{self._path}: {name} is {vector.tolist()}",
                hint="Compute the statistics of its dataset again.",
            )
        return vector


def _numbered(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers from 0 on follow the beginning that `pattern` says."""
    found = {int(match[1]) for name in tensors if (match := re.match(pattern, name))}
    return len(found)


def _used_layers(tensors: Mapping[str, Tensor]) -> int:
    """Decoder layers up to the last one that was trained.

    The published code takes what the first layer says. The others get no gradient: the norm's
    weights in them stay what they were, all 1, or all the same after weight decay.
    """
    begin = "model.transformer.decoder.layers."
    trained = [
        int(name.removeprefix(begin).split(".")[0])
        for name, tensor in tensors.items()
        if re.fullmatch(re.escape(begin) + r"\d+\.norm1\.weight", name)
        and tensor.numel()
        and not bool((tensor == tensor.flatten()[0]).all())
    ]
    return 1 + max(trained, default=0)


def _latent(tensors: Mapping[str, Tensor], source: str, classes: int | None) -> dict[str, Any]:
    """Fields of ModelConfig that tell a VQ policy; none for one with a Gaussian style."""
    into, out = tensors.get("model.latent_proj.weight"), tensors.get("model.latent_out_proj.weight")
    if into is None or out is None or into.ndim != 2 or out.ndim != 2:
        return {}
    size = out.shape[1]
    if into.shape[0] != size:  # mean and log variance are twice as many as z
        return {}
    if classes is None or size % classes:
        raise InputError(
            f"{source} is a VQ policy whose code has {size} numbers; classes given: {classes}",
            hint="Say --vq-classes N, the --vq_class of its training.",
        )
    # Its prior sees no observation, and is in another file.
    return {
        "latent": "vq", "vq_classes": classes, "vq_codes": size // classes, "vq_prior": "uniform",
    }  # fmt: skip


def _dialect(tensors: Mapping[str, Tensor], cameras: int, model: Mapping[str, Any]) -> Dialect:
    if "model.latent_pos.weight" in tensors:
        return "cobot_magic"
    plus = cameras > 1 or model.get("latent") == "vq" or model["action_dim"] != model["state_dim"]
    return "act-plus-plus" if plus else "act"


def _depth(tensors: Mapping[str, Tensor], stems: int, source: str) -> dict[str, Tensor]:
    """The depth networks under our names, each batch norm part of the convolution before it."""
    ours: dict[str, Tensor] = {}
    for stem in range(stems):
        begin = f"model.depth_backbones.{stem}."
        try:
            for theirs, (name, norm) in _DEPTH_CONVS.items():
                weight, bias = (tensors[f"{begin}{theirs}.{kind}"] for kind in ("weight", "bias"))
                if norm is not None:
                    weight, bias = _folded(weight, bias, tensors, f"{begin}{norm}.")
                ours[f"depth_stems.stems.{stem}.{name}.weight"] = weight
                ours[f"depth_stems.stems.{stem}.{name}.bias"] = bias
        except (KeyError, RuntimeError) as e:
            raise InputError(
                f"{source}: its depth network {stem} is another than AgileX's: {e}",
                hint="Depth networks of aloha-devel can be read.",
            ) from None
    return ours


def _folded(
    weight: Tensor, bias_C: Tensor, tensors: Mapping[str, Tensor], norm: str
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what it and the norm behind it did."""
    scale_C, shift_C, mean_C, variance_C = (
        tensors[norm + name].double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale_C = scale_C * (variance_C + _EPSILON).rsqrt()
    folded = weight.double() * scale_C[:, None, None, None]
    return folded.float(), ((bias_C.double() - mean_C) * scale_C + shift_C).float()


def _split_projection(weights: dict[str, Tensor], depth_channels: int) -> dict[str, Tensor]:
    """Take depth's share out of `image_token`, which reads both maps one behind the other."""
    both = weights.get("image_token.weight")
    if both is None or both.ndim != 4 or both.shape[1] <= depth_channels:
        return {}
    pictures = both.shape[1] - depth_channels
    weights["image_token.weight"] = both[:, :pictures].contiguous()
    return {"depth_token.weight": both[:, pictures:].contiguous()}
