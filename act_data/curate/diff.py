"""What lies between two versions: episodes, splits, annotations, schema, statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from act_data.check import open_ref
from act_data.curate.records import (
    Difference,
    EpisodeName,
    Reannotated,
    Reingested,
    SplitMove,
    StatMove,
    VersionName,
)
from act_data.errors import StoreError
from act_data.facts import spoken
from act_data.interfaces import DatasetReader
from act_data.records import (
    Annotation,
    EpisodeEntry,
    EpisodeInfo,
    EpisodeRecord,
    FeatureStats,
    StatsRecord,
    VersionRecord,
)
from act_data.registry import Registry
from act_data.spans import SAME_PART, shared, span_of
from act_data.store import Url
from act_data.store.differences import differences
from act_data.store.zarr_reader import ZarrReader

STATS_THRESHOLD = 0.1  # standard deviations


def diff(before: str, after: str, *, threshold: float = STATS_THRESHOLD) -> Difference:
    """What lies between two versions, of one dataset or of two.

    Args:
        before: A path, a name, or name@version; `after` too.
        threshold: How many standard deviations a mean must move to be told, and by which factor
            less one a standard deviation.

    Raises:
        NotFoundError: There is no such dataset or version.
        StoreError: One is damaged, or is not the one that was registered.
    """
    one, two = open_ref(before), open_ref(after)
    found = compare_versions(one, one.version, two, two.version)
    notes = list(found.notes)
    statistics = [(reader, reader.stats()) for reader in (one, two)]
    lacking = [r for r, stats in statistics if stats is None]
    if lacking and not found.same_content:
        which = " and ".join(f"{r.path}@{r.version.number}" for r in lacking)
        notes.append(f"statistics were not compared: none are saved of {which} (act-data stats)")
    old, new = (stats for _, stats in statistics)
    moves = [] if old is None or new is None else list(_moved_stats(old, new, threshold))
    moves.sort(key=lambda move: -(move.mean_by or 0.0))
    return found.model_copy(update={"stats": tuple(moves), "notes": tuple(notes)})


def compare_versions(
    one: DatasetReader, before: VersionRecord, two: DatasetReader, after: VersionRecord
) -> Difference:
    """What lies between version `before` of the dataset of `one` and version `after` of `two`'s.

    Neither needs to be the version that its reader is pinned to, nor to exist yet.
    """
    pairs = list(_same_episodes(before.episodes, after.episodes))
    old, new = {a.uid for a, _ in pairs}, {b.uid for _, b in pairs}
    removed = [_known(one, e) for e in before.episodes if e.uid not in old]
    added = [_known(two, e) for e in after.episodes if e.uid not in new]
    again = list(_reingested(removed, added))
    for a, b in again:
        removed.remove(a)
        added.remove(b)
    common = {b.uid: place for place, (_, b) in enumerate(pairs)}
    order = [common[e.uid] for e in after.episodes if e.uid in common]
    notes = [
        f"the record of episode {k.entry.uid} is gone: it belonged to a version that was dropped"
        for k in (*removed, *added)
        if k.record is None
    ]
    return Difference(
        before=_version_name(one, before),
        after=_version_name(two, after),
        same_content=before.content_hash == after.content_hash,
        added=tuple(k.name for k in added),
        removed=tuple(k.name for k in removed),
        reingested=tuple(
            Reingested(before=a.name, after=b.name, changed=tuple(_changes(a, b))) for a, b in again
        ),
        moved=tuple(
            SplitMove(uid=b.uid, before=a.split, after=b.split)
            for a, b in pairs
            if a.split != b.split
        ),
        annotated=tuple(_reannotated(one, before, two, after, pairs)),
        reordered=order != sorted(order),
        schema_changes=tuple(differences(one.schema, two.schema)),
        notes=tuple(notes),
    )


# --- episodes -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class _Known:
    """An episode that one of the versions lacks, as far as its dataset still knows it."""

    entry: EpisodeEntry
    record: EpisodeRecord | None

    @property
    def span(self) -> tuple[int, int]:
        if self.record is None:
            return (0, 0)
        return span_of(self.record.info)

    @property
    def name(self) -> EpisodeName:
        return EpisodeName(
            uid=self.entry.uid,
            hash=self.entry.hash,
            steps=self.entry.length,
            recording="" if self.record is None else self.record.info.source.name,
            start_ns=self.span[0],
            end_ns=self.span[1],
        )


def _known(reader: DatasetReader, entry: EpisodeEntry) -> _Known:
    return _Known(entry, _record(reader, entry))


def _record(reader: DatasetReader, entry: EpisodeEntry) -> EpisodeRecord | None:
    """What is written of an episode, whether or not the reader's own version holds it."""
    try:
        if isinstance(reader, ZarrReader):
            found = reader.written(entry.uid)
        else:
            found = reader.episode(entry.uid)
    except StoreError:
        return None
    return found if found.hash == entry.hash else None


