"""How far a conversion is, and what to do about an episode that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from act_data.convert.foreign import ForeignEpisode, Row
from act_data.errors import DataError, StoreError


class Progress:
    """Tells a caller (steps done, steps in all), whatever becomes of single episodes."""

    def __init__(
        self, episodes: Sequence[ForeignEpisode], tell: Callable[[int, int], None]
    ) -> None:
        self._tell = tell
        self._total = sum(episode.length for episode in episodes)
        self._before = 0

    def step(self, episode: ForeignEpisode, number: int) -> None:
        """`number` steps of `episode` are done."""
        self._tell(self._before + min(number, episode.length), self._total)

    def episode(self, episode: ForeignEpisode) -> None:
        """`episode` is done, found or skipped."""
        self._before += episode.length
        self._tell(self._before, self._total)


class Skipped:
    """Episodes that could not be read; the first one ends everything unless it may be skipped."""

    def __init__(self, policy: Literal["fail", "skip"]) -> None:
        self.reasons: dict[str, str] = {}
        self._policy = policy

    def note(self, episode: ForeignEpisode, error: DataError) -> None:
        """Note it, or raise `error` again with the way out."""
        if self._policy == "fail":
            if "--damaged" not in error.hint:
                error.hint = f"{error.hint} Leave such episodes out with --damaged skip.".strip()
            raise error
        self.reasons[episode.name] = str(error)

    def broken(self, name: str, reason: str) -> None:
        """As `note`, for an episode that was found damaged before it was read."""
        if self._policy == "fail":
            raise DataError(reason, hint="Leave such episodes out with --damaged skip.")
        self.reasons[name] = reason

    def nothing_left(self) -> DataError:
        """What to raise when no episode is left."""
        first = next(iter(self.reasons.values()), "there is none")
        return DataError(f"no episode can be converted: {first}")


def reading(rows: Iterator[Row]) -> Iterator[Row]:
    """`rows`, with damage of the source told apart from trouble with the target.

    Raises:
        DataError: Where `rows` raises that, or a StoreError.
    """
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except StoreError as e:
            raise DataError(str(e), hint=e.hint) from e
        yield row
