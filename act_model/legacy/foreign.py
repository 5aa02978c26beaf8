# ruff: noqa: N815 - fields carry shape suffixes too
"""A network that another program trained, under our names.

Shape suffixes: S state dim, A action dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from act_data.errors import InputError
from act_model.legacy.records import Dialect

_LAYER = {
    "linear1": "feed_forward.0",
    "linear2": "feed_forward.3",
    "norm1": "norms.0",
    "norm2": "norms.1",
    "norm3": "norms.2",
}
_ENCODER = _LAYER | {"self_attn": "attention"}
_DECODER = _LAYER | {"self_attn": "self_attention", "multihead_attn": "cross_attention"}


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A checkpoint of another program, read and not yet ours.

    Attributes:
        source: The file with the weights.
        model: Fields of ModelConfig that the file tells, cameras excepted.
        weights: Under our names.
        left_out: Names of tensors that no prediction depends on.
        cameras: As the file calls them, in order; () where it has no names for them.
        camera_count: How many there are; None where the file does not tell.
        has_depth: Whether each camera measures depth, too.
        state_mean_S: In the robot's units, as all four.
        state_std_S: What states are divided by.
    """

    dialect: Dialect
    source: str
    model: Mapping[str, Any]
    weights: dict[str, Tensor]
    left_out: tuple[str, ...]
    cameras: tuple[str, ...]
    camera_count: int | None
    has_depth: bool
    state_mean_S: NDArray[np.float64]
    state_std_S: NDArray[np.float64]
    action_mean_A: NDArray[np.float64]
    action_std_A: NDArray[np.float64]


def renamed(
    tensors: Mapping[str, Tensor], table: Mapping[str, str | None], source: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors under our names, and the names of those that are left out.

    Args:
        table: Beginning of their name -> of ours; the longest that fits counts. None leaves out.

    Raises:
        InputError: A tensor that the table does not know: the network has a part that ours lacks.
    """
    ours: dict[str, Tensor] = {}
    left_out, unknown = [], []
    for name, tensor in tensors.items():
        known = max((begin for begin in table if name.startswith(begin)), key=len, default=None)
        if known is None:
            unknown.append(name)
        elif (begin := table[known]) is None or name.endswith("num_batches_tracked"):
            left_out.append(name)
        else:
            ours |= _place(begin + name[len(known) :], tensor)
    if unknown:
        raise InputError(
            f"{source} has {len(unknown)} tensors that are no part of an ACT network, first "
            f"{unknown[0]!r}",
            hint="ACT networks of LeRobot, tonyzhaozh/act, act-plus-plus and aloha-devel can be "
            "read.",
        )
    return ours, tuple(left_out)


def count_layers(weights: Mapping[str, Tensor], stack: str) -> int:
    """Layers of the stack called `stack`, e.g. "style.encoder"; 0 when there is none."""
    begin = f"{stack}.layers."
    return len({name[len(begin) :].split(".")[0] for name in weights if name.startswith(begin)})


def sizes(weights: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """The fields of ModelConfig that shapes tell.

    Raises:
        InputError: A tensor that every ACT network has is not there.
    """
    try:
        widen = weights["encoder.layers.0.feed_forward.0.weight"]
        head, state = weights["action_head.weight"], weights["state_token.weight"]
        queries, z_token = weights["queries_KD"], weights["z_token.weight"]
    except KeyError as e:
        raise InputError(
            f"{source} is no ACT network: nothing in it becomes {e.args[0]!r}",
            hint="Policies of other kinds (diffusion, CNN) cannot be imported.",
        ) from None
    if any(matrix.ndim != 2 for matrix in (widen, head, state, queries, z_token)):
        raise InputError(
            f"{source} is no ACT network: matrices of it have another number of dimensions",
            hint="Get the checkpoint again.",
        )
    fields = {
        "hidden_dim": head.shape[1],
        "feedforward_dim": widen.shape[0],
        "encoder_layers": count_layers(weights, "encoder"),
        "decoder_layers": count_layers(weights, "decoder"),
        "style_layers": count_layers(weights, "style.encoder") or 1,
        "latent_dim": z_token.shape[1],
        "chunk_size": queries.shape[0],
        "state_dim": state.shape[1],
        "action_dim": head.shape[0],
        # As the published code does, and LeRobot after it.
        "decoder_start": "zeros",
    }
    if "backbone.nets.0.conv1.weight" in weights:
        fields["backbone"] = _resnet(weights)
    return fields


def _resnet(weights: Mapping[str, Tensor]) -> str:
    if "backbone.nets.0.layer1.0.conv3.weight" in weights:
        return "resnet50"
    deep = "backbone.nets.0.layer1.2.conv1.weight" in weights
    return "resnet34" if deep else "resnet18"


def _place(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """`tensor` under the names of ours that it fills; `name` has our beginning, their end."""
    if name == "positions" and tensor.ndim == 2 and len(tensor) == 2:
        # Of the two tokens that are no picture, in this order everywhere.
        return {"z_position_D": tensor[0], "state_position_D": tensor[1]}
    if name.rpartition("_")[2] == "D" and tensor.ndim == 2 and len(tensor) == 1:
        return {name: tensor[0]}  # an Embedding of one
    stack, layers, rest = name.partition(".layers.")
    if not layers:
        return {name: tensor}
    number, _, inside = rest.partition(".")
    part, _, quantity = inside.partition(".")
    part = (_DECODER if stack == "decoder" else _ENCODER).get(part, part)
    begin = f"{stack}.layers.{number}.{part}"
    if quantity.startswith("in_proj_") and tensor.ndim and len(tensor) % 3 == 0:
        kind = quantity.removeprefix("in_proj_")
        query, key, value = tensor.chunk(3)
        both = {f"{begin}.query.{kind}": query, f"{begin}.value.{kind}": value}
        # A key bias adds the same to all scores of a query: the softmax takes it out again.
        return both if kind == "bias" else both | {f"{begin}.key.{kind}": key}
    return {f"{begin}.{quantity.replace('out_proj', 'out')}": tensor}
