"""Is a dataset still what was committed?"""

from __future__ import annotations

import logging

from act_data.errors import StoreError
from act_data.interfaces import DatasetReader
from act_data.records import Depth, Problem, Record
from act_data.store import Remaining

log = logging.getLogger(__name__)


class Verification(Record):
    """What `verify` found.

    Attributes:
        depth: How closely it looked; "quick" reads no data.
    """

    dataset: str
    version: int
    content_hash: str
    episodes: int
    depth: Depth
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def open_ref(ref: str) -> DatasetReader:
    """The dataset that a path, a name or "name@version" means.

    Raises:
        NotFoundError: There is no such dataset or version.
        StoreError: It is damaged, or is not the one that was registered.
    """
    # A robot that is starting has no time for what only the registry needs.
    from act_data.registry import Registry

    _, reader = Registry().open(ref)
    return reader


def verify(ref: str, depth: Depth = "hash") -> Verification:
    """Compare a dataset's version with what was committed.

    Args:
        depth: As `DatasetReader.verify` has it.
    """
    reader = open_ref(ref)
    return Verification(
        dataset=str(reader.path),
        version=reader.version.number,
        content_hash=reader.version.content_hash,
        episodes=len(reader.episodes),
        depth=depth,
        problems=tuple(reader.verify(depth)),
    )


def open_verified(ref: str, *, skip_damaged: bool = False) -> DatasetReader:
    """As `open_ref`, after `verify`: what a training may rely on.

    Args:
        skip_damaged: Leave out episodes that no longer match, instead of refusing the dataset.

    Raises:
        StoreError: Its content no longer matches its version, or no episode of it does.
    """
    reader = open_ref(ref)
    problems = reader.verify()
    damaged = {p.episode for p in problems if p.episode}
    if problems and not (skip_damaged and all(p.episode for p in problems)):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StoreError(
            f"{reader.path} no longer matches its version {reader.version.number}: "
            f"{problems[0]}{more}",
            hint=f"See all with `act-data verify {ref}`; ingest the recordings again"
            + (", or leave the damaged episodes out with --skip-damaged." if damaged else "."),
        )
    if damaged:
        for problem in problems:
            log.warning("left out: %s", problem)
        reader = Remaining(reader, damaged)
    return reader
