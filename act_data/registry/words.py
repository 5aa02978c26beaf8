"""Text as words, cut here once, so that SQLite and PostgreSQL hold the same ones.

Case and accents do not count. Chinese and Japanese have no spaces: each of their characters is a
word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+")

# PostgreSQL's limits: 1 MB of words, 2,046 bytes a word, 16,383 places.
_MAX_TEXT = 100_000
_MAX_WORD = 200
_MAX_WORDS = 16_383


def cut(text: str) -> list[str]:
    """The words of `text`, in order."""
    apart = unicodedata.normalize("NFKD", text[:_MAX_TEXT]).casefold()
    bare = "".join(c for c in apart if not unicodedata.combining(c))
    found = _WORD.findall(unicodedata.normalize("NFC", bare)[:_MAX_TEXT])
    return [word[:_MAX_WORD] for word in found[:_MAX_WORDS]]


def indexed(texts: Iterable[str], dialect: str) -> str:
    """What the column `episode.words` holds for `texts`."""
    found = cut(" ".join(texts))
    if dialect != "postgresql":
        return " ".join(found)
    return " ".join(f"'{word}':{place}" for place, word in enumerate(found, 1))


def query(text: str, dialect: str) -> str:
    """What finds the episodes whose words are those of `text`; "" when it has none.

    Pieces of `text` between spaces are looked for wherever they stand; of one that is several words
    ("pour-tea", or Chinese) they stand one after the other. A piece that ends in "*" is the
    beginning of a word.
    """
    pieces = [(cut(piece), piece.endswith("*")) for piece in text.split()]
    phrase = _phrase_postgresql if dialect == "postgresql" else _phrase_sqlite
    both = " & " if dialect == "postgresql" else " AND "
    return both.join(phrase(words, begins) for words, begins in pieces if words)


def _phrase_sqlite(words: list[str], begins: bool) -> str:
    return f'"{" ".join(words)}"' + ("*" if begins else "")


def _phrase_postgresql(words: list[str], begins: bool) -> str:
    quoted = [f"'{word}'" for word in words]
    return f"({' <-> '.join(quoted)}{':*' if begins else ''})"
