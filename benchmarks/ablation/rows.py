"""The rows of the ablation: what each changes of a training, and which defaults hang on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.ablation.defects import Defect
from benchmarks.ablation.vision import BACKBONE

MENDED = "everything mended"
BASE_VELOCITY = 2  # its place in the state
Pick = Literal["z = 0", "posterior", "last"]


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much of everything; the same for all rows."""

    demos: int = 80
    held_out: int = 10
    steps: int = 800
    batch_size: int = 24
    validations: int = 10
    episodes: int = 100
    chunk: int = 16
    hidden: int = 48


QUICK = Amount(demos=5, held_out=1, steps=4, batch_size=4, validations=2, episodes=2, hidden=16)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to train, and which of its checkpoints is rolled out.

    Attributes:
        model: Fields of the network that differ from those of `MENDED`; `train`: of the run.
        pick: The checkpoint of the smallest error on held-out episodes at z = 0, or of the
            smallest loss that sees their actions (one random start each), or the last one.
        vq_prior: Of the rollout alone.
        against: The row that it is compared with.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    defects: tuple[Defect, ...] = ()
    train: Mapping[str, Any] = field(default_factory=dict)
    pick: Pick = "z = 0"
    vq_prior: str = "argmax"
    against: str = MENDED

    @property
    def training(self) -> str:
        """The same for rows that roll out one and the same training."""
        return repr((self.model, self.defects, self.train))


ORIGINAL_DECODER = {"decoder_layers": 1, "decoder_start": "zeros"}
AS_SHIPPED = {"decoder_layers": 1, "state_dropout": 0.0}
ROWS: Mapping[str, Row] = {
    MENDED: Row(),
    "untrained: 1 step": Row(train={"steps": 1, "val_every": 1, "warmup": 0}),
    "decoder: 1 layer": Row(model={"decoder_layers": 1}),
    "decoder: 2 layers": Row(model={"decoder_layers": 2}),
    "decoder: 7 layers, all used": Row(model={"decoder_layers": 7}),
    # Seven layers of which the first is used are one layer, and six that nothing reads.
    "decoder: the first of 7, as published": Row(model=ORIGINAL_DECODER),
    "decoder: starts from zeros": Row(model={"decoder_start": "zeros"}),
    "tokens: actions never read each other": Row(defects=("actions apart",)),
    "cameras: no code": Row(defects=("no camera code",)),
    "cameras: no code, a backbone each": Row(
        model={"backbone_per_camera": True}, defects=("no camera code",)
    ),
    "padding: mean over it": Row(defects=("mean over padding",)),
    "base: velocity never hidden": Row(model={"state_dropout": 0.0}),
    "latent: none": Row(model={"latent": "none"}),
    "latent: VQ, likeliest of the prior": Row(model={"latent": "vq"}),
    "latent: VQ, drawn from the prior": Row(model={"latent": "vq"}, vq_prior="sample"),
    "checkpoint: smallest posterior loss": Row(pick="posterior"),
    "checkpoint: the last": Row(pick="last"),
    "everything as published": Row(
        model={**ORIGINAL_DECODER, "state_dropout": 0.0},
        defects=("no camera code", "mean over padding"),
        pick="posterior",
    ),
    "the defaults": Row(model=AS_SHIPPED),
    "the defaults, latent: none": Row(
        model={**AS_SHIPPED, "latent": "none"}, against="the defaults"
    ),
}

# From cheap to dear in computation; of those that cost the same, what was the default comes first.
CHOICES: Mapping[str, Sequence[str]] = {
    "decoder": (  # layers and start together: what one does depends on the other
        "decoder: 1 layer",
        "decoder: the first of 7, as published",
        "decoder: 2 layers",
        MENDED,
        "decoder: starts from zeros",
        "decoder: 7 layers, all used",
    ),
    "latent": (
        "latent: none",
        MENDED,
        "latent: VQ, likeliest of the prior",
        "latent: VQ, drawn from the prior",
    ),
    "state_dropout": ("base: velocity never hidden", MENDED),
}


def network(amount: Amount) -> dict[str, Any]:
    """That of `MENDED`."""
    return {
        "chunk_size": amount.chunk,
        "backbone": BACKBONE,
        "hidden_dim": amount.hidden,
        "heads": 4,
        "feedforward_dim": 2 * amount.hidden,
        "encoder_layers": 2,
        "decoder_layers": 4,
        "style_layers": 1,
        "latent_dim": 8,
        "vq_classes": 4,
        "vq_codes": 4,
        "dropout": 0.0,
        "state_dropout": 0.5,
        "state_dropout_dims": (BASE_VELOCITY,),
    }


def training(amount: Amount, seed: int) -> dict[str, Any]:
    """That of every row but for what it changes."""
    return {
        "state": ("qpos", "base_vel"),
        "action": ("action", "base_action"),
        "steps": amount.steps,
        "batch_size": amount.batch_size,
        "lr": 1e-3,
        "lr_backbone": 1e-3,
        "warmup": amount.steps // 20,
        "schedule": "cosine",
        "val_every": amount.steps // amount.validations,
        "seed": seed,
        "device": "cpu",
    }
