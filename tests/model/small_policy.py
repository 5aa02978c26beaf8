"""A real checkpoint of a small random network, for tests that need a policy and no skill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from act_data.interfaces import DatasetReader
from act_data.stats import compute
from act_model import checkpoint
from act_model.checkpoint import contract_of
from act_model.config import DatasetRef, ModelConfig, TrainConfig
from act_model.nn import ActCvae

K = 6

# A network of each family whose steps take milliseconds.
TINY: Mapping[str, Mapping[str, object]] = {
    "act": {
        "hidden_dim": 16, "heads": 2, "feedforward_dim": 32, "encoder_layers": 1,
        "decoder_layers": 1, "style_layers": 1, "latent_dim": 4,
    },
    "diffusion": {
        "hidden_dim": 16, "heads": 2, "feedforward_dim": 32, "encoder_layers": 1,
        "decoder_layers": 2, "levels": 20, "steps": 4,
    },
}  # fmt: skip


def save_checkpoint(
    folder: Path,
    reader: DatasetReader,
    *,
    state: tuple[str, ...] = ("qpos",),
    action: tuple[str, ...] = ("action",),
    depth: tuple[str, ...] = (),
    image_size: tuple[int, int] = (32, 48),
    seed: int = 0,
    **model_fields: object,
) -> Path:
    """A checkpoint that fits the dataset, with random weights."""
    train = TrainConfig(state=state, action=action, device="cpu")
    contract = contract_of(reader.schema, train, K, depth=depth)
    model = ModelConfig(
        state_dim=sum(len(v.names) for v in contract.state),
        action_dim=sum(len(v.names) for v in contract.action),
        cameras=tuple(c.name for c in contract.cameras),
        depth=tuple(c.name for c in contract.depth),
        image_size=image_size,
        chunk_size=K,
        hidden_dim=16,
        heads=2,
        feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=1,
        style_layers=1,
        latent_dim=4,
        dropout=0.1,
    )
    model = ModelConfig.model_validate(model.model_dump() | model_fields)
    torch.manual_seed(seed)
    checkpoint.save(
        folder,
        weights=ActCvae(model).state_dict(),
        model=model,
        train=train,
        contract=contract,
        stats=compute(reader, "all"),
        dataset=DatasetRef(
            path=str(reader.path),
            uid=reader.uid,
            version=reader.version.number,
            content_hash=reader.version.content_hash,
            train=tuple(e.uid for e in reader.episodes),
            val=(),
        ),
        step=1,
        metrics={},
    )
    return folder
