"""What a dataset holds, for people and programs that ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from act_data.check import open_ref, open_verified
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_REASON, Feature, Record, StatsRecord, StreamSync
from act_data.stats import compute
from act_data.store import Url
from act_data.store.files import write_whole
from act_data.types import Reason


class EpisodeCard(Record):
    """One episode of a dataset.

    Attributes:
        masked: Steps at which a required stream had no valid sample.
    """

    uid: str
    recording: str
    steps: int
    masked: int
    split: Literal["train", "val"]
    task: str
    operator: str
    success: bool | None


class DatasetCard(Record):
    """A dataset's passport."""

    path: str
    uid: str
    robot: str
    fps: float
    action_shift: int
    version: int
    parent: int | None
    created: str
    content_hash: str
    arrays: tuple[Feature, ...]
    streams: dict[str, StreamSync]
    episodes: tuple[EpisodeCard, ...]
    steps: int
    has_stats: bool


def show(ref: str) -> DatasetCard:
    """The passport of one version of a dataset."""
    reader = open_ref(ref)
    episodes = tuple(_episode_card(reader, i) for i in range(len(reader.episodes)))
    return DatasetCard(
        path=str(reader.path),
        uid=reader.uid,
        robot=reader.schema.robot,
        fps=reader.schema.fps,
        action_shift=reader.schema.action_shift,
        version=reader.version.number,
        parent=reader.version.parent,
        created=reader.version.created,
        content_hash=reader.version.content_hash,
        arrays=reader.schema.features,
        streams=dict(reader.schema.streams),
        episodes=episodes,
        steps=sum(e.steps for e in episodes),
        has_stats=reader.stats() is not None,
    )


def _episode_card(reader: DatasetReader, number: int) -> EpisodeCard:
    entry = reader.episodes[number]
    info = reader.episode(entry.uid).info
    return EpisodeCard(
        uid=entry.uid,
        recording=info.source.name,
        steps=entry.length,
        masked=masked_steps(reader, number),
        split=entry.split,
        task=info.task,
        operator=info.operator,
        success=info.success,
    )


def masked_steps(reader: DatasetReader, number: int) -> int:
    """Steps of an episode at which a required stream had no valid sample."""
    schema = reader.schema
    required = [
        i
        for i, column in enumerate(schema.columns)
        if (stream := schema.streams.get(column.stream)) and stream.required
    ]
    if not required:
        return 0
    reasons = reader.read(SYNC_REASON, number)[:, required]
    return int((reasons != Reason.OK).any(axis=1).sum())


def stats(
    ref: str,
    *,
    split: Literal["train", "val", "all"] = "train",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[StatsRecord, Path]:
    """Compute the statistics of a split and save them; gives them and the file beside the dataset.

    Those of the train split are also kept inside the version, where training finds them. Those of
    a dataset behind a URL are saved in the current folder only.

    Raises:
        NotFoundError: There is no such dataset or version.
        StoreError: Its content no longer matches its version.
    """
    reader = open_verified(ref)
    record = compute(reader, split, progress)
    remote = isinstance(reader.path, Url)
    if split == "train" and not remote:
        reader.save_stats(record)
    beside = Path(reader.path.name) if remote else reader.path
    path = beside.with_name(f"{beside.stem}.stats.json")
    text = record.model_dump_json(indent=2) + "\n"
    scratch = path.with_name(f".{path.name}.partial")
    write_whole(path.parent, path.name, text.encode(), scratch)
    return record, path
