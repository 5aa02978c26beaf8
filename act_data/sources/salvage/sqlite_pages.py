"""The pages of an SQLite file, read without SQLite: it refuses a file for one page that is missing.

https://www.sqlite.org/fileformat2.html. What a killed recorder left beside the file is read, too:
the newest image of a page may lie in `-wal`, and an older one, with rows that were being moved to
another page, in `-wal` or `-journal`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR = 0x0D, 0x05, 0x0A, 0x02

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_DEFAULT_PAGE_BYTES = 4096
_WAL_HEADER = struct.Struct(">IIIIIIII")
_WAL_FRAME = struct.Struct(">IIIIII")
_WAL_MAGIC = 0x377F0682  # the lowest bit: checksums are big-endian
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_JOURNAL_HEADER = struct.Struct(">8sIIIII")
_MAX_IMAGES = 2**19  # beside the file: 2 GiB of them
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


class Image(NamedTuple):
    """One image of a page.

    Attributes:
        number: Of the page, from 1.
        file: Descriptor of the file that it lies in.
        offset: Where it begins there.
    """

    number: int
    file: int
    offset: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of a table: where its record lies, its first bytes in the page itself.

    Attributes:
        image: The page that the row is on.
        row: Its number.
        size: Bytes of the record.
        local: How many of them are on the page, from `start` on.
        overflow: The page on which the rest begins; 0 for none.
    """

    image: Image
    row: int
    size: int
    start: int
    local: int
    overflow: int


