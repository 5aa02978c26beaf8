"""One client at a time commands a policy."""

from __future__ import annotations

from time import monotonic

SEAT_S = 5.0


class Seat:
    """Belongs to whoever sent the last observation, until five seconds pass without another.

    Held by name and not by connection: a client that lost its connection goes on in a new one, and
    a client that lost its power blocks nobody for long.
    """

    def __init__(self) -> None:
        self._holder: str | None = None
        self._until = 0.0

    def taken_by(self, name: str) -> bool:
        """Take or keep it; False when it is another's."""
        now = monotonic()
        if self._holder not in (None, name) and now < self._until:
            return False
        self._holder, self._until = name, now + SEAT_S
        return True

    def leave(self, name: str) -> None:
        """The client went; somebody else may have it at once."""
        if self._holder == name:
            self._holder = None
