"""Parquet files, written from front to back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from act_data.convert.lerobot.column import Column, Held
from act_data.store.files import writing

ROW_GROUP_BYTES = 64 << 20  # a row group is an episode, or this much of a long one


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


def column_of(paths: Sequence[Path], name: str) -> Iterator[NDArray[np.generic]]:
    """The column `name` of data files that were just written, (rows, D) at a time."""
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(1 << 16, columns=[name]):
            flat = batch.column(0)
            count = len(flat)
            while pa.types.is_nested(flat.type):
                flat = flat.flatten()
            yield flat.to_numpy(zero_copy_only=False).reshape(count, -1)
