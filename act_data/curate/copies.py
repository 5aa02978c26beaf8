"""New datasets out of episodes of others, byte for byte: chosen ones, several together, or compact.

Episodes keep uid, hash, split, annotations and where they came from; what is said of the dataset
(licence, citation, description) goes with them. Files are linked where both
datasets lie on one disk, so a copy of 100 GB costs a moment and no room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from act_data.curate.opened import open_zarr, origin
from act_data.curate.records import CopyReport
from act_data.curate.selection import selected
from act_data.errors import ConflictError, InputError
from act_data.records import Annotation, DatasetFacts, EpisodeEntry, SplitRule, VersionOrigin
from act_data.registry import Registry
from act_data.store.differences import differences
from act_data.store.episodes_of_version import now, version_record
from act_data.store.facts import facts_of, together
from act_data.store.files import real_root
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import read_episode, read_root
from act_data.store.zarr_writer import ZarrWriter

Progress = Callable[[int, int], None]
"""Hears the episodes that are there, and how many there will be."""


def _silent(done: int, total: int) -> None:
    pass


def filter_into(
    ref: str,
    where: str,
    out: Path,
    *,
    message: str = "",
    dry_run: bool = False,
    progress: Progress = _silent,
) -> CopyReport:
    """A new dataset of the episodes of `ref` for which `where` is true."""
    reader = open_zarr(ref)
    chosen = selected(reader, (), where)
    if not chosen:
        raise InputError(
            f"--where is true of no episode of {reader.path}", hint="Ask for less of them."
        )
    message = message or f"filter {ref} where {where}"
    return _copy("filter", _Copy.of([(reader, chosen)]), out, message, dry_run, progress)


def merge(
    refs: Sequence[str],
    out: Path,
    *,
    message: str = "",
    dry_run: bool = False,
    progress: Progress = _silent,
) -> CopyReport:
    """A new dataset of the episodes of all `refs`, in their order.

    An episode that comes twice, by content, is in it once: as the first one that has it says.

    Raises:
        ConflictError: They have different schemas, or different episodes of one uid.
    """
    if len(refs) < 2:
        raise InputError("one dataset is no merge", hint="Name two or more.")
    readers = [open_zarr(ref) for ref in refs]
    for other in readers[1:]:
        _refuse_other_schema(readers[0], other)
    chosen = [(reader, range(len(reader.episodes))) for reader in readers]
    message = message or f"merge {' and '.join(refs)}"
    return _copy("merge", _Copy.of(chosen), out, message, dry_run, progress)


def compact(
    ref: str,
    out: Path,
    *,
    message: str = "",
    dry_run: bool = False,
    progress: Progress = _silent,
) -> CopyReport:
    """A new dataset of one version and nothing else: no holes, no older versions, same content."""
    reader = open_zarr(ref)
    chosen = range(len(reader.episodes))
    message = message or f"compact {ref}"
    return _copy("compact", _Copy.of([(reader, chosen)]), out, message, dry_run, progress)


@dataclass(kw_only=True)
class _Copy:
    """What a new dataset is to hold."""

    first: ZarrReader
    episodes: list[tuple[ZarrReader, EpisodeEntry]] = field(default_factory=list)
    annotations: dict[str, Annotation] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)
    made_from: list[VersionOrigin] = field(default_factory=list)
    facts: DatasetFacts = field(default_factory=DatasetFacts)

    @staticmethod
    def of(chosen: Sequence[tuple[ZarrReader, Sequence[int]]]) -> _Copy:
        facts = together([facts_of(reader) for reader, _ in chosen])
        copy = _Copy(first=chosen[0][0], facts=facts)
        known: dict[str, str] = {}  # hash by uid
        for reader, places in chosen:
            copy.made_from.append(origin(reader))
            taken = set(known.values())
            for place in places:
                entry = reader.episodes[place]
                if known.get(entry.uid, entry.hash) != entry.hash:
                    raise ConflictError(
                        f"two different episodes are called {entry.uid!r}: one is in {reader.path}",
                        hint="Filter one of them out: act-data filter --where \"uid != '...'\".",
                    )
                if entry.hash in taken or entry.uid in known:
                    copy.duplicates.append(entry.uid)
                    continue
                known[entry.uid] = entry.hash
                copy.episodes.append((reader, entry))
                if entry.uid in reader.version.annotations:
                    copy.annotations[entry.uid] = reader.version.annotations[entry.uid]
        return copy

    @property
    def rule(self) -> SplitRule | None:
        return self.first.version.split_rule


def _copy(
    verb: str, copy: _Copy, out: Path, message: str, dry_run: bool, progress: Progress
) -> CopyReport:
    _refuse_place(out)
    size = _bytes(copy)
    linked = 0
    content, name = _content_hash(copy, message), ""
    if not dry_run:
        frames = read_root(real_root(copy.first.path)).shard_frames
        with ZarrWriter(out, copy.first.schema, shard_frames=frames) as writer:
            _refuse_others(out, writer, copy)
            for number, (reader, entry) in enumerate(copy.episodes):
                if entry.uid not in writer.durable:
                    writer.copy(reader, entry.uid)
                progress(number + 1, len(copy.episodes))
            uids = [entry.uid for _, entry in copy.episodes]
            version = writer.commit(
                uids,
                message=message,
                splits={entry.uid: entry.split for _, entry in copy.episodes},
                annotations=copy.annotations,
                split_rule=copy.rule,
                made_from=copy.made_from,
                facts=None if copy.facts == DatasetFacts() else copy.facts,
            )
            files = [k for uid in uids for k in writer.durable[uid].files]
        assert version.content_hash == content
        made = ZarrReader(out)
        linked = sum(_shared_bytes(Path(real_root(made.path)) / key) for key in files)
        name = Registry().register(made)
        _take_stats(verb, copy, made)
    return CopyReport(
        verb=verb,
        out=str(out),
        name=name,
        dry_run=dry_run,
        content_hash=content,
        episodes=len(copy.episodes),
        steps=sum(entry.length for _, entry in copy.episodes),
        made_from=tuple(copy.made_from),
        duplicates=tuple(copy.duplicates),
        bytes=size,
        linked_bytes=linked,
        message=message,
    )


def _refuse_place(out: Path) -> None:
    """See that a new act-zarr dataset may be made at `out`, or one be completed there."""
    if (out.parts[:1] and out.parts[0].endswith(":")) or out.suffix != ".zarr":
        raise InputError(
            f"{str(out)!r} is no place for it", hint="Name a new folder that ends in .zarr."
        )
    if (out / "zarr.json").is_file() and read_root(real_root(out)).head.version:
        raise ConflictError(
            f"{str(out)!r} holds a dataset already", hint="Name another place with --out."
        )


def _refuse_others(out: Path, writer: ZarrWriter, copy: _Copy) -> None:
    """See that what an interrupted run left at `out` was meant to become this."""
    wanted = {entry.uid: entry.hash for _, entry in copy.episodes}
    for uid, record in writer.durable.items():
        if wanted.get(uid) != record.hash:
            raise ConflictError(
                f"{str(out)!r} holds the episode {uid!r} of something else",
                hint="Name another place with --out, or remove that one.",
            )


def _refuse_other_schema(one: ZarrReader, other: ZarrReader) -> None:
    differing = differences(other.schema, one.schema)
    if differing:
        raise ConflictError(
            f"{other.path} and {one.path} hold episodes of different schemas; in {other.path} "
            + "; ".join(differing),
            hint=f"What stands after 'not' is in {one.path}. Ingest, or convert, both alike.",
        )


def _content_hash(copy: _Copy, message: str) -> str:
    entries = [entry for _, entry in copy.episodes]
    return version_record(
        copy.first.schema, 1, entries, created=now(), message=message, annotations=copy.annotations
    ).content_hash


def _bytes(copy: _Copy) -> int:
    total = 0
    frames = {id(r): read_root(real_root(r.path)).shard_frames for r, _ in copy.episodes}
    for reader, entry in copy.episodes:
        record = read_episode(real_root(reader.path), entry.uid, frames[id(reader)])
        total += sum(file.bytes for file in record.files.values())
    return total


def _shared_bytes(file: Path) -> int:
    info = file.stat()
    return info.st_size if info.st_nlink > 1 else 0


def _take_stats(verb: str, copy: _Copy, made: ZarrReader) -> None:
    """A compact dataset has the content of its origin, and with it the statistics."""
    stats = copy.first.stats() if verb == "compact" else None
    if stats is not None:
        made.save_stats(stats.model_copy(update={"version": 1, "dataset": str(made.path)}))
