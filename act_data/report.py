"""What a dataset holds, for people and programs that ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from act_data.check import open_ref, open_verified
from act_data.errors import without_secrets
from act_data.interfaces import DatasetReader
from act_data.records import (
    SYNC_REASON,
    DatasetFacts,
    EpisodeRecord,
    Feature,
    Record,
    StatsRecord,
    StreamReport,
    StreamSync,
    SyncReport,
)
from act_data.registry import Registry
from act_data.stats import compute
from act_data.store import Url
from act_data.store.facts import facts_of, made_with
from act_data.store.files import write_whole
from act_data.types import ClockPolicy, Reason


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


class StreamQuality(Record):
    """How well one stream was synchronised, over all episodes that say so.

    Attributes:
        rate_hz: Median over episodes; None without a report.
        skew_p50_ms: Median over episodes of the signed median.
        skew_abs_p99_ms: The worst of all episodes.
        drops: Messages that were estimated to be lost, in all.
        invalid: Share of ticks without a valid sample.
    """

    rate_hz: float | None
    skew_p50_ms: float | None
    skew_abs_p99_ms: float | None
    drops: int
    invalid: float


class DatasetCard(Record):
    """A dataset's passport.

    Attributes:
        facts: What people say about it.
        size_bytes: Of the files of its episodes.
        made_with: The program that began the dataset; "" where it is not known.
        sources: How many recordings, by kind ("ros1", "mcap", "lerobot", ...).
        quality: By stream; streams of episodes without a report are not in it.
    """

    name: str
    path: str
    uid: str
    facts: DatasetFacts
    robot: str
    fps: float
    action_shift: int
    version: int
    parent: int | None
    created: str
    content_hash: str
    clock: ClockPolicy
    latency_ms: float
    made_with: str
    sources: dict[str, int]
    size_bytes: int
    arrays: tuple[Feature, ...]
    streams: dict[str, StreamSync]
    quality: dict[str, StreamQuality]
    episodes: tuple[EpisodeCard, ...]
    steps: int
    has_stats: bool


def show(ref: str) -> DatasetCard:
    """The passport of one version of a dataset."""
    return card_of(open_ref(ref), Registry().resolve(ref).name)


def card_of(reader: DatasetReader, name: str) -> DatasetCard:
    """The passport of the version of `reader`, which people know as `name`."""
    records = [reader.episode(entry.uid) for entry in reader.episodes]
    episodes = tuple(_episode_card(reader, n, record) for n, record in enumerate(records))
    sources = {(r.info.source.kind, r.info.source.sha256) for r in records}
    return DatasetCard(
        name=name,
        path=without_secrets(str(reader.path)),
        uid=reader.uid,
        facts=facts_of(reader),
        clock=reader.schema.clock,
        latency_ms=reader.schema.latency_ms,
        made_with=made_with(reader),
        sources=dict(sorted(Counter(kind for kind, _ in sources).items())),
        size_bytes=sum(file.bytes for record in records for file in record.files.values()),
        quality={
            name: quality
            for name, quality in _quality([r.info.sync for r in records if r.info.sync]).items()
            if name in reader.schema.streams
        },
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


def _quality(reports: Sequence[SyncReport]) -> dict[str, StreamQuality]:
    found: dict[str, list[tuple[SyncReport, StreamReport]]] = {}
    for report in reports:
        for name, stream in report.streams.items():
            found.setdefault(name, []).append((report, stream))
    quality = {}
    for name, pairs in sorted(found.items()):
        streams = [stream for _, stream in pairs]
        ticks = sum(report.ticks for report, _ in pairs)
        rates = [s.rate_hz for s in streams if s.rate_hz is not None]
        skews = [s.skew_p50_ms for s in streams if s.skew_p50_ms is not None]
        worst = [s.skew_abs_p99_ms for s in streams if s.skew_abs_p99_ms is not None]
        quality[name] = StreamQuality(
            rate_hz=median(rates) if rates else None,
            skew_p50_ms=median(skews) if skews else None,
            skew_abs_p99_ms=max(worst, default=None),
            drops=sum(s.estimated_drops for s in streams),
            invalid=sum(sum(s.invalid.values()) for s in streams) / ticks if ticks else 0.0,
        )
    return quality


def _episode_card(reader: DatasetReader, number: int, record: EpisodeRecord) -> EpisodeCard:
    entry, info = reader.episodes[number], record.info
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
