"""What cannot work is refused before it starts, all of it at once."""

from __future__ import annotations

import math

from act_data.errors import DataError, InputError
from act_data.interfaces import DatasetReader
from act_data.records import StatsRecord
from act_model.config import Contract, ModelConfig, NetworkConfig, TrainConfig


def check_run(config: TrainConfig, model: NetworkConfig, reader: DatasetReader) -> None:
    """See that the settings of a run fit each other and the dataset.

    Raises:
        InputError: They do not; all contradictions are named.
    """
    names = [feature.name for feature in reader.schema.features]
    problems = []
    for kind, wanted in (("images/", model.cameras), ("depth/", model.depth)):
        there = [name.removeprefix(kind) for name in names if name.startswith(kind)]
        if missing := [name for name in wanted if name not in there]:
            what = "cameras" if kind == "images/" else "depth"
            problems.append(
                f"the dataset has no {what} {', '.join(missing)}: it has "
                f"{', '.join(there) or 'none'}"
            )
    lengths = [entry.length for entry in reader.episodes if entry.split == "train"]
    if lengths and model.chunk_size > max(lengths):
        problems.append(
            f"a chunk of {model.chunk_size} actions is longer than every episode: the longest has "
            f"{max(lengths)} steps, and nothing would teach what comes after"
        )
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
    if config.patience and all(entry.split != "val" for entry in reader.episodes):
        problems.append(f"patience is {config.patience}, and no episode is held out to judge by")
    if problems:
        raise InputError(
            "the run contradicts itself: " + "; ".join(problems),
            hint="Correct these settings, in --config or on the command line.",
        )


def check_stats(stats: StatsRecord, contract: Contract) -> None:
    """See that state and action can be normalised by `stats`.

    Raises:
        DataError: A number of theirs is not finite; all such dimensions are named.
    """
    problems = []
    for array in (*contract.state, *contract.action):
        if array.name not in stats.features:
            continue  # Transform says which there are
        found = stats.features[array.name]
        for what in ("mean", "std", "min", "max"):
            for d, value in enumerate(getattr(found, what)):
                if value is not None and not math.isfinite(value):
                    problems.append(f"{what} of {array.names[d]} in {array.name!r} is {value!r}")
    if problems:
        raise DataError(
            f"the statistics of {stats.dataset!r} are not finite: {'; '.join(problems)}",
            hint="Compute them again: act-data stats.",
        )
