"""A remote in an object store, or behind whatever else fsspec speaks."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from os import getpid
from typing import Any

from act_data.errors import ConflictError, StoreError
from act_data.remotes.remote import LOCK_WAIT_S
from act_data.store.remote import connect, told

_DEAD_S = 600.0  # a lock that old belongs to a process that died
_NO_CONDITIONS = ("NotImplemented", "not implemented", "501")
_CHANGED = (
    "PreconditionFailed",
    "ConditionalRequestConflict",
    "At least one of the pre-conditions",
)


class ObjectRemote:
    """See `Remote`. One request writes one object, so an object is whole or not there.

    A ref is swapped by the server (If-Match, If-None-Match) where it is S3 and can; otherwise under
    a lock object: whoever sees no other lock beside its own has it.
    """

    def __init__(self, address: str, name: str) -> None:
        self.name = name
        with told(name):
            self._files, self._folder = _connected(address, getpid())
        protocol = self._files.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._s3 = "s3" in protocols
        self._web = bool(protocols & {"http", "https"})

    def read(self, key: str, limit: int) -> bytes | None:
        """The object `key`; see `Remote`. One byte more than `limit` is asked for, no more."""
        place = f"{self._folder}/{key}"
        with told(f"{self.name}/{key}"):
            try:
                if self._web:  # a web server may answer with all there is, and that compressed
                    data = self._streamed(place, limit + 1)
                else:
                    data = self._files.cat_file(place, start=0, end=limit + 1)
            except FileNotFoundError as e:
                if isinstance(e.__cause__, OSError):  # what fsspec says when nobody answers
                    raise e.__cause__ from None
                return None
            except OSError as e:
                if "range is not satisfiable" not in str(e):
                    raise
                data = b""  # S3 finds no range in an empty object
        if len(data) > limit:
            raise StoreError(f"'{self.name}/{key}' has more than {limit} bytes")
        return bytes(data)

    def _streamed(self, place: str, size: int) -> bytes:
        data = bytearray()
        with self._files.open(place, "rb", block_size=0) as file:
            while len(data) < size and (more := file.read(size - len(data))):
                data += more
        return bytes(data)

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Objects directly below `folder`, as they are now."""
        with told(f"{self.name}/{folder}"):
            self._files.invalidate_cache(f"{self._folder}/{folder}")
            try:
                found = self._files.ls(f"{self._folder}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
        return {
            str(entry["name"]).rpartition("/")[2]: int(entry["size"] or 0)
            for entry in found
            if entry["type"] == "file"
        }

    def write(self, key: str, data: bytes) -> None:
        """In one request."""
        with _reached(f"{self.name}/{key}"):
            self._put(key, data)

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """By the server where it can, else under a lock object; see `Remote`."""
        with _reached(f"{self.name}/{key}"):
            if self._s3:
                try:
                    return self._swap_by_server(key, old, new)
                except (OSError, NotImplementedError) as e:
                    if not any(word in str(e) for word in _NO_CONDITIONS):
                        raise
            with self._locked(key):
                if self.read(key, max(len(old or b""), 1 << 20)) != old:
                    return False
                self._put(key, new)
                return True

    def _swap_by_server(self, key: str, old: bytes | None, new: bytes) -> bool:
        condition = {"IfNoneMatch": "*"}
        if old is not None:
            self._files.invalidate_cache(f"{self._folder}/{key.rpartition('/')[0]}")
            try:
                condition = {"IfMatch": self._files.info(f"{self._folder}/{key}")["ETag"]}
            except FileNotFoundError:
                return False
            if self.read(key, max(len(old), 1 << 20)) != old:
                return False
        try:
            self._files.pipe_file(f"{self._folder}/{key}", new, **condition)
        except OSError as e:
            if any(word in str(e) for word in _CHANGED):
                return False
            raise
        return True

    def _put(self, key: str, data: bytes) -> None:
        place = f"{self._folder}/{key}"
        if not self._s3:  # where folders are made, and not only names
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(place, data)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the lock of `key`. Two that come at once both step back and try again."""
        folder = f"{key}.locks"
        end = time.monotonic() + LOCK_WAIT_S
        while True:
            mine = f"{int(time.time() * 1000):015d}-{uuid.uuid4().hex}"
            self._put(f"{folder}/{mine}", json.dumps({"lock": key}).encode())
            others = [n for n in self.sizes(folder) if n != mine and not _dead(n)]
            if not others:
                break
            self._files.rm_file(f"{self._folder}/{folder}/{mine}")
            if time.monotonic() > end:
                raise ConflictError(
                    f"another process is writing {self.name}/{key}: it holds the lock {others[0]}",
                    hint="Try again; a lock older than 10 minutes counts for nothing.",
                )
            time.sleep(random.uniform(0.05, 0.5))
        try:
            yield
        finally:
            self._files.rm_file(f"{self._folder}/{folder}/{mine}")


@contextmanager
def _reached(what: str) -> Iterator[None]:
    """As `told`, where what is not found is the bucket."""
    try:
        with told(what, "written"):
            yield
    except FileNotFoundError as e:
        raise StoreError(
            f"{what!r} cannot be written: {e}", hint="Check the address; buckets are not made here."
        ) from e


def _dead(lock: str) -> bool:
    made = lock.partition("-")[0]
    return not made.isdecimal() or time.time() - int(made) / 1000 > _DEAD_S


@lru_cache(maxsize=8)
def _connected(address: str, _process: int) -> tuple[Any, str]:
    """One connection per process and address: making one costs more than using it."""
    return connect(address)
