"""Pages for people: one HTML file that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.store import jpeg

# Nothing may be loaded or run, whatever stands in a name or a note.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src 'self' file:"
_JPEG_QUALITY = 80


def write_page(path: Path, title: str, body: Iterable[str], *, style: str = "") -> int:
    """Write a page as `path`, whole or not at all; gives its size in bytes.

    Args:
        title: Text.
        body: HTML, in pieces.
        style: CSS.

    Raises:
        StoreError: The disk is full or failing, or there is no such folder.
    """
    scratch = path.with_name(f".{path.name}.partial")
    try:
        with scratch.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(
                '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
                f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
                '<meta name="viewport" content="width=device-width, initial-scale=1">'
                f"<title>{escape(title)}</title><style>{style}</style></head><body>\n"
            )
            for piece in body:
                file.write(piece + "\n")
            file.write("</body></html>\n")
            file.flush()
            os.fsync(file.fileno())
        size = scratch.stat().st_size
        scratch.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {str(path)!r}: {e.strerror or e}",
            hint="Check the folder and the room on its disk.",
        ) from e
    return size


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts; the first column is words, the others are numbers."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(lines)}'
        "</tbody></table></div>"
    )


def picture(image: NDArray[np.uint8], what: str) -> str:
    """The (H, W, 3) RGB `image` inside the page; `what` is said where it cannot be shown."""
    data = base64.b64encode(jpeg.encode(image, _JPEG_QUALITY)).decode()
    height, width = image.shape[:2]
    return (
        f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(what)}">'
    )
