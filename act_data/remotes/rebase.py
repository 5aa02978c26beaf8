"""One's own versions on top of those that somebody else pushed first.

The dataset that both make together is built beside the one that is here, out of links to its files
and of what has to travel, and takes its place in one exchange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from act_data.errors import ConflictError, InputError, StoreError
from act_data.records import DatasetFacts, EpisodeInfo, EpisodeRecord, VersionRecord
from act_data.registry import Registry
from act_data.remotes.address import LATEST, Address
from act_data.remotes.documents import RemoteVersion, asked_reference
from act_data.remotes.here import Here
from act_data.remotes.part import facts_at, selected
from act_data.remotes.pull import Pull, Wanted
from act_data.remotes.records import PullReport, Replayed
from act_data.remotes.replay import (
    State,
    again,
    conflicts,
    dropped_edits,
    fact_conflicts,
    merged,
)
from act_data.remotes.tags import arriving, logs_here, read_tags, take
from act_data.remotes.threads import WORKERS, Progress
from act_data.store import layout, open_dataset
from act_data.store.facts import facts_of
from act_data.store.files import exchange, exists, make_folders, read_whole, write_whole
from act_data.store.zarr_copy import take as take_file
from act_data.store.zarr_curator import Curator
from act_data.store.zarr_folder import ZarrFolder
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import DOCUMENT_BYTES, Head, dump
from act_data.store.zarr_verify import problems
from act_data.store.zarr_writer import ZarrWriter


def rebase(
    address: str,
    out: Path | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    workers: int = WORKERS,
) -> PullReport:
    """Pull the newest version of a dataset, and put one's own versions on top of it again.

    Each version here that the remote does not have is done again, one by one: what it added,
    deleted, annotated, divided anew. It gets the next free number; tags go with it. Where both
    sides did the same it is done once. Without versions of one's own it is a `pull`.

    Args:
        address: REMOTE/name.
        out: The dataset here; name.zarr in the current folder by default.

    Raises:
        InputError: It is no address, or names an older version.
        NotFoundError: The remote has no such dataset.
        ConflictError: Both sides made something else of the same thing, all such things are named;
            or a policy was trained on a version that would go. Nothing was changed here.
        StoreError: What the remote holds is damaged, or something here; nothing was changed here.
    """
    asked = Address.parse(address)
    if asked.tag != LATEST:
        raise InputError(
            f"{address!r} is one version: a rebase goes on top of the newest one",
            hint=f"Name the dataset alone: {asked.remote}/{asked.name}.",
        )
    with Pull(asked, out, dry_run=dry_run) as job:
        theirs = job.version(asked_reference(job.remote, asked))
        here = Here.at(job.target)
        if here is None or not here.newest:
            return job.bring([theirs], selected(theirs, None, None), progress, workers)
        here.refuse_other(theirs.root.dataset_uid, None)
        base = here.common(theirs)
        if base == min(here.newest, theirs.reference.version):
            return job.bring([theirs], selected(theirs, None, None), progress, workers)
        return _Rebase(job, here, theirs, base).bring(progress, workers)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One version of one's own, done again; `changed` when something of it was left to do."""

    mine: VersionRecord
    state: State
    changed: bool


