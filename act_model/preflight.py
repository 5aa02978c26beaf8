"""What cannot work is refused before it starts, all of it at once."""

from __future__ import annotations

from act_data.errors import InputError
from act_model.config import DatasetRef, ModelConfig, NetworkConfig, TrainConfig


def check_run(config: TrainConfig, model: NetworkConfig, dataset: DatasetRef) -> None:
    """See that the settings of a run fit each other.

    Raises:
        InputError: They do not; all contradictions are named.
    """
    problems = []
    if isinstance(model, ModelConfig) and model.is_pad_head != (config.loss.is_pad_weight > 0):
        # A head that the loss does not weigh would stay random; a weight needs its head.
        problems.append(
            f"is_pad_head of the model is {model.is_pad_head!r}, and is_pad_weight of the loss is "
            f"{config.loss.is_pad_weight!r}: set both or neither"
        )
    if config.batch_size % config.parts:
        problems.append(
            f"a batch of {config.batch_size} samples has no {config.parts} parts of one size"
        )
    if config.schedule == "cosine" and config.warmup >= config.steps:
        problems.append(f"warmup is {config.warmup} of {config.steps} steps")
    if config.patience and not dataset.val:
        problems.append(f"patience is {config.patience}, and no episode is held out to judge by")
    if problems:
        raise InputError(
            "the run contradicts itself: " + "; ".join(problems),
            hint="Correct these settings, in --config or on the command line.",
        )
