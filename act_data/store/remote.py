"""Datasets behind a URL, read in ranges: s3://, gs://, https:// and whatever else fsspec speaks.

Only reading: a dataset is written to a disk, where it can be made durable. What was read stays in
blocks in memory, so that the index of a shard is fetched once and neighbouring frames together.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any

from act_data.errors import InputError, StoreError

if TYPE_CHECKING:
    from typing import Self

BLOCK_BYTES = 256 * 2**10  # about three 480x640 JPEGs: few requests, little that nobody asked for
CACHED_BLOCKS = 256

_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]*)://(?P<rest>.+)", re.IGNORECASE | re.DOTALL)


class Url(PosixPath):
    """A location that is no path of this machine, where a path is expected: names work as usual."""

    def __str__(self) -> str:
        return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*):/(?!/)", r"\1://", super().__str__())

    def exists(self, **_: bool) -> bool:
        """Whether a dataset lies there."""
        files = remote_files(str(self))
        return files.size("zarr.json") is not None

    def absolute(self) -> Self:
        """Itself."""
        return self


def location(text: str | os.PathLike[str]) -> Path:
    """`text` as a path or, where it begins with a protocol, as a `Url`."""
    if isinstance(text, Url) or not _URL.fullmatch(os.fspath(text)):
        return Path(text) if not isinstance(text, Url) else text
    return Url(os.fspath(text))


def is_remote(root: str) -> bool:
    """Whether `root` is a URL."""
    return "://" in root and _URL.fullmatch(root) is not None


class RemoteFiles:
    """The files below one URL. For threads; after a fork every process connects by itself."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._lock = Lock()
        with told(root):
            self._files, self._folder = connect(root)

    def size(self, key: str) -> int | None:
        """Bytes of the file `key`; None when there is none."""
        known = self._sizes.get(key)
        if known is None:
            with told(f"{self.root}/{key}"):
                try:
                    known = int(self._files.info(f"{self._folder}/{key}")["size"])
                except FileNotFoundError as e:
                    if isinstance(e.__cause__, ConnectionError | TimeoutError) or (
                        isinstance(e.__cause__, OSError) and e.__cause__.errno is not None
                    ):  # what fsspec says of a web server that is not there
                        raise e.__cause__ from None
                    return None
            if key.rpartition("/")[2] != "zarr.json":  # documents may be replaced, shards are not
                self._sizes[key] = known
        return known

    def read(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes of the shard `key` from `start`, fewer at its end; through the blocks."""
        whole = self.size(key) or 0
        size = min(size, whole - start)
        if size <= 0:
            return b""
        first, last = start // BLOCK_BYTES, (start + size - 1) // BLOCK_BYTES
        with self._lock:
            held = {n: self._blocks.get((key, n)) for n in range(first, last + 1)}
        missing = [n for n, block in held.items() if block is None]
        if missing:
            begin, end = missing[0] * BLOCK_BYTES, (missing[-1] + 1) * BLOCK_BYTES
            fetched = self.fetch(key, begin, min(end, whole) - begin)
            for n in range(missing[0], missing[-1] + 1):
                at = (n - missing[0]) * BLOCK_BYTES
                held[n] = fetched[at : at + BLOCK_BYTES]
        with self._lock:
            for n, block in held.items():
                self._blocks[key, n] = block or b""
                self._blocks.move_to_end((key, n))
            while len(self._blocks) > CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        data = b"".join(held[n] or b"" for n in range(first, last + 1))
        return data[start - first * BLOCK_BYTES :][:size]

    def fetch(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes of the file `key` from `start`, fewer at its end, as they are now."""
        with told(f"{self.root}/{key}"):
            place = f"{self._folder}/{key}"
            return bytes(self._files.cat_file(place, start=start, end=start + size))

    def names(self, folder: str) -> list[str]:
        """What lies directly in `folder`."""
        with told(f"{self.root}/{folder}"):
            try:
                found = self._files.ls(f"{self._folder}/{folder}", detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)


def remote_files(root: str) -> RemoteFiles:
    """The files below `root`; one connection per process.

    Raises:
        InputError: No library for the protocol is installed.
        StoreError: The other side does not answer, or refuses.
    """
    return _remote_files(root.rstrip("/"), os.getpid())


@lru_cache(maxsize=32)
def _remote_files(root: str, _process: int) -> RemoteFiles:
    return RemoteFiles(root)


def connect(root: str) -> tuple[Any, str]:
    """The file system of fsspec that reaches `root`, and what it calls the place.

    Raises:
        InputError: No library for the protocol is installed.
    """
    try:
        import fsspec

        return fsspec.core.url_to_fs(root, skip_instance_cache=True)  # type: ignore[no-any-return]
    except (ImportError, ValueError) as e:
        raise InputError(
            f"{root!r} cannot be read: {e}",
            hint="Install what reads it: pip install 'act-toolkit[remote]' (s3, https), "
            "gcsfs for gs://.",
        ) from None


@contextmanager
def told(what: str, done: str = "read") -> Iterator[None]:
    """Turn what a client of an object store raises into a StoreError that names the object."""
    try:
        yield
    except (FileNotFoundError, InputError, StoreError):
        raise
    except Exception as e:
        # Every client has errors of its own (botocore, aiohttp, ...), without a common base.
        if isinstance(e, OSError) or type(e).__module__.partition(".")[0] in _CLIENTS:
            raise StoreError(
                f"{what!r} cannot be {done}: {' '.join(str(e).split())[:200] or type(e).__name__}",
                hint="Check the address, the credentials and the connection.",
            ) from e
        raise


_CLIENTS = {"botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "asyncio", "fsspec"}