def _same_episodes(
    before: Iterable[EpisodeEntry], after: Iterable[EpisodeEntry]
) -> Iterator[tuple[EpisodeEntry, EpisodeEntry]]:
    """Episodes of the same content: those of one uid first, then those of one hash."""
    after = list(after)
    by_uid = {e.uid: e for e in after}
    left = []
    taken: set[str] = set()
    for entry in before:
        other = by_uid.get(entry.uid)
        if other is not None and other.hash == entry.hash:
            taken.add(entry.uid)
            yield entry, other
        else:
            left.append(entry)
    by_hash: dict[str, list[EpisodeEntry]] = {}
    for entry in after:
        if entry.uid not in taken:
            by_hash.setdefault(entry.hash, []).append(entry)
    for entry in left:
        if by_hash.get(entry.hash):
            yield entry, by_hash[entry.hash].pop(0)


def _reingested(removed: list[_Known], added: list[_Known]) -> Iterator[tuple[_Known, _Known]]:
    """Episodes out of the same recording whose spans share more than half of the shorter one."""
    waiting: dict[str, list[_Known]] = {}
    for known in added:
        if known.record is not None:
            waiting.setdefault(known.record.info.source.sha256, []).append(known)
    for old in removed:
        same = [] if old.record is None else waiting.get(old.record.info.source.sha256, [])
        best = max(same, key=lambda new: shared(old.span, new.span), default=None)
        if best is not None and shared(old.span, best.span) > SAME_PART:
            same.remove(best)
            yield old, best


def _changes(old: _Known, new: _Known) -> Iterator[str]:
    a, b = old.record, new.record
    assert a is not None  # only those with a record are matched
    assert b is not None
    if a.hash != b.hash:
        yield "another content"
    if a.length != b.length:
        yield f"{b.length} steps instead of {a.length}"
    for what, one, two in zip(("begins", "ends"), old.span, new.span, strict=True):
        if one != two:
            yield f"{what} {abs(two - one) / 1e9:.3f} s {'later' if two > one else 'earlier'}"
    yield from _sync_changes(a.info, b.info)


def _sync_changes(a: EpisodeInfo, b: EpisodeInfo) -> Iterator[str]:
    if a.sync is None or b.sync is None:
        return
    for name in ("fps", "clock", "ticks", "valid"):
        one, two = getattr(a.sync, name), getattr(b.sync, name)
        if one != two:
            yield f"sync.{name} is {two}, was {one}"
    for stream in sorted(a.sync.streams.keys() & b.sync.streams.keys()):
        for name in ("policy", "tolerance_ms", "clock", "used"):
            one = getattr(a.sync.streams[stream], name)
            two = getattr(b.sync.streams[stream], name)
            if one != two:
                yield f"sync of {stream!r}: {name} is {two}, was {one}"


# --- annotations --------------------------------------------------------------------------------


def _reannotated(
    one: DatasetReader,
    before: VersionRecord,
    two: DatasetReader,
    after: VersionRecord,
    pairs: Iterable[tuple[EpisodeEntry, EpisodeEntry]],
) -> Iterator[Reannotated]:
    other_store = one.uid != two.uid
    for a, b in pairs:
        if not (other_store or a.uid in before.annotations or b.uid in after.annotations):
            continue
        old, new = _said(one, before, a), _said(two, after, b)
        if old is not None and new is not None and old != new:
            yield Reannotated(uid=b.uid, before=old, after=new)


def _said(reader: DatasetReader, version: VersionRecord, entry: EpisodeEntry) -> Annotation | None:
    """What `version` says about an episode; None where nobody knows any more."""
    said = version.annotations.get(entry.uid)
    if said is not None:
        return said
    record = _record(reader, entry)
    return None if record is None else spoken(record.info)


# --- statistics ---------------------------------------------------------------------------------


def _moved_stats(old: StatsRecord, new: StatsRecord, threshold: float) -> Iterator[StatMove]:
    for array in old.features.keys() & new.features.keys():
        yield from _moved_array(array, old.features[array], new.features[array], threshold)


def _moved_array(
    array: str, old: FeatureStats, new: FeatureStats, threshold: float
) -> Iterator[StatMove]:
    for i, columns in enumerate(zip(old.mean, new.mean, old.std, new.std, strict=False)):
        if any(value is None for value in columns):
            continue
        mean_a, mean_b, std_a, std_b = (float(value or 0.0) for value in columns)
        by = abs(mean_b - mean_a) / std_a if std_a else None
        ratio = std_b / std_a if std_a else None
        still = (by or 0.0) <= threshold and abs((ratio or 1.0) - 1) <= threshold
        if still and (std_a or (mean_a, std_a) == (mean_b, std_b)):
            continue
        yield StatMove(
            array=array,
            dimension=old.names[i] if i < len(old.names) else str(i),
            mean_before=mean_a,
            mean_after=mean_b,
            std_before=std_a,
            std_after=std_b,
            mean_by=by,
            std_ratio=ratio,
        )


# --- names --------------------------------------------------------------------------------------


def _version_name(reader: DatasetReader, version: VersionRecord) -> VersionName:
    return VersionName(
        dataset=_names().get(reader.uid, reader.path.stem),
        path=str(reader.path if isinstance(reader.path, Url) else Path(reader.path).absolute()),
        uid=reader.uid,
        version=version.number,
        content_hash=version.content_hash,
        episodes=len(version.episodes),
        steps=sum(entry.length for entry in version.episodes),
    )


def _names() -> Mapping[str, str]:
    return {dataset.uid: dataset.name for dataset in Registry().datasets()}
