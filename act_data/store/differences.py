"""What differs between two dataset schemas, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from act_data.records import DatasetSchema


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
