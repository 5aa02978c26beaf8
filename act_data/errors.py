"""Every error this toolkit raises on purpose, grouped by what the caller can do.

ActError
├── InputError      fix an argument, a preset or a file           (also a ValueError)
├── NotFoundError   name something that exists                    (also a LookupError)
├── ConflictError   it is already there, or somebody else has it
├── DataError       the recording cannot become an episode        (also a ValueError)
└── StoreError      data on disk is damaged, full, or newer than this version reads
"""

from __future__ import annotations

import re

# User names, passwords and tokens in a URL, and signed queries. A port is no password.
_SECRET = re.compile(
    r"""(?P<protocol>[A-Za-z][A-Za-z0-9+.-]*://)
        (?P<user>[^\s'"/@:]*:(?![0-9]+/)(?:[^\s'"/]*@|[^\s'"@]*@)|[^\s'"/@:]+@)?
        (?P<place>[^\s'"?]*)(?P<query>\?[^\s'"]*)?""",
    re.VERBOSE,
)


def without_secrets(text: str) -> str:
    """`text` with what is secret in its URLs left out: "s3://key:secret@b/x" is "s3://b/x"."""
    return _SECRET.sub(r"\g<protocol>\g<place>", text)


class ActError(Exception):
    """Base class. `hint`, if set, is one sentence that says what to do next.

    Neither of them ever shows the user name, password or signature of a URL.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(without_secrets(message))
        self.hint = without_secrets(hint)


class InputError(ActError, ValueError):
    """An argument, a preset or a file says something that cannot be done."""

    exit_code = 2


class NotFoundError(ActError, LookupError):
    """A path, a dataset, a version or a checkpoint that does not exist."""


class ConflictError(ActError):
    """The target exists already, or another process is writing it."""


class DataError(ActError, ValueError):
    """A recording that cannot become an episode: damaged, incomplete, or of another robot."""


class StoreError(ActError):
    """A dataset or checkpoint on disk that is damaged, cannot be written, or is too new."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "Restore it from a copy, or make it again from its source.",
    ) -> None:
        super().__init__(message, hint=hint)
