"""A part of a dataset: some of its episodes, or not all of its cameras. It is a dataset of its own.

Its content is another one, so it has its own identity and version 1, and says what it is a part of.
The same part of the same version has the same identity, whoever takes it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from act_data.errors import InputError, NotFoundError
from act_data.records import (
    DatasetFacts,
    DatasetSchema,
    EpisodeEntry,
    EpisodeRecord,
    Feature,
    PartOf,
    VersionRecord,
)
from act_data.remotes.documents import RemoteVersion, files_of
from act_data.store import layout
from act_data.store.episodes_of_version import now, version_record
from act_data.store.hashing import EpisodeHash, canonical_json
from act_data.store.zarr_episode_check import encoded
from act_data.store.zarr_records import Head, RootRecord, dump

NO_CAMERA = "none"
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_PICTURES = ("images/", "depth/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of a version is wanted."""

    schema: DatasetSchema
    entries: tuple[EpisodeEntry, ...]
    without: tuple[str, ...]
    whole: bool


def selected(
    version: RemoteVersion, cameras: Sequence[str] | None, episodes: Sequence[str] | None
) -> Selection:
    """The arrays and episodes that are asked for.

    Args:
        cameras: Names ("cam_high"), or of arrays ("depth/cam_high"); "none" for none; None for all.
        episodes: Numbers ("3"), ranges with both ends ("0-9"), or uids; None for all.

    Raises:
        NotFoundError: The version has no such camera or episode; names those it has.
        InputError: No episode is asked for.
    """
    schema = version.root.dataset_schema
    kept = _arrays(schema, cameras)
    entries = _entries(version.record.episodes, episodes)
    return Selection(
        schema=schema.model_copy(update={"features": kept}),
        entries=entries,
        without=tuple(f.name for f in schema.features if f not in kept),
        whole=len(kept) == len(schema.features) and entries == version.record.episodes,
    )


def part_root(version: RemoteVersion, selection: Selection, name: str) -> RootRecord:
    """The root record of the part, before it has a version."""
    identity = [
        version.root.dataset_uid,
        version.record.content_hash,
        list(selection.without),
        [e.uid for e in selection.entries],
    ]
    return version.root.model_copy(
        update={
            "dataset_uid": hashlib.sha256(canonical_json(identity)).hexdigest()[:32],
            "name": name,
            "dataset_schema": selection.schema,
            "head": Head(version=0),
            "next_shard": 0,
        }
    )


def part_documents(
    root: str,
    record: RootRecord,
    version: RemoteVersion,
    selection: Selection,
    records: Mapping[str, EpisodeRecord],
) -> tuple[dict[str, bytes], VersionRecord, RootRecord]:
    """The documents of the part, its version, and its root with that version.

    Args:
        root: The folder where its files lie at their keys: without a camera an episode is another
            content, whose hash is computed from them.
        record: As `part_root` gives it.
        records: Of the whole version, by uid.
    """
    made = {
        e.uid: _part_of_episode(root, record, selection, records[e.uid]) for e in selection.entries
    }
    entries = tuple(e.model_copy(update={"hash": made[e.uid].hash}) for e in selection.entries)
    reference = version.reference
    told = version_record(
        selection.schema,
        1,
        entries,
        created=now(),
        message=f"a part of {reference.dataset}@v{reference.version}",
        annotations=version.record.annotations,
    )
    facts = facts_at(version).model_copy(
        update={
            "part_of": PartOf(
                dataset=reference.dataset,
                uid=reference.uid,
                version=reference.version,
                content_hash=reference.content_hash,
                without=selection.without,
                of_episodes=len(version.record.episodes),
            )
        }
    )
    documents = {
        layout.episode_key(uid): layout.render(layout.group(act_episode=dump(one)))
        for uid, one in made.items()
    }
    documents[layout.version_key(1)] = layout.render(layout.group(act_version=dump(told)))
    documents[layout.facts_key(1)] = layout.render(layout.group(act_facts=dump(facts)))
    ends = [layout.shards_of(e.start, e.length, record.shard_frames).stop for e in entries]
    update = {"next_shard": max(ends), "head": Head(version=1)}
    return documents, told, record.model_copy(update=update)


def facts_at(version: RemoteVersion) -> DatasetFacts:
    """What people said of `version`, or last of one before it."""
    for number in range(version.reference.version, 0, -1):
        document = version.documents.get(layout.facts_key(number))
        if document is not None:
            value = layout.payload(layout.parse(document, "facts"), "act_facts", "facts")
            return DatasetFacts.model_validate(value)
    return DatasetFacts()


def _part_of_episode(
    root: str, record: RootRecord, selection: Selection, whole: EpisodeRecord
) -> EpisodeRecord:
    if not selection.without:
        return whole
    frames, features = record.shard_frames, selection.schema.features
    digest = EpisodeHash(features)
    for feature in features:
        for data in encoded(root, feature, whole.start, whole.length, frames):
            digest.add(feature.name, data.data)
    kept = files_of(whole, features, frames)
    return whole.model_copy(
        update={
            "hash": digest.hexdigest(whole.length),
            "files": {key: whole.files[key] for key in kept},
        }
    )


def _arrays(schema: DatasetSchema, cameras: Sequence[str] | None) -> tuple[Feature, ...]:
    if cameras is None:
        return schema.features
    wanted = set(cameras) - {NO_CAMERA}
    pictures = {f.name: f.name.partition("/")[2] for f in schema.features if _is_picture(f)}
    unknown = sorted(wanted - pictures.keys() - set(pictures.values()))
    if unknown:
        there = ", ".join(dict.fromkeys(pictures.values())) or "none"
        raise NotFoundError(f"there is no camera {unknown[0]!r}", hint=f"There are: {there}.")
    return tuple(
        f
        for f in schema.features
        if f.name not in pictures or f.name in wanted or pictures[f.name] in wanted
    )


def _is_picture(feature: Feature) -> bool:
    return feature.name.startswith(_PICTURES)


def _entries(
    episodes: Sequence[EpisodeEntry], wanted: Sequence[str] | None
) -> tuple[EpisodeEntry, ...]:
    if wanted is None:
        return tuple(episodes)
    numbers: set[int] = set()
    places = {e.uid: n for n, e in enumerate(episodes)}
    for text in wanted:
        span = _RANGE.fullmatch(text)
        if text in places:
            numbers.add(places[text])
        elif span and int(span[1]) <= int(span[2] or span[1]) < len(episodes):
            numbers |= set(range(int(span[1]), int(span[2] or span[1]) + 1))
        else:
            raise NotFoundError(
                f"there is no episode {text!r}",
                hint=f"There are {len(episodes)}, from 0; name numbers, ranges (0-9) or uids.",
            )
    if not numbers:
        raise InputError("no episode is asked for", hint="For example --episodes 0-9.")
    return tuple(e for n, e in enumerate(episodes) if n in numbers)