class _Rebase:
    def __init__(self, job: Pull, here: Here, theirs: RemoteVersion, base: int) -> None:
        self._job = job
        self._here = here
        self._theirs = theirs
        self._root = str(job.target)
        reader = open_dataset(job.target)
        assert isinstance(reader, ZarrReader)
        self._reader = reader
        self._base = theirs.versions[base]
        dropped = set(here.record.dropped)
        numbers = [n for n in range(base + 1, here.newest + 1) if n not in dropped]
        self._mine = [here.version(n) for n in numbers]
        self._own = {uid: here.episode(uid) for uid in here.uids()}
        self._arriving: dict[str, EpisodeRecord] = {}

    def bring(self, progress: Progress | None, workers: int) -> PullReport:
        job, theirs = self._job, self._theirs
        whole = selected(theirs, None, None)
        entries = theirs.record.episodes
        missing = [e for e in entries if not self._here.lies(e)]
        wanted = job.wanted([theirs], missing, whole, workers)
        self._arriving = wanted.records
        self._refuse_conflicts()
        steps = self._steps()
        there = read_tags(job.remote, theirs.reference.dataset, theirs.versions)
        unique = {file.digest.sha256: file for file in wanted.files}
        size = sum(file.digest.bytes for file in unique.values())
        numbers = self._numbers(steps)
        content, name, fetched = theirs.reference.content_hash, "", 0
        agreed = arriving(logs_here(job.target), there)
        if job.staging is not None:
            job.gather(wanted, size, progress, workers)
            self._build(job.staging.folder / "new", wanted, steps)
            exchange(job.staging.folder / "new", job.target)
            fetched = job.staging.fetched_bytes
            job.staging.remove()
            job.release()
            made = open_dataset(job.target)
            content, name = made.version.content_hash, Registry().renumber(made, numbers)
            agreed = arriving(logs_here(job.target), there)
            take(job.target, agreed.logs)
        return PullReport(
            remote=job.remote.name,
            dataset=theirs.reference.dataset,
            path=self._root,
            name=name,
            uid=theirs.root.dataset_uid,
            version=theirs.reference.version,
            content_hash=content,
            versions=(theirs.reference.version,),
            tags=tuple(agreed.logs),
            tag_conflicts=tuple(agreed.conflicts),
            rebased=tuple(
                Replayed(
                    before=step.mine.number,
                    after=numbers[step.mine.number] if step.changed else None,
                    message=step.mine.message,
                    episodes=len(step.state.episodes),
                )
                for step in steps
            ),
            notes=tuple(dropped_edits(self._base, self._mine[-1], theirs.record)),
            episodes=len(steps[-1].state.episodes),
            bytes=size,
            fetched_bytes=fetched if job.staging is not None else size,
            fetched_blobs=0 if job.staging is None else job.staging.fetched_blobs,
            dry_run=job.staging is None,
        )

    # --- planning -----------------------------------------------------------------------------

    def _info(self, uid: str) -> EpisodeInfo:
        return (self._own.get(uid) or self._arriving[uid]).info

    def _refuse_conflicts(self) -> None:
        theirs, last = self._theirs, self._mine[-1]
        found = list(conflicts(self._base, last, theirs.record, self._info))
        found += fact_conflicts(*self._facts())
        gone = {e.uid for n, v in theirs.versions.items() for e in v.episodes} - {
            e.uid for e in (*theirs.record.episodes, *self._base.episodes)
        }
        common = {e.uid for n in range(1, self._base.number + 1) for e in
                  theirs.versions[n].episodes}  # fmt: skip
        found += [
            f"episode {e.uid} was ingested on both sides, and deleted again there"
            for e in last.episodes
            if e.uid in gone - common
        ]
        if found:
            raise ConflictError(
                f"{self._root!r} and the remote's version {theirs.reference.version} cannot be "
                f"brought together: {'; '.join(found)}",
                hint="Delete or change one's own side of it (act-data delete-episodes, annotate, "
                "split, card), and rebase again.",
            )
        self._refuse_trained()

    def _refuse_trained(self) -> None:
        """See that nobody trained on a version that gets another number, unless it is kept."""
        registry = Registry()
        of = {v.number: v.content_hash for v in self._mine}
        uid = self._theirs.root.dataset_uid
        trained = [
            c
            for c in registry.checkpoints()
            if c.dataset_uid == uid and of.get(c.version) == c.content_hash
        ]
        kept = {v.content_hash for d in registry.datasets() if d.uid != uid for v in d.versions}
        for checkpoint in trained if trained else ():
            if checkpoint.content_hash not in kept:
                raise ConflictError(
                    f"{checkpoint.folder} was trained on version {checkpoint.version} of "
                    f"{self._root!r}, which a rebase would replace",
                    hint=f"Keep its content: act-data compact {self._root}@{checkpoint.version} "
                    f"--out {self._reader.path.stem}-v{checkpoint.version}.zarr",
                )

    def _steps(self) -> list[_Step]:
        steps: list[_Step] = []
        state, before = State.of(self._theirs.record), self._base
        for after in self._mine:
            new = again(before, after, state, self._info)
            steps.append(_Step(mine=after, state=new, changed=new != state))
            state, before = new, after
        return steps

    def _numbers(self, steps: Sequence[_Step]) -> dict[int, int]:
        """The new number of every version of one's own, by its old one."""
        numbers, number = {}, self._theirs.reference.version
        changed = {step.mine.number: step.changed for step in steps}
        for old in range(self._base.number + 1, self._here.newest + 1):
            number += changed.get(old, False)
            numbers[old] = number
        return numbers

    def _facts(self) -> tuple[DatasetFacts, DatasetFacts, DatasetFacts]:
        base = ZarrReader(self._reader.path, self._mine[-1].number)
        at = next(
            (n for n in range(self._base.number, 0, -1) if exists(self._root, layout.facts_key(n))),
            None,
        )
        if at is None:
            return DatasetFacts(), facts_of(base), facts_at(self._theirs)
        document = self._document(layout.facts_key(at))
        value = layout.payload(layout.parse(document, "facts"), "act_facts", "facts")
        return DatasetFacts.model_validate(value), facts_of(base), facts_at(self._theirs)

    # --- building -----------------------------------------------------------------------------

    def _document(self, key: str) -> bytes:
        return read_whole(self._root, key, DOCUMENT_BYTES)

    def _build(self, tree: Path, wanted: Wanted, steps: Sequence[_Step]) -> None:
        """Make in `tree` the remote's dataset, and the own versions on top of it."""
        job, theirs = self._job, self._theirs
        assert job.staging is not None
        blank = theirs.root.model_copy(update={"head": Head(version=0), "next_shard": 0})
        folder = ZarrFolder(tree, blank)
        folder.create()
        job.staging.move(wanted.files, tree)
        placed = self._placed()
        documents = {layout.episode_key(uid): self._document(layout.episode_key(uid))
                     for uid in placed}  # fmt: skip
        for record in placed.values():
            for key, digest in record.files.items():
                make_folders(tree, (tree / key).parent)
                take_file(self._root, key, digest, tree / key)
        said = [k for n in range(1, self._base.number + 1)
                for k in (layout.facts_key(n), layout.stats_key(n))]  # fmt: skip
        documents |= {**wanted.documents, **theirs.documents}
        documents |= {key: self._document(key) for key in said if exists(self._root, key)}
        dropped = tuple(n for n in self._here.record.dropped if n <= self._base.number)
        update = {
            "head": Head(version=theirs.reference.version),
            "next_shard": theirs.root.next_shard,
            "dropped": dropped,
        }
        folder.take_over(documents, theirs.record, self._here.record.model_copy(update=update))
        folder.clear_scratch()
        with ZarrWriter(tree, self._reader.schema, shard_frames=blank.shard_frames) as writer:
            for uid in self._own:
                if uid not in writer.durable and self._complete(uid):
                    writer.copy(self._reader, uid)
            places = dict(writer.durable)
        self._publish(tree, places, steps)
        found = problems(str(tree), open_dataset(tree).version, "quick")
        if found:
            raise StoreError(f"the rebased dataset is not sound: {found[0]}")

    def _publish(
        self, tree: Path, places: Mapping[str, EpisodeRecord], steps: Sequence[_Step]
    ) -> None:
        with Curator(tree) as curator:
            for step in steps:
                if step.changed:
                    curator.publish(
                        [
                            e.model_copy(update={"start": places[e.uid].start})
                            for e in step.state.episodes
                        ],
                        message=step.mine.message,
                        annotations=step.state.annotations,
                        split_rule=step.state.rule,
                        made_from=step.mine.made_from,
                    )
            newest = curator.head.number
        base, mine, theirs = self._facts()
        facts, _ = merged(base, mine, theirs)
        if facts != theirs:
            document = layout.render(layout.group(act_facts=dump(facts)))
            write_whole(tree, layout.facts_key(newest), document, tree.with_name("facts"))

    def _placed(self) -> dict[str, EpisodeRecord]:
        """Episodes that lie here where the remote's versions have them, by uid."""
        named = {e.uid: e for v in self._theirs.versions.values() for e in v.episodes}
        return {
            uid: record
            for uid, record in self._own.items()
            if uid in named and uid not in self._arriving and self._here.lies(named[uid])
        }

    def _complete(self, uid: str) -> bool:
        """Whether all files of an own episode are here; of what gc took nothing is kept."""
        return self._here.files_are_here(self._own[uid])
