"""Parquet files, written and read from front to back. The only door to pyarrow."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from act_data.convert.lerobot.column import Column, Held
from act_data.convert.lerobot.layout import COUNTED
from act_data.errors import DataError
from act_data.store.files import open_regular, writing

ROW_GROUP_BYTES = 64 << 20  # a row group is an episode, or this much of a long one
_DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)


# --- writing ----------------------------------------------------------------------------------


class TableWriter:
    """One parquet file of data rows; holds at most one row group in memory."""

    def __init__(self, path: Path, columns: Mapping[str, Column]) -> None:
        self.path = path
        self.rows = 0
        self._columns = columns
        self._numbers = {n: Held(c) for n, c in columns.items() if c.dtype != "image"}
        self._files: dict[str, list[bytes]] = {n: [] for n in columns if n not in self._numbers}
        self._held_bytes = 0
        self._schema = pa.schema([(name, _type_of(c)) for name, c in columns.items()])
        with writing(path, 0):
            self._file = pq.ParquetWriter(path, self._schema, compression="snappy")

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self.path.stat().st_size

    def append(self, row: Mapping[str, NDArray[np.generic] | bytes]) -> None:
        """Add one row."""
        for name, value in row.items():
            if isinstance(value, bytes):
                self._files[name].append(value)
                self._held_bytes += len(value)
            else:
                self._numbers[name].append(value)
                self._held_bytes += value.nbytes
        self.rows += 1
        if self._held_bytes >= ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one row group."""
        if not self._held_bytes:
            return
        arrays = [
            _array_of(column, self._numbers[name].rows)
            if name in self._numbers
            else pa.array([{"bytes": b, "path": None} for b in self._files[name]], _type_of(column))
            for name, column in self._columns.items()
        ]
        with writing(self.path, self._held_bytes):
            self._file.write_table(pa.table(arrays, schema=self._schema))
        for numbers in self._numbers.values():
            numbers.clear()
        for files in self._files.values():
            files.clear()
        self._held_bytes = 0

    def close(self) -> None:
        """Complete the file."""
        self.flush()
        with writing(self.path, self.size):
            self._file.close()


class EpisodesWriter:
    """`meta/episodes`: one row per episode, in groups of 64."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: list[Mapping[str, Any]] = []
        self._file: pq.ParquetWriter | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one episode; every row has the same keys."""
        self._held.append(row)
        if len(self._held) >= 64:
            self._flush()

    def close(self) -> None:
        """Complete the file."""
        self._flush()
        with writing(self._path, 0):
            if self._file is not None:
                self._file.close()

    def _flush(self) -> None:
        if not self._held:
            return
        with writing(self._path, 0):
            if self._file is None:
                table = pa.Table.from_pylist(list(self._held))
                self._file = pq.ParquetWriter(self._path, table.schema, compression="snappy")
            self._file.write_table(pa.Table.from_pylist(list(self._held), self._file.schema))
        self._held = []


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """`meta/tasks.parquet`: the index of a pandas table is the task, its column the number."""
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64",
             "numpy_type": "int64", "metadata": None},
            {"name": "task", "field_name": "task", "pandas_type": "unicode",
             "numpy_type": "object", "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }  # fmt: skip
    table = pa.table(
        {
            "task_index": pa.array(range(len(tasks)), pa.int64()),
            "task": pa.array(tasks, pa.string()),
        }
    )
    with writing(path, 0):
        pq.write_table(table.replace_schema_metadata({b"pandas": json.dumps(pandas)}), path)


def _type_of(column: Column) -> Any:
    if column.dtype == "image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kind = pa.from_numpy_dtype(np.dtype(column.dtype))
    if column.shape == (1,):
        return kind
    if len(column.shape) == 1:
        return pa.list_(kind, column.shape[0])
    for _ in column.shape:  # what `datasets` keeps an Array2D, ... in
        kind = pa.list_(kind)
    return kind


def _array_of(column: Column, rows: NDArray[np.generic]) -> Any:
    flat = pa.array(rows.reshape(-1))
    if column.shape == (1,):
        return flat
    if len(column.shape) == 1:
        return pa.FixedSizeListArray.from_arrays(flat, column.shape[0])
    for size in reversed(column.shape):
        offsets = np.arange(0, len(flat) + 1, size, dtype=np.int32)
        flat = pa.ListArray.from_arrays(offsets, flat)
    return flat


# --- reading ----------------------------------------------------------------------------------


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


def column_of(paths: Sequence[Path], name: str) -> Iterator[NDArray[np.generic]]:
    """The column `name` of data files that were just written, (rows, D) at a time."""
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(1 << 16, columns=[name]):
            flat = batch.column(0)
            count = len(flat)
            while pa.types.is_nested(flat.type):
                flat = flat.flatten()
            yield flat.to_numpy(zero_copy_only=False).reshape(count, -1)


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


def counted_columns() -> dict[str, Column]:
    """The columns of `COUNTED`."""
    return {n: Column(dtype="float32" if n == "timestamp" else "int64") for n in COUNTED}


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
