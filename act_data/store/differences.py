"""What differs between two dataset schemas, for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from act_data.errors import ConflictError
from act_data.records import DatasetSchema


def refuse_other_schema(path: Path, there: DatasetSchema, here: DatasetSchema) -> None:
    """See that what lies at `path` has the schema that was asked for.

    Raises:
        ConflictError: It has not; names every entry that differs.
    """
    differing = differences(there, here)
    if differing:
        raise ConflictError(
            f"{str(path)!r} holds episodes of another schema: {'; '.join(differing)}",
            hint="Ingest with the same robot and codec, or into another path.",
        )


def differences(there: DatasetSchema, here: DatasetSchema) -> list[str]:
    """One phrase per entry that differs, such as "features.qpos.shape is [14], not [7]".

    Args:
        there: The schema of the dataset on disk.
        here: The schema that was asked for.
    """
    return list(_compare("", _entries(there), _entries(here)))


def _entries(schema: DatasetSchema) -> dict[str, Any]:
    entries = schema.model_dump(mode="json")
    for key in ("features", "columns"):
        rows = entries[key]
        entries[key] = {row["name"]: row for row in rows}
        entries[f"order of {key}"] = [row["name"] for row in rows]
    return entries


def _compare(where: str, there: Any, here: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(k for k in here if k not in there)]:
            path = f"{where}.{key}" if where else str(key)
            if key not in here:
                yield f"{path} is there, not here"
            elif key not in there:
                yield f"{path} is not there"
            else:
                yield from _compare(path, there[key], here[key])
    elif there != here:
        yield f"{where} is {there!r}, not {here!r}"
