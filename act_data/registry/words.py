"""Text as words, cut here once, so that SQLite and PostgreSQL find the same episodes.

Case and accents do not count. Chinese and Japanese have no spaces: each of their characters is a
word, and those that are typed together must stand together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from act_data.errors import InputError
from act_data.registry import tables

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


def matching(query: str, dialect: str) -> sa.ColumnElement[bool]:
    """The condition that an episode has all words of `query`, in any order.

    "pour*" stands for every word that begins so. What is typed without a space stands together.

    Raises:
        InputError: `query` has no word.
    """
    terms = [(found, term.endswith("*")) for term in query.split() if (found := cut(term))]
    if not terms:
        raise InputError(f"{query!r} has no word to search for", hint="Use letters and digits.")
    if dialect != "postgresql":
        asked = " ".join(f'"{" ".join(found)}"{"*" * open_}' for found, open_ in terms)
        rows = sa.text("SELECT rowid FROM episode_words WHERE episode_words MATCH :asked")
        return tables.episode.c.id.in_(rows.bindparams(asked=asked).columns(sa.column("rowid")))
    parts = [" <-> ".join(f"'{word}'" for word in found) + ":*" * open_ for found, open_ in terms]
    asked = " & ".join(f"({part})" for part in parts)
    return tables.episode.c.words.op("@@")(sa.cast(asked, TSQUERY))
