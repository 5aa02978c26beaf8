"""What a training run reads: its dataset, co-trained ones, and the numbers to normalise by."""

from __future__ import annotations

from collections.abc import Sequence

from act_data import stats as statistics
from act_data.errors import ConflictError, InputError
from act_data.interfaces import DatasetReader
from act_data.records import StatsRecord
from act_model.checkpoint import Checkpoint, contract_of
from act_model.config import Contract, CoTrained, DatasetRef, NetworkConfig, TrainConfig
from act_model.dataset import EpisodeChunks
from act_model.mixture import Mixture, shares


def dataset_ref(
    reader: DatasetReader, cotrain: Sequence[tuple[DatasetReader, float]] = ()
) -> DatasetRef:
    """The exact data of `reader`, to be kept with what is trained on it."""
    return DatasetRef(
        path=str(reader.path.absolute()),
        uid=reader.uid,
        version=reader.version.number,
        content_hash=reader.version.content_hash,
        train=tuple(e.uid for e in reader.episodes if e.split == "train"),
        val=tuple(e.uid for e in reader.episodes if e.split == "val"),
        cotrained=tuple(
            CoTrained(
                path=str(other.path.absolute()),
                uid=other.uid,
                version=other.version.number,
                content_hash=other.version.content_hash,
                weight=weight,
            )
            for other, weight in cotrain
        ),
    )


def training_chunks(
    reader: DatasetReader,
    cotrain: Sequence[tuple[DatasetReader, float]],
    config: TrainConfig,
    model: NetworkConfig,
    contract: Contract,
) -> EpisodeChunks | Mixture:
    """The samples of the train split; with those of the co-trained datasets mixed in.

    Raises:
        InputError: The shares leave nothing for `reader`, or a dataset is of another robot.
    """
    chunks = chunks_of(reader, "train", config, model)
    if not cotrain:
        return chunks
    weights = [weight for _, weight in cotrain]
    if min(weights) <= 0 or sum(weights) >= 1:
        raise InputError(
            f"the shares of co-trained datasets are {weights}",
            hint="Each is above 0, and together they are below 1.",
        )
    for other, _ in cotrain:
        theirs = contract_of(
            other.schema,
            config,
            model.chunk_size,
            cameras=model.cameras,
            depth=model.depth,
        )
        for name in ("rate_hz", "state", "action", "cameras", "depth", "action_shift"):
            ours, found = getattr(contract, name), getattr(theirs, name)
            if ours != found:
                raise InputError(
                    f"{other.path} cannot be co-trained with {reader.path}: {name} is {found!r} "
                    f"there and {ours!r} here",
                    hint="Ingest or convert it with the same robot, rate and arrays.",
                )
    parts = [chunks, *(chunks_of(other, "train", config, model) for other, _ in cotrain)]
    return Mixture(parts, shares(weights), config)


def chunks_of(
    reader: DatasetReader, split: str, config: TrainConfig, model: NetworkConfig
) -> EpisodeChunks:
    """The samples of one split of `reader`, as the network wants them."""
    return EpisodeChunks(
        reader,
        [i for i, entry in enumerate(reader.episodes) if entry.split == split],
        config=config,
        chunk_size=model.chunk_size,
        cameras=model.cameras,
        depth=model.depth,
    )


def statistics_for(
    reader: DatasetReader, given: StatsRecord | None, last: Checkpoint | None
) -> StatsRecord:
    """The numbers to normalise by: a run keeps those that it was started with."""
    if last is not None and (given is None or given.features == last.stats.features):
        return last.stats
    if last is not None:
        raise ConflictError(
            f"{last.folder} was started with other statistics",
            hint="Leave the statistics out when resuming: the run has its own.",
        )
    if given is None:
        saved = reader.stats()
        fits = saved is not None and _belong(saved, reader)
        given = saved if fits and saved is not None else statistics.compute(reader, "train")
    if not _belong(given, reader):
        raise ConflictError(
            f"the statistics are of split {given.split!r} of content {given.content_hash[:12]}, "
            f"the training is on split 'train' of {reader.version.content_hash[:12]}",
            hint="Compute them again: act-data stats.",
        )
    return given


def _belong(stats: StatsRecord, reader: DatasetReader) -> bool:
    return stats.split == "train" and stats.content_hash == reader.version.content_hash
