"""Everything a run is made of, as checked models that are saved with the weights.

Defaults are the published ACT values (Zhao et al., 2023, and tonyzhaozh/act) where they matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt

from act_data.records import Codec, Record, StoredPicture, StreamSync
from act_data.types import ClockPolicy


class NetworkConfig(Record):
    """What every network has, whatever its family. Sizes of state and action come from the dataset.

    Attributes:
        policy: The family.
        cameras: Image arrays, without "images/", in the order the network sees them.
        depth: Depth arrays, without "depth/", each also in `cameras`.
        image_size: (H, W) of every picture at the network's door.
        chunk_size: K, actions predicted at once.
        backbone: "resnet18", "resnet34", "resnet50", or "plugin:NAME": an installed package's
            entry point NAME of the group act_model.backbones.
        backbone_per_camera: One ResNet per camera instead of a shared one.
        backbone_weights: "none", "imagenet" (torchvision's local cache), or a path to a
            safetensors file with torchvision's names.
    """

    policy: str
    state_dim: PositiveInt
    action_dim: PositiveInt
    cameras: tuple[str, ...] = ()
    depth: tuple[str, ...] = ()
    image_size: tuple[PositiveInt, PositiveInt] = (480, 640)
    chunk_size: PositiveInt = Field(100, le=10_000)
    backbone: str = Field("resnet18", pattern=r"^(resnet18|resnet34|resnet50|plugin:[\w.-]+)$")
    backbone_per_camera: bool = False
    backbone_weights: str = "none"


class ModelConfig(NetworkConfig):
    """The ACT network.

    Attributes:
        decoder_layers: All of them are used (the original trains one of its seven). More than one
            brought nothing that could be measured (benchmarks/act_ablation.py).
        decoder_start: What the first decoder layer mixes: the learned queries, or the zeros of
            the original, with which one layer lets no action depend on another's query.
        vq_prior: How a "vq" policy that sees no actions picks codes: the likeliest ones of the
            prior trained beside it, a draw from it, or the mean of all codes without any prior.
        state_dropout: Share of the training samples whose `state_dropout_dims` are hidden, so
            that the policy cannot just repeat a measured velocity as its command.
        state_dropout_dims: Dimensions of the state that are hidden together; () is all of them.
        max_prefix: Longest prefix of committed actions that a prediction may be conditioned on
            (training-time real-time chunking, arXiv 2512.05964); 0 leaves it out.
        depth_stem: "agilex" is that of AgileX's aloha-devel, with its batch norms frozen.
        dropout: Share of the transformer's numbers that training hides.
    """

    policy: Literal["act"] = "act"
    hidden_dim: PositiveInt = 512
    heads: PositiveInt = 8
    feedforward_dim: PositiveInt = 3200
    encoder_layers: PositiveInt = 4
    decoder_layers: PositiveInt = 1
    decoder_start: Literal["queries", "zeros"] = "queries"
    style_layers: PositiveInt = 4
    latent: Literal["gaussian", "vq", "none"] = "gaussian"
    latent_dim: PositiveInt = 32
    vq_classes: PositiveInt = 32
    vq_codes: PositiveInt = 32
    vq_prior: Literal["argmax", "sample", "uniform"] = "argmax"
    dropout: float = Field(0.1, ge=0, lt=1)
    state_dropout: float = Field(0.0, ge=0, lt=1)
    state_dropout_dims: tuple[NonNegativeInt, ...] = ()
    max_prefix: NonNegativeInt = 0
    depth_stem: Literal["group_norm", "agilex"] = "group_norm"
    position: Literal["sine", "learned"] = "sine"
    is_pad_head: bool = False


class LossConfig(Record):
    """The objective: reconstruction over valid elements plus a weighted KL.

    Attributes:
        kl_anneal_steps: Steps over which `kl_weight` rises from 0; 0 starts with all of it.
        free_bits: Nats of KL per dimension of z that cost nothing (Kingma et al., 2016).
    """

    model_config = ConfigDict(allow_inf_nan=False)

    kind: Literal["l1", "l2", "smooth_l1"] = "l1"
    kl_weight: float = Field(10.0, ge=0)
    kl_anneal_steps: NonNegativeInt = 0
    free_bits: float = Field(0.0, ge=0)
    is_pad_weight: float = Field(0.0, ge=0)

    def at(self, step: int) -> LossConfig:
        """The objective after `step` optimiser steps, its annealing resolved."""
        if step >= self.kl_anneal_steps:
            return self
        weight = self.kl_weight * step / self.kl_anneal_steps
        return self.model_copy(update={"kl_weight": weight})


class AugmentConfig(Record):
    """Image augmentation, the same draw for all frames of one sample; train split only.

    Attributes:
        crop: Share of each side that a random crop keeps before it is resized back.
        rotation_deg: Largest rotation to either side.
        brightness: As torchvision's ColorJitter; contrast and saturation too.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    crop: float = Field(0.95, gt=0, le=1)
    rotation_deg: float = Field(5.0, ge=0)
    brightness: float = Field(0.3, ge=0)
    contrast: float = Field(0.4, ge=0)
    saturation: float = Field(0.5, ge=0)


class TrainConfig(Record):
    """One training run.

    Attributes:
        state: Observation arrays that make up the state, concatenated.
        action: Action arrays that make up the action, concatenated.
        normalise: How state and action are scaled.
        std_floor: Smallest standard deviation used by "mean_std", in the array's own unit.
        grad_clip: Largest gradient norm; 0 switches clipping off.
        ema: Decay of the moving average of the weights that is validated, kept and deployed, once
            warmed up; 0 switches it off.
        precision: Of the forward and backward pass; weights and optimiser stay float32.
        compile: Let torch compile the network: minutes at first, then faster steps.
        channels_last: Keep convolutions' weights and maps in the order that GPUs prefer.
        parts: A batch is computed in that many parts of one size, one after the other where memory
            is short, or by several processes under torchrun. Each has its own random streams. What
            is no sum over samples is taken part by part: free bits, and the share of valid actions
            that a committed prefix leaves.
        warmup: Steps over which the learning rates rise; a shorter run, such as a first look with
            the settings of a long one, ends on the way.
        schedule: What follows: "cosine" falls to 0 at the last step.
        patience: The run ends after this many validations in a row without a better one; 0: never.
        val_every: Steps between validations; each also saves `last`.
        val_starts: Starts of the fixed validation grid per held-out episode.
        starts: What counts the same: every step, or every episode, which then gives one random
            start per epoch (ACT's way).
        padding: What stands behind the end of an episode, in the units of the dataset; no loss
            sees it.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    state: tuple[str, ...] = ("qpos",)
    action: tuple[str, ...] = ("action",)
    steps: PositiveInt = 100_000
    batch_size: PositiveInt = Field(8, le=65_536)
    lr: float = Field(1e-5, gt=0)
    lr_backbone: float = Field(1e-5, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    grad_clip: float = Field(10.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    normalise: Literal["mean_std", "unit", "symmetric"] = "mean_std"
    std_floor: float = Field(1e-2, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    channels_last: bool = False
    parts: PositiveInt = 1
    warmup: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    patience: int = Field(0, ge=0)
    augment: AugmentConfig | None = None
    loss: LossConfig = LossConfig()
    seed: int = 0
    val_every: PositiveInt = 1000
    val_starts: PositiveInt = 8
    starts: Literal["steps", "episodes"] = "steps"
    padding: Literal["repeat", "zero"] = "repeat"
    workers: int = Field(0, ge=0)
    device: str = "auto"


class VectorContract(Record):
    """One array of state or action: what each number is."""

    name: str
    names: tuple[str, ...]
    unit: str


class CameraContract(Record):
    """One picture as the dataset holds it, before it is resized for the network.

    Attributes:
        original: As the robot's own pictures were stored, where the dataset is a copy of another:
            on the robot they go through that, then through what the copy did.
    """

    name: str
    height: int
    width: int
    codec: Codec
    quality: int
    original: StoredPicture | None = None


class Contract(Record):
    """What a robot must deliver and will receive. Checked before anything moves.

    Attributes:
        rate_hz: Rate of observations and of actions.
        action_shift: As in the dataset; clock, latency_ms and streams too.
    """

    robot: str
    rate_hz: float
    chunk_size: int
    state: tuple[VectorContract, ...]
    action: tuple[VectorContract, ...]
    cameras: tuple[CameraContract, ...] = ()
    depth: tuple[CameraContract, ...] = ()
    color_order: Literal["rgb"] = "rgb"
    action_shift: int = 0
    clock: ClockPolicy = ClockPolicy.AUTO
    latency_ms: float = 250.0
    streams: Mapping[str, StreamSync] = Field(default_factory=dict)

    def digest(self) -> str:
        """sha256 of its JSON: two sides that hold the same digest mean the same robot."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class CoTrained(Record):
    """Another dataset that filled a share of every batch; its train split was used.

    Attributes:
        weight: Its share.
    """

    path: str
    uid: str
    version: int
    content_hash: str
    weight: float


class DatasetRef(Record):
    """The exact data a checkpoint was trained on.

    Attributes:
        train: uids of the training episodes.
        val: uids of the held-out episodes.
        cotrained: Other datasets in the batches. Statistics and validation are of this one.
    """

    path: str
    uid: str
    version: int
    content_hash: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    cotrained: tuple[CoTrained, ...] = ()
