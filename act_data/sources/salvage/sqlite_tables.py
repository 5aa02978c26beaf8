"""The tables of an SQLite file as far as their pages hang together, and pages that hang loose."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from act_data.sources.salvage.sqlite_pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    INTERIOR,
    LEAF,
    Cell,
    Image,
    Pages,
    columns,
    integer,
    is_integer,
)
from act_data.sources.storage import DAMAGE

MAX_ROW_BYTES = 2**20  # of a row that describes something
Value = int | str | bytes | None


class Tables:
    """Each page is given once, to the first table that reaches it.

    Args:
        broken: Called with a page and what is wrong with it.

    Attributes:
        last_row: The largest row that an interior page names.
    """

    def __init__(self, pages: Pages, broken: Callable[[int, str], None]) -> None:
        self._pages = pages
        self._broken = broken
        self._reached = bytearray(pages.count + 1)
        self.last_row = 0

    def roots(self) -> dict[str, tuple[str, int]]:
        """("table" or "index", first page) of each by its name."""
        roots: dict[str, tuple[str, int]] = {}
        for image in self.leaves(1):
            for cell in self._pages.cells(image):
                try:
                    kind, name, _, root, *_ = self.values(cell)
                except DAMAGE:
                    self._broken(image.number, "a row of the schema cannot be read")
                    continue
                if isinstance(kind, str) and isinstance(name, str) and isinstance(root, int):
                    roots[name] = (kind, root)
        return {name: (k, root) for name, (k, root) in roots.items() if k in ("table", "index")}

    def leaves(self, root: int, *, index: bool = False) -> Iterator[Image]:
        """The pages with the rows of a table, or the entries of an index, in order."""
        leaf, interior = (INDEX_LEAF, INDEX_INTERIOR) if index else (LEAF, INTERIOR)
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if not self._take(number):
                self._broken(number, "it is missing, or named twice")
                continue
            image = self._pages.image(number)
            kind = self._pages.kind(image)
            if kind == leaf:
                yield image
            elif kind == interior:
                for child, row in reversed(self._children(image, index)):
                    waiting.append(child)
                    self.last_row = max(self.last_row, row)
            else:
                self._broken(number, "it is missing, or not what it should be")

    def _children(self, image: Image, index: bool) -> list[tuple[int, int]]:
        try:
            return self._pages.children(image, index=index)
        except DAMAGE as e:
            self._broken(image.number, str(e))
            return []

    def skip_free(self) -> None:
        """Leave out the pages of the list of free ones: what lies on them was deleted."""
        number = self._pages.free_list
        while number:
            if not self._take(number):
                self._broken(number, "it is in the list of free pages, and cannot be")
                return
            number, free = self._pages.free_pages(self._pages.image(number))
            for page in free:
                if not self._take(page):
                    self._broken(page, "it is in the list of free pages, and cannot be")

    def loose(self) -> Iterator[Image]:
        """Pages with rows that no table reaches, then older images of pages."""
        for number in range(1, self._pages.count + 1):
            image = self._pages.image(number)
            if not self._reached[number] and self._pages.kind(image) == LEAF:
                yield image
        yield from (image for image in self._pages.older if self._pages.kind(image) == LEAF)

    def values(self, cell: Cell) -> list[Value]:
        """The columns of a small row; raises what is in DAMAGE when it is broken."""
        if cell.size > MAX_ROW_BYTES:
            raise ValueError(f"it has {cell.size} bytes")
        record = self._pages.record(cell, 0, cell.size)
        found: list[Value] = []
        for kind, start, stop in columns(record):
            data = record[start:stop]
            if len(data) != stop - start:
                raise ValueError("it is cut")
            if is_integer(kind):
                found.append(integer(kind, data))
            elif kind >= 12:
                found.append(data.decode(self._pages.encoding, "replace") if kind % 2 else data)
            else:
                found.append(None)
        return found

    def _take(self, number: int) -> bool:
        if not 0 < number <= self._pages.count or self._reached[number]:
            return False
        self._reached[number] = True
        return True
