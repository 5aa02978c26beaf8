"""What the registry keeps of an episode and of its recording, each as one row."""

from __future__ import annotations

from typing import Any

from act_data.facts import facts_of
from act_data.records import DatasetSchema, EpisodeEntry, EpisodeRecord, SourceRecord
from act_data.registry.words import indexed

# The columns of `episode` that carry a fact, under the name that a condition asks it by.
_KEPT = ("length", "task", "operator", "success", "notes", "recorded", "skew_p95_ms", "valid_share")


def identity(entry: EpisodeEntry) -> dict[str, Any]:
    """What the version alone says; the facts of its record are empty."""
    return {
        "uid": entry.uid,
        "hash": entry.hash,
        "length": entry.length,
        "source": None,
        "segment": 0,
        "start_ns": 0,
        "end_ns": 0,
        "created": "",
        "task": "",
        "operator": "",
        "success": None,
        "notes": "",
        "recorded": None,
        "skew_p95_ms": None,
        "spread_ms": None,
        "valid_share": None,
        "drops": None,
        "words": "",
    }


def episode_row(
    schema: DatasetSchema, entry: EpisodeEntry, record: EpisodeRecord, dialect: str
) -> dict[str, Any]:
    """All of it but what says where it is in the index: `id`, `dataset`, `source`."""
    info = record.info
    facts = facts_of(schema, 0, entry, info)
    kept = {
        name: plain(value) if isinstance(value := facts[name], str) else value for name in _KEPT
    }
    span = info.source if info.segment is None else info.segment
    sync = info.sync
    return identity(entry) | {
        **kept,
        "segment": 0 if info.segment is None else info.segment.number,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "created": record.created,
        "spread_ms": None if sync is None else sync.camera_spread_p99_ms,
        "drops": None if sync is None else sum(s.estimated_drops for s in sync.streams.values()),
        "words": indexed((info.task, info.operator, info.notes), dialect),
    }


def source_row(source: SourceRecord) -> dict[str, Any]:
    """The columns of `source` that are the recording's own."""
    return {
        "sha256": plain(source.sha256),
        "name": plain(source.name),
        "kind": source.kind,
        "files": plain("\n".join(source.files)),
        "topics": plain("\n".join(source.topics)),
        "start_ns": source.start_ns,
        "end_ns": source.end_ns,
    }


def plain(text: str) -> str:
    """`text` as every database takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()
