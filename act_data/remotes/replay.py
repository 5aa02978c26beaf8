"""What one side did to a dataset, done again on top of what the other side did meanwhile.

Both sides start from a version that they have in common. Only lists and what people said are looked
at here; no file is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from act_data.facts import spoken
from act_data.records import (
    Annotation,
    DatasetFacts,
    EpisodeEntry,
    EpisodeInfo,
    Record,
    Split,
    SplitRule,
    VersionRecord,
)
from act_data.spans import SAME_PART, shared, span_of
from act_data.store.splits import bucket

R = TypeVar("R", bound=Record)

Info = Callable[[str], EpisodeInfo]
"""What the record of an episode says, by uid."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a version holds, apart from its number."""

    episodes: tuple[EpisodeEntry, ...]
    annotations: Mapping[str, Annotation]
    rule: SplitRule | None

    @staticmethod
    def of(version: VersionRecord) -> State:
        """What `version` holds."""
        return State(
            episodes=version.episodes,
            annotations=version.annotations,
            rule=version.split_rule,
        )


def again(before: VersionRecord, after: VersionRecord, state: State, info: Info) -> State:
    """`state` with everything that was done between `before` and `after`."""
    episodes = _episodes(before, after, state)
    annotations = dict(state.annotations)
    old = {e.uid for e in before.episodes}
    for uid in {*before.annotations, *after.annotations} & {e.uid for e in after.episodes}:
        own = spoken(info(uid))
        was = before.annotations.get(uid, own) if uid in old else own
        said, _ = merged(was, after.annotations.get(uid, own), annotations.get(uid, own))
        annotations[uid] = said
        if said == own:
            del annotations[uid]
    held = {e.uid for e in episodes}
    return State(
        episodes=tuple(episodes),
        annotations={uid: a for uid, a in annotations.items() if uid in held},
        rule=state.rule if after.split_rule == before.split_rule else after.split_rule,
    )


def merged(base: R, mine: R, theirs: R) -> tuple[R, list[str]]:
    """`theirs` with what `mine` changed of `base`, and the fields that both changed otherwise."""
    changes, conflicts = {}, []
    for name in type(base).model_fields:
        was, here, there = (getattr(record, name) for record in (base, mine, theirs))
        if here != was:
            changes[name] = here
            if there not in (was, here):
                conflicts.append(name)
    return theirs.model_copy(update=changes), conflicts


def conflicts(
    base: VersionRecord, mine: VersionRecord, theirs: VersionRecord, info: Info
) -> Iterator[str]:
    """A sentence for everything of which both sides made something else since `base`."""
    old = {e.uid for e in base.episodes}
    there = {e.uid: e for e in theirs.episodes}
    added = [e for e in theirs.episodes if e.uid not in old]
    for entry in mine.episodes:
        other = there.get(entry.uid)
        if other is not None and other.hash != entry.hash:
            yield f"episode {entry.uid} has other content there"
        if entry.uid not in old:
            for other in added:
                if other.hash != entry.hash and _same_part(info(entry.uid), info(other.uid)):
                    yield (
                        f"{info(entry.uid).source.name!r} was ingested here as episode "
                        f"{entry.uid} and otherwise there as {other.uid}"
                    )
    for uid in sorted({*mine.annotations, *theirs.annotations, *base.annotations}):
        if uid in there and uid in {e.uid for e in mine.episodes}:
            own = spoken(info(uid))
            said = (version.annotations.get(uid, own) for version in (base, mine, theirs))
            _, names = merged(*said)
            yield from (f"the {name} of episode {uid} was changed on both sides" for name in names)
    if base.split_rule not in (mine.split_rule, theirs.split_rule) and (
        mine.split_rule != theirs.split_rule
    ):
        yield "the rule of the split was changed on both sides"


def fact_conflicts(base: DatasetFacts, mine: DatasetFacts, theirs: DatasetFacts) -> Iterator[str]:
    """As `conflicts`, of what is said about the whole dataset."""
    _, names = merged(base, mine, theirs)
    yield from (f"the {name} was said otherwise on both sides" for name in names)


def dropped_edits(base: VersionRecord, mine: VersionRecord, theirs: VersionRecord) -> Iterator[str]:
    """A sentence for every episode that one side deleted while the other said something of it."""
    sides = (("here", mine, "there", theirs), ("there", theirs, "here", mine))
    for where, deleting, elsewhere, saying in sides:
        kept = {e.uid for e in deleting.episodes}
        for entry in base.episodes:
            told = saying.annotations.get(entry.uid) != base.annotations.get(entry.uid)
            if entry.uid not in kept and told and entry.uid in {e.uid for e in saying.episodes}:
                yield (
                    f"episode {entry.uid} was deleted {where} and annotated {elsewhere}: it stays "
                    "deleted"
                )


def _episodes(before: VersionRecord, after: VersionRecord, state: State) -> list[EpisodeEntry]:
    old = {e.uid: e for e in before.episodes}
    new = {e.uid: e for e in after.episodes}
    ruled = after.split_rule if after.split_rule != before.split_rule else None
    kept = []
    for entry in state.episodes:
        if entry.uid in old and entry.uid not in new:
            continue
        split = entry.split
        if entry.uid in old and old[entry.uid].split != new[entry.uid].split:
            split = new[entry.uid].split
        elif ruled is not None and entry.uid not in new:
            split = _side(entry, ruled)  # the rule holds for what the others added, too
        kept.append(entry.model_copy(update={"split": split}))
    kept = _in_order(kept, [e.uid for e in before.episodes], list(new))
    held = {e.uid for e in kept} | {e.hash for e in kept}
    rule = state.rule if ruled is None and state.rule != before.split_rule else None
    last, following = "", dict[str, list[EpisodeEntry]]()
    for entry in after.episodes:
        if entry.uid in old or entry.uid in held or entry.hash in held:
            last = entry.uid if entry.uid in held else last
        else:
            side = entry.split if rule is None else _side(entry, rule)
            following.setdefault(last, []).append(entry.model_copy(update={"split": side}))
    # What ends the list there ends it here; the rest comes behind what it followed.
    ending = following.pop(last, []) if last else following.pop("", [])
    found = following.pop("", [])
    for entry in kept:
        found += [entry, *following.get(entry.uid, [])]
    return [*found, *ending]


def _in_order(
    entries: list[EpisodeEntry], before: Sequence[str], after: Sequence[str]
) -> list[EpisodeEntry]:
    """`entries` in the order that those of `before` got in `after`, if it is another one."""
    common = set(before) & set(after)
    if [u for u in before if u in common] == [u for u in after if u in common]:
        return entries
    mine = {e.uid: e for e in entries if e.uid in common}
    order = iter([mine[uid] for uid in after if uid in mine])
    return [next(order) if entry.uid in mine else entry for entry in entries]


def _side(entry: EpisodeEntry, rule: SplitRule) -> Split:
    return "val" if bucket(entry.hash, rule.seed) < rule.val_share else "train"


def _same_part(one: EpisodeInfo, two: EpisodeInfo) -> bool:
    same = one.source.sha256 == two.source.sha256
    return same and shared(span_of(one), span_of(two)) > SAME_PART
