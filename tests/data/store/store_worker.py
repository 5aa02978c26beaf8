"""A process that writes and reads datasets as it is told: one JSON command per line, one answer.

`python -m tests.data.store.store_worker`
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from act_data.errors import ActError
from act_data.interfaces import DatasetReader
from act_data.store import open_dataset, open_writer
from tests.data.store.contract import make_schema, make_steps, record


def contents(reader: DatasetReader) -> list[list[str]]:
    """(uid, sha256 of every array) of each episode of the version that the reader is pinned to."""
    found = []
    for number, entry in enumerate(reader.episodes):
        digest = hashlib.sha256()
        for feature in reader.schema.features:
            digest.update(reader.read(feature.name, number).tobytes())
        found.append([entry.uid, digest.hexdigest()])
    return found


class Worker:
    def __init__(self) -> None:
        self._close = ExitStack()
        self._writer: Any = None
        self._readers: dict[int, DatasetReader] = {}

    def open(self, path: str) -> str:
        self._writer = self._close.enter_context(
            open_writer(Path(path), make_schema("raw"), shard_frames=4)
        )
        return "open"

    def record(self, uid: str, seed: int) -> str:
        record(self._writer, uid, make_steps(2 + seed % 5, seed=seed), seed=seed)
        return "recorded"

    def commit(self, uids: list[str]) -> int:
        return int(self._writer.commit(uids).number)

    def close(self) -> str:
        self._close.close()
        self._writer = None
        return "closed"

    def pin(self, path: str, key: int) -> int:
        self._readers[key] = open_dataset(Path(path))
        return self._readers[key].version.number

    def read(self, key: int) -> list[list[str]]:
        return contents(self._readers[key])

    def verify(self, path: str) -> list[str]:
        return [str(p) for p in open_dataset(Path(path)).verify()]


def main() -> None:
    worker = Worker()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer: Any = getattr(worker, name)(*arguments)
        except ActError as e:
            answer = {"error": type(e).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