class Pages:
    """A database file with what lies beside it.

    Attributes:
        count: Pages of the file, those that only `-wal` has included.
        state: What is wrong with the file as a whole; "" for nothing.
        older: Images of pages that a newer one replaces.
    """

    def __init__(self, file: int, wal: int | None, journal: int | None) -> None:
        self._file = file
        header = os.pread(file, 100, 0)
        (size,) = _U16.unpack_from(header.ljust(100, b"\0"), 16)
        size = 65536 if size == 1 else size
        if size < 512 or size & (size - 1):
            size = _DEFAULT_PAGE_BYTES
        self.page_bytes = size
        self.usable: int = size - (header[20] if len(header) > 20 and header[20] <= 32 else 0)
        self.free_list = _U32.unpack_from(header, 32)[0] if len(header) >= 36 else 0
        self.encoding = {2: "utf-16-le", 3: "utf-16-be"}.get(
            _U32.unpack_from(header, 56)[0] if len(header) >= 60 else 1, "utf-8"
        )
        self.bytes = os.fstat(file).st_size
        self.count = self.bytes // size
        known = _U32.unpack_from(header, 28)[0] if len(header) >= 32 else 0
        counted = header[24:28] == header[92:96]
        self.state = ""
        if counted and self.bytes < known * size:
            self.state = f"it has {self.bytes} of {known * size} bytes"
        elif counted and known != self.count:
            self.state = f"it has {self.count} pages, and its header knows of {known}"
        elif self.bytes != self.count * size:
            self.state = f"its {self.bytes} bytes are no whole number of pages"
        elif wal is not None or journal is not None:
            self.state = "the recorder was killed before it could finish it"
        self.older: list[Image] = []
        self._newer: dict[int, Image] = {}
        for image in islice(_wal_images(wal, size), _MAX_IMAGES) if wal is not None else ():
            self.older.append(self._newer.get(image.number, self._raw(image.number)))
            self._newer[image.number] = image
            self.count = max(self.count, image.number)
        if journal is not None:
            self.older += islice(_journal_images(journal, size), _MAX_IMAGES)

    def image(self, number: int) -> Image:
        """The newest image of a page."""
        return self._newer.get(number) or self._raw(number)

    def read(self, image: Image, start: int = 0, size: int | None = None) -> bytes:
        """Bytes of a page from `start` on; ValueError when the file ends within them."""
        size = self.page_bytes - start if size is None else size
        data = os.pread(image.file, size, image.offset + start)
        if len(data) != size or image.number < 1:
            raise ValueError(f"page {image.number} is missing")
        return data

    def cells(self, image: Image) -> Iterator[Cell]:
        """The rows on a leaf page of a table; ValueError behind them if some make no sense."""
        page = self.read(image)
        count, starts = _cells(page, image.number, 8)
        for start in starts:
            try:
                size, at = varint(page, start)
                row, at = varint(page, at)
                local = self._local(size, self.usable - 35)
                if at + local + (4 if local < size else 0) > self.usable:
                    continue
                overflow = _U32.unpack_from(page, at + local)[0] if local < size else 0
            except (IndexError, struct.error):
                continue
            count -= 1
            yield Cell(image, row - 2**64 if row >= 2**63 else row, size, at, local, overflow)
        if count:
            raise ValueError(f"{count} rows of it make no sense")

    def children(self, image: Image, *, index: bool) -> list[tuple[int, int]]:
        """(page, largest row below it) of an interior page; the row is 0 where nobody says it."""
        page = self.read(image)
        count, starts = _cells(page, image.number, 12)
        found = []
        for start in starts:
            if start + 5 <= len(page):
                row = 0 if index else varint(page.ljust(len(page) + 9, b"\0"), start + 4)[0]
                found.append((_U32.unpack_from(page, start)[0], row))
        if len(found) < count:
            raise ValueError(f"{count - len(found)} pages below it make no sense")
        return [*found, (_U32.unpack_from(page, _start(image.number) + 8)[0], 0)]

    def last_row_of_index(self, image: Image) -> int:
        """The largest row that a leaf page of an index names, at the end of its entries."""
        page = self.read(image)
        largest = 0
        for start in _cells(page, image.number, 8)[1]:
            try:
                size, at = varint(page, start)
                kind, begin, end = columns(page[at : at + size])[-1]
            except (IndexError, ValueError):
                continue
            if is_integer(kind):
                largest = max(largest, integer(kind, page[at + begin : at + end]))
        return largest

    def free_pages(self, image: Image) -> tuple[int, list[int]]:
        """The next page of the list of free ones, and those that this one lists."""
        page = self.read(image)
        following, count = struct.unpack_from(">II", page)
        count = min(count, len(page) // 4 - 2)
        return following, list(struct.unpack_from(f">{count}I", page, 8))

    def kind(self, image: Image) -> int:
        """LEAF, INTERIOR, ...; 0 for a page that is missing."""
        data = os.pread(image.file, 1, image.offset + _start(image.number))
        return data[0] if data and image.number >= 1 else 0

    def record(self, cell: Cell, start: int, stop: int) -> bytes:
        """Bytes of a row's record; ValueError when a page of it is missing."""
        parts = []
        if start < cell.local:
            size = min(stop, cell.local) - start
            parts.append(self.read(cell.image, cell.start + start, size))
        at, number = cell.local, cell.overflow
        while at < stop:
            content = min(self.usable - 4, cell.size - at)
            first, last = max(0, start - at), min(content, stop - at)
            data = self.read(self._linked(number), 0, 4 + max(0, last) * (first < content))
            parts.append(data[4 + first :])
            (number,) = _U32.unpack_from(data)
            at += content
        return b"".join(parts)

    def is_complete(self, cell: Cell) -> bool:
        """Whether every page of a row's record is there."""
        at, number, last = cell.local, cell.overflow, cell.size
        try:
            while at < last:
                content = min(self.usable - 4, last - at)
                self.read(self._linked(number), content, 4)  # its last bytes
                at += content
                if at < last:
                    (number,) = _U32.unpack(self.read(self._linked(number), 0, 4))
        except ValueError:
            return False
        return True

    def _linked(self, number: int) -> Image:
        if not 1 < number <= self.count:
            raise ValueError(f"page {number} is missing")
        return self.image(number)

    def _raw(self, number: int) -> Image:
        return Image(number, self._file, (number - 1) * self.page_bytes)

    def _local(self, size: int, most: int) -> int:
        """How much of a record of `size` bytes is on the page of its cell."""
        if size <= most:
            return size
        least = (self.usable - 12) * 32 // 255 - 23
        local: int = least + (size - least) % (self.usable - 4)
        return local if local <= most else least


def columns(header: bytes) -> list[tuple[int, int, int]]:
    """(serial type, start, stop) of each column of a record, of which `header` is the beginning.

    Raises:
        ValueError, IndexError: It is no record, or its header is longer than `header`.
    """
    length, at = varint(header, 0)
    if not 1 <= length <= len(header):
        raise ValueError("no record")
    found, start = [], length
    while at < length:
        kind, at = varint(header, at)
        if kind >= 12:
            size = (kind - 12) // 2
        elif kind <= 9:
            size = _INTEGER_BYTES[kind] if kind < 7 else (8 if kind == 7 else 0)
        else:
            raise ValueError("no record")
        found.append((kind, start, start + size))
        start += size
    return found


def integer(kind: int, data: bytes) -> int:
    """The value of an integer column."""
    return kind - 8 if kind in (8, 9) else int.from_bytes(data, "big", signed=True)


def is_integer(kind: int) -> bool:
    """Whether a serial type is that of an integer."""
    return 1 <= kind <= 6 or kind in (8, 9)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, place behind it) of a number of one to nine bytes; IndexError at the end."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def _start(number: int) -> int:
    return 100 if number == 1 else 0


