"""Shell completion of references. Typer does the rest: `--install-completion`."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# What bash took off the front of the word at the cursor.
_BEFORE = "_ACT_COMPLETE_BEFORE"


def complete_ref(incomplete: str) -> list[str]:
    """The references that continue the word at the cursor, as far as the shell replaces it."""
    from act_data.completion import references

    before = os.environ.get(_BEFORE, "")
    return [found.removeprefix(before) for found in references(before + incomplete)]


def join_bash_words(environment: MutableMapping[str, str]) -> None:
    """Give typer the words that a person typed, in an `environment` in which bash asks it.

    To bash "@" ends a word: "diff pour@v1 pour@" comes as six words, and only the last one is
    replaced. What stands before that one is kept for `complete_ref`.
    """
    if "COMP_WORDS" not in environment or not environment.get("COMP_CWORD", "").isdigit():
        return
    pieces = environment["COMP_WORDS"].split("\n")
    cursor = int(environment["COMP_CWORD"])
    words: list[str] = []
    glue = False
    for piece in pieces[:cursor]:
        glue = glue or piece.startswith("@")
        if glue and words:
            words[-1] += piece
        else:
            words.append(piece)
        glue = piece.endswith("@")
    last = pieces[cursor] if cursor < len(pieces) else ""
    before = words.pop() if (glue or last.startswith("@")) and len(words) > 1 else ""
    environment[_BEFORE] = before
    environment["COMP_WORDS"] = "\n".join([*words, last])
    environment["COMP_CWORD"] = str(len(words))
