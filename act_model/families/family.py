# ruff: noqa: N815 - fields carry shape suffixes too
"""What a family of policies is: a kind of network with its objective and its way to predict.

Training, checkpoints, evaluation and deployment know families through this file alone.

Shape suffixes: B batch, N cameras, M depth cameras, H height, W width, S state dim, K action
chunk, A action dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor, nn

from act_model.config import LossConfig, NetworkConfig
from act_model.nn.transformer import Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """Observations at the network's door.

    Attributes:
        images: (B, N, 3, H, W) float32, resized, ImageNet-normalised.
        state: (B, S) float32, normalised.
        depth: (B, M, 1, H, W) float32 metres; None without depth.
        committed: (B, P, A) float32, normalised: the first P actions of the chunk, which will be
            executed whatever is predicted. None, where nothing is, or where a family knows none.
    """

    images: Tensor
    state: Tensor
    depth: Tensor | None
    committed: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What one batch says about the weights; float32 scalars.

    Attributes:
        total: To be minimised.
        masked: The part of `total` that is a mean over the valid elements of the batch. The rest
            is a mean over its samples: so the objectives of parts of a batch add up to that of
            the whole.
        parts: What `total` is made of, unweighted, for the log.
    """

    total: Tensor
    masked: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a policy says about observations.

    Attributes:
        actions_BKA: Normalised, as the targets in training.
        is_pad_BK: Probability that the episode is over by then; None where it is not learned.
    """

    actions_BKA: Tensor
    is_pad_BK: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A named choice of network size, with what trains it.

    Attributes:
        model: Fields of the family's configuration.
        lr: Of everything but the backbone.
        lr_backbone: Of the cameras' ResNets.
    """

    model: Mapping[str, object]
    lr: float
    lr_backbone: float


C = TypeVar("C", bound=NetworkConfig)
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family(Generic[C, N]):
    """One kind of policy. To add one: a file that makes one of these, a line in `FAMILIES`,
    and one in `act_model.networks.NETWORKS`.

    Parameters called `backbone.*` learn at `lr_backbone`, and an attribute `backbone` that is a
    CameraBackbone is filled with `backbone_weights`.

    Attributes:
        name: As `policy` of the configuration, in --policy and in config.json of a checkpoint.
        config: The network's configuration.
        build: The network, with random weights drawn from torch's global stream. Raises
            InputError where the configuration contradicts itself.
        objective: Of (network, observations, normalised actions (B, K, A), is_pad (B, K), how the
            error is weighed). Draws from torch's global random stream only.
        predict: Of (network in evaluation mode, observations). The same every time.
        sizes: By name; the first is the default.
        train: Fields of TrainConfig that differ from its defaults.
        replays: Whether `objective` and `predict`, for such a configuration, do the same work
            whatever they see: nothing is fetched from the device on the way, `predict` draws
            nothing. A GPU then replays them.
        attention: Of a network, where its action queries read the observation. The last tokens
            there are those of the pictures, camera by camera and row by row. None where a family
            has no such place.
    """

    name: str
    config: type[C]
    build: Callable[[C], N]
    objective: Callable[[N, NetworkInput, Tensor, Tensor, LossConfig], Objective]
    predict: Callable[[N, NetworkInput], Prediction]
    sizes: Mapping[str, Size]
    train: Mapping[str, object] = field(default_factory=dict)
    replays: Callable[[C], bool] = lambda config: False
    attention: Callable[[N], Attention] | None = None
