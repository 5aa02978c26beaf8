"""One new version on top of the newest: proposed, compared, and published if it is meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from act_data.curate.diff import compare_versions
from act_data.curate.opened import name_of
from act_data.curate.records import CurationReport
from act_data.errors import ConflictError, InputError
from act_data.records import Annotation, EpisodeEntry, SplitRule, VersionRecord
from act_data.registry import Registry
from act_data.store.episodes_of_version import now, version_record
from act_data.store.zarr_curator import Curator
from act_data.store.zarr_reader import ZarrReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What the next version is to hold."""

    episodes: Sequence[EpisodeEntry]
    annotations: Mapping[str, Annotation]
    split_rule: SplitRule | None
    message: str


Propose = Callable[[ZarrReader], Proposal]
"""What is to follow the version of a reader."""


def change(
    verb: str, reader: ZarrReader, propose: Propose, *, message: str = "", dry_run: bool = False
) -> CurationReport:
    """Put on top of the newest version of `reader`'s dataset what `propose` makes of it.

    Args:
        message: Instead of the proposal's own.

    Raises:
        ConflictError: Somebody else is writing the dataset, or has made a version meanwhile.
        InputError: No episode would be left.
        StoreError: It is damaged, or cannot be written; the newest version stays as it was.
    """
    if dry_run:
        proposal = propose(reader)
        return _report(verb, reader, proposal, _version(reader, proposal, message), dry_run=True)
    with Curator(reader.path) as curator:
        if curator.head != reader.version:
            raise ConflictError(
                f"{reader.path} has a version {curator.head.number} by now",
                hint="Look at it, and run the command again.",
            )
        proposal = propose(reader)
        wanted = _version(reader, proposal, message)
        if not _changes(reader, wanted):
            return _report(verb, reader, proposal, reader.version, dry_run=False)
        made = curator.publish(
            wanted.episodes,
            message=wanted.message,
            annotations=wanted.annotations,
            split_rule=wanted.split_rule,
        )
    after = ZarrReader(reader.path, made.number)
    report = _report(verb, reader, proposal, made, dry_run=False)
    kept = _keep_stats(reader, after)
    name = Registry().register(after)
    return report.model_copy(update={"name": name, "stats_kept": kept})


def _version(reader: ZarrReader, proposal: Proposal, message: str) -> VersionRecord:
    if not proposal.episodes:
        raise InputError(
            f"no episode of {reader.path} would be left",
            hint="A version holds at least one; remove the folder to remove the dataset.",
        )
    return version_record(
        reader.schema,
        reader.version.number + 1,
        proposal.episodes,
        created=now(),
        message=message or proposal.message,
        annotations=proposal.annotations,
        split_rule=proposal.split_rule,
    )


def _changes(reader: ZarrReader, wanted: VersionRecord) -> bool:
    said = ("episodes", "annotations", "split_rule")
    return any(getattr(wanted, name) != getattr(reader.version, name) for name in said)


def _report(
    verb: str, reader: ZarrReader, proposal: Proposal, after: VersionRecord, *, dry_run: bool
) -> CurationReport:
    return CurationReport(
        verb=verb,
        name=name_of(reader),
        dry_run=dry_run,
        changed=_changes(reader, after),
        message=after.message,
        difference=compare_versions(reader, reader.version, reader, after),
        split_rule=proposal.split_rule,
    )


def _keep_stats(before: ZarrReader, after: ZarrReader) -> bool:
    """Keep the statistics of the train split where not one of its steps changed."""
    stats = before.stats()
    if stats is None or _trained(before.version) != _trained(after.version):
        return False
    update = {"version": after.version.number, "content_hash": after.version.content_hash}
    after.save_stats(stats.model_copy(update=update))
    return True


def _trained(version: VersionRecord) -> list[str]:
    return [entry.hash for entry in version.episodes if entry.split == "train"]
