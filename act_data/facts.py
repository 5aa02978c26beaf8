"""What is known about an episode in single values: what a filter may ask, and an index may keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from act_data.records import Annotation, DatasetSchema, EpisodeEntry, EpisodeInfo, SyncReport

FactKind = Literal["text", "number", "flag", "day"]
FactValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that is known about every episode, or of some.

    Attributes:
        kind: "text"; "number" (int or float); "flag" (bool); "day" ("2026-05-31", UTC, a str).
        nullable: None where nobody said it. Texts never are: "" where nobody said anything.
        says: For people.
    """

    kind: FactKind
    nullable: bool = False
    says: str


FACTS: Mapping[str, Fact] = {
    "uid": Fact(kind="text", says="identity of the episode"),
    "index": Fact(kind="number", says="place in its version, from 0"),
    "length": Fact(kind="number", says="steps"),
    "seconds": Fact(kind="number", says="steps over the rate of the dataset"),
    "split": Fact(kind="text", says="train or val"),
    "task": Fact(kind="text", says="what was done"),
    "operator": Fact(kind="text", says="who did it"),
    "success": Fact(kind="flag", nullable=True, says="whether it succeeded"),
    "notes": Fact(kind="text", says="what else a person said"),
    "source": Fact(kind="text", says="name of the recording"),
    "source_kind": Fact(kind="text", says="ros1, db3, mcap, lerobot, policy, ..."),
    "robot": Fact(kind="text", says="preset of the dataset"),
    "rate_hz": Fact(kind="number", says="steps per second of the dataset"),
    "cameras": Fact(kind="text", says="names of the dataset's cameras, a space between two"),
    "recorded": Fact(kind="day", nullable=True, says="day of its first tick, UTC"),
    "skew_p95_ms": Fact(
        kind="number", nullable=True, says="of the required stream with the largest"
    ),
    "valid_share": Fact(kind="number", nullable=True, says="of the ticks of its recording, 0 to 1"),
}


def facts_of(
    schema: DatasetSchema, index: int, entry: EpisodeEntry, info: EpisodeInfo
) -> dict[str, FactValue]:
    """The value of every name in `FACTS`.

    Args:
        index: Place of `entry` in its version.
        info: What the version says about the episode, annotations included.
    """
    sync = info.sync
    return {
        "uid": entry.uid,
        "index": index,
        "length": entry.length,
        "seconds": entry.length / schema.fps,
        "split": entry.split,
        "task": info.task,
        "operator": info.operator,
        "success": info.success,
        "notes": info.notes,
        "source": info.source.name,
        "source_kind": info.source.kind,
        "robot": schema.robot,
        "rate_hz": schema.fps,
        "cameras": " ".join(camera_names(schema)),
        "recorded": _recorded(schema, info),
        "skew_p95_ms": None if sync is None else _skew(sync),
        "valid_share": None if sync is None or not sync.ticks else sync.valid / sync.ticks,
    }


def spoken(info: EpisodeInfo) -> Annotation:
    """What an episode's own record says that people may say otherwise."""
    return Annotation(
        task=info.task, operator=info.operator, success=info.success, notes=info.notes
    )


def camera_names(schema: DatasetSchema) -> list[str]:
    """The names of a dataset's cameras, in its order."""
    prefix = "images/"
    names = (feature.name for feature in schema.features)
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def _recorded(schema: DatasetSchema, info: EpisodeInfo) -> str | None:
    if schema.stamps == "nominal":
        return None
    start_ns = info.source.start_ns if info.segment is None else info.segment.start_ns
    try:
        day = datetime.fromtimestamp(start_ns // 10**9, UTC).date()
    except (OverflowError, ValueError, OSError):  # a clock that was never set
        return None
    return day.isoformat() if start_ns > 0 else None


def _skew(sync: SyncReport) -> float | None:
    skews = [s.skew_abs_p95_ms for s in sync.streams.values() if s.required]
    return max((s for s in skews if s is not None), default=None)
