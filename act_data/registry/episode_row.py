"""What the registry keeps of an episode and of its recording, each as one row."""

from __future__ import annotations

import hashlib
from typing import Any

from act_data.facts import facts_of
from act_data.records import (
    Annotation,
    DatasetSchema,
    EpisodeEntry,
    EpisodeRecord,
    SourceRecord,
    VersionRecord,
)
from act_data.registry.words import indexed

# The columns of `episode` that carry a fact, under the name that a condition asks it by.
_KEPT = ("length", "task", "operator", "success", "notes", "recorded", "skew_p95_ms", "valid_share")

Key = tuple[str, str, str]
"""uid, hash, and digest of what people said: what makes two rows of episodes different ones."""


def key_of(version: VersionRecord, entry: EpisodeEntry) -> Key:
    """Which row of `episode` the version means with its `entry`."""
    return entry.uid, entry.hash, _digest(version.annotations.get(entry.uid))


def identity(entry: EpisodeEntry, said: str) -> dict[str, Any]:
    """What the version alone says; the facts of its record are empty."""
    return {
        "uid": entry.uid,
        "hash": entry.hash,
        "said": said,
        "length": entry.length,
        "source": None,
        "success": None,
        "recorded": None,
        "valid_share": None,
        "skew_p95_ms": None,
        "task": "",
        "operator": "",
        "notes": "",
        "words": "",
    }


def episode_row(
    schema: DatasetSchema, entry: EpisodeEntry, said: str, record: EpisodeRecord, dialect: str
) -> dict[str, Any]:
    """All of it but what says where it is in the index: `id`, `dataset`, `source`."""
    facts = facts_of(schema, 0, entry, record.info)
    kept = {
        name: plain(value) if isinstance(value := facts[name], str) else value for name in _KEPT
    }
    texts = (record.info.task, record.info.operator, record.info.notes)
    return identity(entry, said) | kept | {"words": indexed(texts, dialect)}


def source_row(source: SourceRecord) -> tuple[str, str, str]:
    """The columns of `source` that are the recording's own: sha256, name, kind."""
    return plain(source.sha256), plain(source.name), plain(source.kind)


def plain(text: str) -> str:
    """`text` as every database takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _digest(said: Annotation | None) -> str:
    if said is None:
        return ""
    return hashlib.sha256(said.model_dump_json().encode(errors="replace")).hexdigest()[:32]
