"""Parquet files that may have been made by anybody, read from front to back."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from act_data.convert.lerobot.column import Column
from act_data.errors import DataError
from act_data.store.files import open_regular

_DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)


class TableReader:
    """One parquet file that may have been made by anybody, its rows from front to back.

    Raises:
        DataError: It is no parquet file, or lacks a column.
    """

    def __init__(self, root: str, key: str, columns: Mapping[str, Column]) -> None:
        self.key = key
        self._columns = columns
        try:
            fd, _ = open_regular(root, key)
        except FileNotFoundError as e:
            raise DataError(f"table {key!r} is missing") from e
        with ExitStack() as undo:
            self._file = undo.enter_context(os.fdopen(fd, "rb"))
            try:
                self._table = pq.ParquetFile(self._file, buffer_size=1 << 20, pre_buffer=False)
                names = set(self._table.schema_arrow.names)
            except _DAMAGED as e:
                raise DataError(f"table {key!r} is no sound parquet file: {e}") from e
            missing = sorted(set(columns) - names)
            if missing:
                raise DataError(f"table {key!r} has no column {missing}")
            undo.pop_all()
        step = sum(_bytes_of(c) for c in columns.values())
        size = max(1, min(1024, (16 << 20) // step))
        self._batches: Iterator[Any] = self._table.iter_batches(size, columns=list(columns))
        self._first = 0  # row number of the first row of `_batch`
        self._batch: Any = None

    def close(self) -> None:
        """Close the file."""
        self._table.close()
        self._file.close()

    def take(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Rows [start, stop) in blocks: arrays (n, *shape), lists of bytes for pictures.

        Rows that were passed are not read again: `start` must not lie before them.

        Raises:
            DataError: The file is damaged, has not these rows, or values that do not fit.
        """
        while start < stop:
            if self._batch is None:
                self._batch = self._read()
            length = len(self._batch)
            if start >= self._first + length:
                self._first, self._batch = self._first + length, None
                continue
            low, high = start - self._first, min(stop - self._first, length)
            block = self._batch.slice(low, high - low)
            yield {
                name: self._values(block.column(name), name, column)
                for name, column in self._columns.items()
            }
            start = self._first + high

    @property
    def passed(self) -> int:
        """The first row that can still be read."""
        return self._first

    def _read(self) -> Any:
        try:
            batch = next(self._batches, None)
        except _DAMAGED as e:
            raise DataError(f"table {self.key!r} is damaged: {e}") from e
        if batch is None:
            raise DataError(f"table {self.key!r} ends after {self._first} rows")
        return batch

    def _values(self, found: Any, name: str, column: Column) -> Any:
        where = f"column {name!r} of table {self.key!r}"
        if found.null_count:
            raise DataError(f"{where} has empty rows")
        if column.dtype == "image":
            return _files_of(found, where)
        try:
            count, kind = len(found), np.dtype(column.dtype)
            while pa.types.is_nested(found.type) or isinstance(found.type, pa.ExtensionType):
                found = found.storage if isinstance(found, pa.ExtensionArray) else found.flatten()
                found = found if not isinstance(found, list) else found[0]
            if found.null_count or len(found) != count * math.prod(column.shape):
                raise DataError(f"{where} has rows that are not of shape {column.shape}")
            values: NDArray[np.generic] = found.to_numpy(zero_copy_only=False)
        except _DAMAGED as e:
            if isinstance(e, DataError):
                raise
            raise DataError(f"{where} does not hold {column.dtype} {column.shape}: {e}") from e
        if values.dtype.kind not in "biuf" or (values.dtype.kind == "f") != (kind.kind == "f"):
            raise DataError(f"{where} holds {values.dtype}, not {column.dtype}")
        return values.reshape(count, *column.shape)


def read_columns(root: str, key: str, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All rows of a small table as Python values.

    Args:
        columns: Column -> type of its values (int, float, str, list).

    Raises:
        DataError: It is missing, damaged, or lacks one of the columns.
    """
    try:
        fd, _ = open_regular(root, key)
    except FileNotFoundError as e:
        raise DataError(f"table {key!r} is missing") from e
    with os.fdopen(fd, "rb") as file:
        try:
            found = pq.ParquetFile(file)
            missing = sorted(set(columns) - set(found.schema_arrow.names))
            if missing:
                raise DataError(f"table {key!r} has no column {missing}")
            rows: list[dict[str, Any]] = found.read(columns=list(columns)).to_pylist()
        except _DAMAGED as e:
            if isinstance(e, DataError):
                raise
            raise DataError(f"table {key!r} is no sound parquet file: {e}") from e
    for number, row in enumerate(rows):
        for name, kind in columns.items():
            if not isinstance(row[name], kind):
                raise DataError(f"table {key!r}, row {number}: {name} is {row[name]!r}")
    return rows


def names_in(root: str, key: str) -> list[str]:
    """Column names of a table."""
    try:
        fd, _ = open_regular(root, key)
    except FileNotFoundError as e:
        raise DataError(f"table {key!r} is missing") from e
    with os.fdopen(fd, "rb") as file:
        try:
            return list(pq.ParquetFile(file).schema_arrow.names)
        except _DAMAGED as e:
            raise DataError(f"table {key!r} is no sound parquet file: {e}") from e


def _bytes_of(column: Column) -> int:
    if column.dtype == "image":
        return 1 << 20
    return np.dtype(column.dtype).itemsize * math.prod(column.shape)


def _files_of(found: Any, where: str) -> list[bytes]:
    if not pa.types.is_struct(found.type) or found.type.get_field_index("bytes") < 0:
        raise DataError(f"{where} holds {found.type}, not pictures")
    files = found.field("bytes")
    if files.null_count:
        raise DataError(
            f"{where} has pictures that lie outside the file",
            hint="Embed them with lerobot's own tools.",
        )
    if not (pa.types.is_binary(files.type) or pa.types.is_large_binary(files.type)):
        raise DataError(f"{where} holds {files.type}, not pictures")
    return files.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
