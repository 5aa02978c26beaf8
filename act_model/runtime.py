"""What a checkpoint is run by: torch as it is, or ONNX Runtime with what was exported from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.records import StatsRecord
from act_model import checkpoint as checkpoints
from act_model.checkpoint import Checkpoint
from act_model.config import Contract

RuntimeName = Literal["torch", "onnx"]


class Runtime(Protocol):
    """A checkpoint ready to predict. `predict` may be called from one thread at a time."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What it was loaded from."""

    @property
    def contract(self) -> Contract:
        """What it needs to see and what it delivers."""

    @property
    def stats(self) -> StatsRecord:
        """Of the data it was trained on."""

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """The actions of the next K ticks, (K, A), in the robot's units."""


def load(folder: Path, runtime: RuntimeName = "torch", device: str = "auto") -> Runtime:
    """The policy in a checkpoint folder.

    Args:
        runtime: "onnx" takes the file that `onnx_file_of` names.
        device: As torch names it; "auto" takes the first GPU if there is one.

    Raises:
        NotFoundError: There is no checkpoint, it was not exported, or ONNX Runtime is missing.
        StoreError: It is damaged, or the export is of other weights than the checkpoint.
        InputError: There is no such device.
    """
    # Each takes long to import, and none needs the other.
    if runtime == "torch":
        from act_model.policy import Policy

        return Policy.load(folder, device)
    from act_model.export.onnx_policy import OnnxPolicy

    checkpoint = checkpoints.load(folder)
    file = onnx_file_of(folder)
    policy = OnnxPolicy(checkpoint, file, device=device)
    if policy.metadata.weights_sha256 != checkpoint.weights_sha256:
        raise StoreError(
            f"{file} was exported from other weights than those of {folder} "
            f"(step {policy.metadata.step}, the checkpoint is of step {checkpoint.step})",
            hint=f"Export it again: `act-model export {folder} --to onnx`.",
        )
    return policy


def onnx_file_of(folder: Path) -> Path:
    """Where the export of a checkpoint lies: run/best -> run/best.onnx."""
    folder = folder.absolute()
    return folder.with_name(f"{folder.name}.onnx")