def _cells(page: bytes, number: int, header: int) -> tuple[int, list[int]]:
    """How many cells a b-tree page says that it has, and where those begin that can be."""
    start = _start(number)
    (count,) = _U16.unpack_from(page, start + 3)
    begin = start + header
    there = min(count, (len(page) - begin) // 2)
    found = struct.unpack_from(f">{there}H", page, begin)
    return count, [at for at in found if begin + 2 * there <= at < len(page)]


def _wal_images(wal: int, page_bytes: int) -> Iterator[Image]:
    """Page images of a write-ahead log up to the first frame that is not whole, oldest first."""
    head = os.pread(wal, _WAL_HEADER.size, 0)
    if len(head) < _WAL_HEADER.size:
        return
    magic, _, size, _, salt1, salt2, sum1, sum2 = _WAL_HEADER.unpack(head)
    if magic & ~1 != _WAL_MAGIC or size != page_bytes:
        return
    order = ">" if magic & 1 else "<"
    sums = _checksum(order, head[:24], (0, 0))
    if sums != (sum1, sum2):
        return
    offset = _WAL_HEADER.size
    while True:
        frame = os.pread(wal, _WAL_FRAME.size + page_bytes, offset)
        if len(frame) < _WAL_FRAME.size + page_bytes:
            return
        number, _, frame_salt1, frame_salt2, sum1, sum2 = _WAL_FRAME.unpack_from(frame)
        sums = _checksum(order, frame[:8] + frame[_WAL_FRAME.size :], sums)
        if (frame_salt1, frame_salt2) != (salt1, salt2) or sums != (sum1, sum2) or not number:
            return
        yield Image(number, wal, offset + _WAL_FRAME.size)
        offset += len(frame)


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    one, two = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for first, second in zip(words, words, strict=True):
        one = one + first + two & 0xFFFFFFFF
        two = two + second + one & 0xFFFFFFFF
    return one, two


def _journal_images(journal: int, page_bytes: int) -> Iterator[Image]:
    """Images of pages as they were before a transaction that did not end."""
    offset = 0
    while True:
        head = os.pread(journal, _JOURNAL_HEADER.size, offset)
        if len(head) < _JOURNAL_HEADER.size:
            return
        magic, count, nonce, _, sector, size = _JOURNAL_HEADER.unpack(head)
        if magic != _JOURNAL_MAGIC or size not in (0, page_bytes) or not 32 <= sector <= 65536:
            return
        offset += sector
        if count in (0, 0xFFFFFFFF):  # not known when it was written
            count = 2**32
        for _ in range(count):
            entry = os.pread(journal, page_bytes + 8, offset)
            if len(entry) < page_bytes + 8:
                return
            number, page = _U32.unpack_from(entry)[0], entry[4:-4]
            total = nonce + sum(page[at] for at in range(page_bytes - 200, 0, -200))
            if total & 0xFFFFFFFF != _U32.unpack_from(entry, page_bytes + 4)[0] or not number:
                return
            yield Image(number, journal, offset + 4)
            offset += len(entry)
        offset += -offset % sector
