"""A disk that fails on demand, and one that loses power: for tests of everything that writes.

`Disk` stands between a piece of work and the operating system. It numbers every change that the
work makes to files below a folder (create, write, flush, rename, remove, make a folder) and can
fail any one of them. What happened is a journal, from which `crashes` builds every state in which
the folder may be found after a power failure at any point: a write that was not flushed may be
there, be cut in half, be zeros, or be missing; a name that was not flushed may be there or not; in
any combination that a file system may leave (the model is that of ALICE, Pillai et al., OSDI 2014;
a rename is whole, as on every journalling file system). The state in which all is there is what a
killed process leaves.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

ALL_SUBSETS = 6  # up to so many unflushed names every subset is a state, 2**6
ROOT = -(10**9)  # the inode of the watched folder


Entry = tuple[int, str]  # a name in a folder, which is an inode


@dataclass(frozen=True)
class Change:
    """One entry of the journal. Inodes are numbers of our own; those of folders are negative.

    Attributes:
        inode: What is created, written, flushed, moved, or linked.
        gone: The entry that disappears (rename, remove).
        new: The entry that appears (create, rename).
    """

    kind: str  # create, write, truncate, flush, rename, remove, link
    inode: int
    gone: Entry | None = None
    new: Entry | None = None
    data: bytes = b""


class Disk:
    """Numbers the changes below `root` that happen inside `with disk.watched():`.

    Args:
        fail_at: Number of the change that fails, from 0; None never fails.
        error: errno of the failure.
        lasting: Everything after it fails as well, as on a full disk.
        short: A write that fails has written half of its bytes before.
    """

    def __init__(
        self,
        root: Path,
        *,
        fail_at: int | None = None,
        error: int = errno.EIO,
        lasting: bool = False,
        short: bool = False,
    ) -> None:
        self.root = root
        self.journal: list[Change] = []
        self.failed = False
        self._fail_at = fail_at
        self._error = error
        self._lasting = lasting
        self._short = short
        self._count = 0
        self._inodes: dict[str, int] = {"": ROOT}  # by name, as things are now
        self._next = itertools.count(1)
        self._find()
        self.start = len(self.journal)

    def _find(self) -> None:
        """Put what lies in the folder already into the journal, all of it durable."""
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            number = next(self._next) * (-1 if path.is_dir() else 1)
            entry = self.entry(name)
            self._inodes[name] = number
            self.journal.append(Change("create", number, new=entry))
            if not path.is_dir():
                self.journal.append(Change("write", number, data=path.read_bytes()))
                self.journal.append(Change("flush", number))
            self.journal.append(Change("flush", entry[0]))

    def name(self, path: Any, dir_fd: int | None = None) -> str | None:
        """`path` relative to the root; None when it lies elsewhere."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        elif dir_fd is not None:
            path = Path(f"/proc/self/fd/{dir_fd}").readlink() / path
        whole = os.path.abspath(path)  # noqa: PTH100  # a link is a name, not what it leads to
        root = str(self.root)
        return whole[len(root) + 1 :] if whole.startswith(root + os.sep) else None

    def entry(self, name: str) -> Entry:
        """Where a name lies: the folder's inode, and the name in it."""
        parent, _, last = name.rpartition("/")
        return self._inodes[parent], last

    def step(self, change: Change, what: str, do: Callable[[], Any]) -> Any:
        """Make one change, or fail it."""
        number, self._count = self._count, self._count + 1
        failing = self._fail_at is not None and (
            number == self._fail_at or (self._lasting and number > self._fail_at)
        )
        # Removing works on a full disk, too.
        if failing and not (self._error == errno.ENOSPC and change.kind == "remove"):
            self.failed = True
            raise OSError(self._error, os.strerror(self._error), what)
        result = do()
        self.journal.append(change)
        return result

    def opened(self, name: str, existed: bool, truncated: bool, do: Callable[[], Any]) -> Any:
        if not existed:
            number = next(self._next)
            result = self.step(Change("create", number, new=self.entry(name)), name, do)
            self._inodes[name] = number
            return result
        return self.step(Change("truncate", self._inodes[name]), name, do) if truncated else do()

    def wrote(self, name: str, raw: io.FileIO, data: memoryview) -> int:
        inode = self._inodes[name]
        change = Change("write", inode, data=bytes(data))
        try:
            return int(self.step(change, name, lambda: io.FileIO.write(raw, data)))
        except OSError:
            if self._short and len(data) > 1:
                half = data[: len(data) // 2]
                io.FileIO.write(raw, half)
                self.journal.append(Change("write", inode, data=bytes(half)))
            raise

    def moved(self, source: str, target: str) -> None:
        """Names below a folder that moves go with it."""
        for name in list(self._inodes):
            if name == source or name.startswith(source + "/"):
                self._inodes[target + name[len(source) :]] = self._inodes.pop(name)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The functions of `os` and `io` through which Python changes files, watched."""
        disk = self
        real = {n: getattr(os, n) for n in ("open", "fsync", "replace", "rename", "mkdir",
                                            "unlink", "rmdir", "link")}  # fmt: skip
        real_open = io.open

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                name = disk.name(self.name)
                view = memoryview(data).cast("B")
                if name is None or not len(view):
                    return io.FileIO.write(self, view)
                return disk.wrote(name, self, view)

        def open_file(
            file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any
        ) -> Any:
            name = None if isinstance(file, int) else disk.name(file)
            if name is None or not set(mode) & set("wxa+"):
                return real_open(file, mode, buffering, *rest, **more)
            assert "b" in mode, f"a text file is written: {name}"
            plain = mode.replace("b", "")
            there = Path(file).exists()
            raw = disk.opened(name, there, "w" in mode, lambda: Raw(os.fspath(file), plain))
            size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
            return raw if buffering == 0 else io.BufferedWriter(raw, size)

        def os_open(path: Any, flags: int, *rest: Any, dir_fd: int | None = None) -> int:
            def do() -> int:
                return int(real["open"](path, flags, *rest, dir_fd=dir_fd))

            name = disk.name(path, dir_fd)
            if name is None or not flags & os.O_CREAT:
                return do()
            return int(disk.opened(name, Path(path).exists(), bool(flags & os.O_TRUNC), do))

        def fsync(fd: Any) -> None:
            number = fd if isinstance(fd, int) else fd.fileno()
            name = disk.name(number)
            if name is None and Path(f"/proc/self/fd/{number}").readlink() == disk.root:
                name = ""
            if name is None:
                real["fsync"](number)
                return
            change = Change("flush", disk._inodes[name])
            disk.step(change, name, lambda: real["fsync"](number))

        def replace(source: Any, target: Any, **more: Any) -> None:
            a, b = disk.name(source), disk.name(target)
            if a is None or b is None:
                real["replace"](source, target, **more)
                return
            change = Change("rename", disk._inodes[a], gone=disk.entry(a), new=disk.entry(b))
            disk.step(change, b, lambda: real["replace"](source, target, **more))
            disk.moved(a, b)

        def mkdir(path: Any, *rest: Any, dir_fd: int | None = None) -> None:
            name = disk.name(path, dir_fd)
            if name is None or Path(path).exists():
                real["mkdir"](path, *rest, dir_fd=dir_fd)
                return
            number = -next(disk._next)
            change = Change("create", number, new=disk.entry(name))
            disk.step(change, name, lambda: real["mkdir"](path, *rest, dir_fd=dir_fd))
            disk._inodes[name] = number

        def link(source: Any, target: Any, **more: Any) -> None:
            a, b = disk.name(source), disk.name(target)
            if b is None:
                real["link"](source, target, **more)
                return
            assert a is not None, f"{source} lies elsewhere"
            change = Change("link", disk._inodes[a], new=disk.entry(b))
            disk.step(change, b, lambda: real["link"](source, target, **more))
            disk._inodes[b] = disk._inodes[a]

        def removing(call: str) -> Callable[..., None]:
            def remove(path: Any, *, dir_fd: int | None = None) -> None:
                name = disk.name(path, dir_fd)
                if name is None or name not in disk._inodes:
                    real[call](path, dir_fd=dir_fd)
                    return
                change = Change("remove", disk._inodes[name], gone=disk.entry(name))
                disk.step(change, name, lambda: real[call](path, dir_fd=dir_fd))
                disk._inodes.pop(name)

            return remove

        with (
            patch.object(io, "open", open_file),
            patch("builtins.open", open_file),
            patch.object(os, "open", os_open),
            patch.object(os, "fsync", fsync),
            patch.object(os, "replace", replace),
            patch.object(os, "rename", replace),
            patch.object(os, "mkdir", mkdir),
            patch.object(os, "link", link),
            patch.object(os, "unlink", removing("unlink")),
            patch.object(os, "remove", removing("unlink")),
            patch.object(os, "rmdir", removing("rmdir")),
        ):
            yield


# --- what a power failure leaves ----------------------------------------------------------------

Tree = dict[str, bytes | None]  # name -> content; None for a folder


@dataclass
class _File:
    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def content(self, survived: str) -> bytes:
        """The content when all, none, half or only the length of what is pending survived."""
        data = self.durable
        for change in self.pending if survived != "none" else ():
            data = b"" if change.kind == "truncate" else data + change.data
        if survived == "half":
            return data[: len(self.durable) + (len(data) - len(self.durable)) // 2]
        if survived == "zeros":
            return self.durable + bytes(max(0, len(data) - len(self.durable)))
        return data


def crashes(journal: Sequence[Change], start: int = 0) -> list[tuple[int, Tree]]:
    """Every distinct tree that may be found after a failure, with the last moment it may come from.

    The moment is the number of changes made: the later, the more must have survived.

    Args:
        start: So many changes were made before, and are durable.
    """
    found: dict[bytes, tuple[int, Tree]] = {}
    for made in range(start, len(journal) + 1):
        for tree in _trees(journal[:made]):
            key = hashlib.sha256(repr(sorted(tree.items())).encode()).digest()
            found[key] = made, tree
    return list(found.values())


def _trees(journal: Sequence[Change]) -> Iterator[Tree]:
    files: dict[int, _File] = {}
    names: list[tuple[Change, bool]] = []  # changes of names in order; whether they are durable
    for change in journal:
        if change.kind in ("create", "rename", "remove", "link"):
            names.append((change, False))
            if change.kind == "create":
                files[change.inode] = _File()
        elif change.kind != "flush":
            files[change.inode].pending.append(change)
        elif change.inode > 0:
            file = files[change.inode]
            file.durable, file.pending = file.content("all"), []
        else:
            names = [
                (n, done or change.inode in (n.gone and n.gone[0], n.new and n.new[0]))
                for n, done in names
            ]
    pending = [i for i, (_, done) in enumerate(names) if not done]
    dirty = {i for i, file in files.items() if file.pending}
    for dropped in _subsets(pending):
        tree = _named([change for i, (change, _) in enumerate(names) if i not in dropped])
        for choice in _survivals(sorted(dirty & set(tree.values()))):
            yield {
                name: None if inode < 0 else files[inode].content(choice.get(inode, "all"))
                for name, inode in tree.items()
            }


def _subsets(items: list[int]) -> Iterator[set[int]]:
    """All subsets of few; of many, none, all, each one, all but each one, and every tail."""
    if len(items) <= ALL_SUBSETS:
        for size in range(len(items) + 1):
            yield from map(set, itertools.combinations(items, size))
        return
    yield set()
    yield set(items)
    for n, item in enumerate(items):
        yield {item}
        yield set(items) - {item}
        yield set(items[n:])


def _survivals(dirty: list[int]) -> Iterator[dict[int, str]]:
    if not dirty:
        yield {}
    for how in ("all", "none", "half", "zeros") if dirty else ():
        yield dict.fromkeys(dirty, how)
        if len(dirty) > 1:
            yield from ({inode: how} for inode in dirty)


def _named(changes: Sequence[Change]) -> dict[str, int]:
    """The inodes by whole name, as far as a folder leads to them from the root."""
    entries: dict[Entry, int] = {}
    for change in changes:
        if change.gone:
            entries.pop(change.gone, None)
        if change.new:
            entries[change.new] = change.inode
    inside: dict[int, list[tuple[str, int]]] = {}
    for (folder, name), inode in entries.items():
        inside.setdefault(folder, []).append((name, inode))
    tree: dict[str, int] = {}
    waiting = [("", ROOT)]
    while waiting:
        path, folder = waiting.pop()
        for name, inode in inside.get(folder, ()):
            whole = f"{path}/{name}" if path else name
            tree[whole] = inode
            if inode < 0:
                waiting.append((whole, inode))
    return tree


def lay_out(tree: Tree, folder: Path) -> None:
    """Make `folder` look like `tree`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in sorted(tree):
        content = tree[name]
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
