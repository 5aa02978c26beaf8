"""New versions of a dataset out of episodes that it holds: fewer, back again, divided anew, named.

No byte of an episode is written: a version is a list. Older versions stay what they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from act_data.curate.change import Proposal, change
from act_data.curate.opened import open_newest, open_zarr
from act_data.curate.records import CurationReport
from act_data.curate.selection import named, selected
from act_data.errors import InputError, NotFoundError
from act_data.facts import spoken
from act_data.records import Annotation, EpisodeEntry, Split, SplitRule
from act_data.store import open_dataset
from act_data.store.files import real_root
from act_data.store.splits import assign
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import read_root


def delete_episodes(
    ref: str,
    items: Sequence[str] = (),
    *,
    where: str | None = None,
    message: str = "",
    dry_run: bool = False,
) -> CurationReport:
    """A version without these episodes; see `selected` and `change` for arguments and errors."""
    reader = open_newest(ref)
    going = set(selected(reader, items, where))
    if not going:
        raise NotFoundError(
            f"no episode of {reader.path} is meant", hint="See `act-data show` for what there is."
        )

    def propose(reader: ZarrReader) -> Proposal:
        return _with(
            reader,
            [e for n, e in enumerate(reader.episodes) if n not in going],
            message=f"delete {len(going)} episodes" + (f" where {where}" if where else ""),
        )

    return change("delete-episodes", reader, propose, message=message, dry_run=dry_run)


def keep_where(ref: str, where: str, *, message: str = "", dry_run: bool = False) -> CurationReport:
    """A version with only the episodes for which `where` is true."""
    reader = open_newest(ref)
    staying = set(selected(reader, (), where))

    def propose(reader: ZarrReader) -> Proposal:
        kept = [e for n, e in enumerate(reader.episodes) if n in staying]
        return _with(reader, kept, message=f"filter where {where}")

    return change("filter", reader, propose, message=message, dry_run=dry_run)


def restore(
    ref: str, items: Sequence[str] = (), *, message: str = "", dry_run: bool = False
) -> CurationReport:
    """A version that has again what an older one had.

    An episode comes back at its old place, with its split and annotations of then, so that
    restoring all that was deleted gives the content hash of before.

    Args:
        ref: "ds@3": everything as version 3 has it, or `items` of version 3. "ds": each of `items`
            (uids, or how one begins) from the newest version that has it.

    Raises:
        StoreError: An episode was collected as garbage since.
    """
    asked = open_zarr(ref)
    newest = open_dataset(asked.path)
    assert isinstance(newest, ZarrReader)
    older = asked.version.number != newest.version.number
    if not older and not items:
        raise InputError(
            f"{ref!r} is the newest version: what is to come back?",
            hint="Name a version (act-data restore ds@3), or the uids of deleted episodes.",
        )

    def propose(reader: ZarrReader) -> Proposal:
        if older and not items:
            state = asked.version
            return Proposal(
                episodes=state.episodes,
                annotations=state.annotations,
                split_rule=state.split_rule,
                message=f"restore version {state.number}",
            )
        episodes, annotations = list(reader.episodes), dict(reader.version.annotations)
        for source, uids in _sources(reader, asked if older else None, items):
            episodes = _put_back(episodes, source, uids)
            then = source.version.annotations
            annotations = {uid: then[uid] for uid in uids if uid in then} | annotations
        count = len(episodes) - len(reader.episodes)
        return Proposal(
            episodes=episodes,
            annotations=annotations,
            split_rule=reader.version.split_rule,
            message=f"restore {count} episodes",
        )

    return change("restore", newest, propose, message=message, dry_run=dry_run)


def split(
    ref: str,
    *,
    val_share: float | None = None,
    seed: int | None = None,
    val: Sequence[str] = (),
    val_where: str | None = None,
    message: str = "",
    dry_run: bool = False,
) -> CurationReport:
    """A version whose episodes are divided anew into training and validation.

    By rule, an episode is held out when the bucket of its content and the seed is below the share;
    the rule is kept and holds for episodes to come. Under the same rule no episode ever moves,
    whatever is added. By list, exactly the named episodes are held out.

    Args:
        val_share: Of the rule; None keeps the one in force.
        seed: Of the rule; None keeps the one in force.
        val: The episodes to hold out, as `selected` has it.
        val_where: The episodes to hold out, by a condition.
    """
    reader = open_newest(ref)
    by_list = bool(val) or val_where is not None
    if by_list == (val_share is not None or seed is not None):
        raise InputError(
            "a split goes by rule or by list",
            hint="Give --val-share (and --seed), or --val / --val-where.",
        )
    held_out = set(selected(reader, val, val_where)) if by_list else set()
    if by_list and not len(held_out) % len(reader.episodes):
        what = "all episodes are" if held_out else "no episode is"
        raise InputError(f"{what} named for validation", hint="Name some, not all.")
    in_force = reader.version.split_rule or SplitRule()
    asked = {"val_share": val_share, "seed": seed}
    rule = SplitRule.model_validate(
        {**in_force.model_dump(), **{k: v for k, v in asked.items() if v is not None}}
    )

    def propose(reader: ZarrReader) -> Proposal:
        entries = reader.episodes
        sides: list[Split]
        if by_list:
            sides = ["val" if n in held_out else "train" for n in range(len(entries))]
            words, kept = f"hold out {len(held_out)} episodes", reader.version.split_rule
        elif rule == reader.version.split_rule:
            sides, words, kept = [e.split for e in entries], "", rule
        else:
            sides = assign((), [e.hash for e in entries], rule=rule)
            words, kept = f"hold out {rule.val_share:g} by content and seed {rule.seed}", rule
        return Proposal(
            episodes=[
                entry.model_copy(update={"split": side})
                for entry, side in zip(entries, sides, strict=True)
            ],
            annotations=reader.version.annotations,
            split_rule=kept,
            message=words,
        )

    return change("split", reader, propose, message=message, dry_run=dry_run)


def annotate(
    ref: str,
    items: Sequence[str],
    said: Annotation,
    *,
    where: str | None = None,
    success_unknown: bool = False,
    message: str = "",
    dry_run: bool = False,
) -> CurationReport:
    """A version that says something else about these episodes: task, operator, success, notes.

    It takes the place of what their records say; those, and their hashes, stay as they are.

    Args:
        said: None leaves it as it is.
        success_unknown: Nobody knows any more whether they succeeded.
    """
    reader = open_newest(ref)
    if said == Annotation() and not success_unknown:
        raise InputError("nothing is said", hint="Give --task, --operator, --success or --notes.")
    places = selected(reader, items, where)
    if not places:
        raise NotFoundError(
            f"no episode of {reader.path} is meant", hint="See `act-data show` for what there is."
        )

    def propose(reader: ZarrReader) -> Proposal:
        annotations = dict(reader.version.annotations)
        for place in places:
            uid = reader.episodes[place].uid
            new = said.over(spoken(reader.episode(uid).info))
            if success_unknown:
                new = new.model_copy(update={"success": None})
            if new == spoken(reader.written(uid).info):
                annotations.pop(uid, None)  # what its record says: nothing to say beside it
            else:
                annotations[uid] = new
        words = ", ".join([*said.model_dump(exclude_none=True), *["success"] * success_unknown])
        return Proposal(
            episodes=reader.episodes,
            annotations=annotations,
            split_rule=reader.version.split_rule,
            message=f"annotate {words} of {len(places)} episodes",
        )

    return change("annotate", reader, propose, message=message, dry_run=dry_run)


def _with(reader: ZarrReader, episodes: Sequence[EpisodeEntry], *, message: str) -> Proposal:
    return Proposal(
        episodes=episodes,
        annotations=reader.version.annotations,
        split_rule=reader.version.split_rule,
        message=message,
    )


def _sources(
    newest: ZarrReader, asked: ZarrReader | None, items: Sequence[str]
) -> Iterator[tuple[ZarrReader, list[str]]]:
    """Older versions, and the uids that are to come back from each, in the order it has them."""
    if asked is not None:
        yield asked, [asked.episodes[n].uid for n in sorted(named(asked, items))]
        return
    waiting = {part.strip() for text in items for part in text.split(",")}
    for number in sorted(set(read_root(real_root(newest.path)).kept), reverse=True):
        older = ZarrReader(newest.path, number)
        found = {w: [e.uid for e in older.episodes if _means(w, e.uid)] for w in sorted(waiting)}
        for word, uids in found.items():
            if len(uids) > 1:
                raise NotFoundError(
                    f"{len(uids)} uids of version {number} begin with {word!r}",
                    hint=f"Say more of it: {', '.join(uids[:5])}.",
                )
        back = {uid for uids in found.values() for uid in uids}
        if back:
            yield older, [e.uid for e in older.episodes if e.uid in back]
        waiting -= {word for word, uids in found.items() if uids}
        if not waiting:
            return
    raise NotFoundError(
        f"no version of {newest.path} has an episode {sorted(waiting)[0]!r}",
        hint="Name uids; numbers need a version: act-data restore ds@3 5-7.",
    )


def _means(word: str, uid: str) -> bool:
    return word == uid or (len(word) >= 4 and uid.startswith(word))


def _put_back(
    episodes: Sequence[EpisodeEntry], source: ZarrReader, uids: Sequence[str]
) -> list[EpisodeEntry]:
    """`episodes` with those `uids` of `source` among them, each after the one it followed there."""
    held = {entry.uid for entry in episodes}
    coming = set(uids) - held
    after: dict[str, list[EpisodeEntry]] = {}
    last = ""
    for entry in source.episodes:
        if entry.uid in coming:
            after.setdefault(last, []).append(entry)
        elif entry.uid in held:
            last = entry.uid
    back = list(after.pop("", []))
    for entry in episodes:
        back += [entry, *after.get(entry.uid, [])]
    return back
