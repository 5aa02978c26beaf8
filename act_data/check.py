"""Is a dataset still what was committed?"""

from __future__ import annotations

from act_data.errors import StoreError
from act_data.interfaces import DatasetReader
from act_data.records import Record
from act_data.registry import Registry
from act_data.store import open_dataset


class Verification(Record):
    """What `verify` found.

    Attributes:
        problems: One sentence each: which array, episode or file, and what is wrong with it.
    """

    dataset: str
    version: int
    content_hash: str
    episodes: int
    problems: tuple[str, ...]

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
    resolved = Registry().resolve(ref)
    return open_dataset(resolved.path, resolved.version)


def verify(ref: str) -> Verification:
    """Read every byte of a dataset's version and compare it with what was committed."""
    reader = open_ref(ref)
    return Verification(
        dataset=str(reader.path),
        version=reader.version.number,
        content_hash=reader.version.content_hash,
        episodes=len(reader.episodes),
        problems=tuple(reader.verify()),
    )


def open_verified(ref: str) -> DatasetReader:
    """As `open_ref`, after `verify`: what a training may rely on.

    Raises:
        StoreError: Its content no longer matches its version.
    """
    reader = open_ref(ref)
    problems = reader.verify()
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StoreError(
            f"{reader.path} no longer matches its version {reader.version.number}: "
            f"{problems[0]}{more}",
            hint=f"See all with `act-data verify {ref}`; ingest the recordings again.",
        )
    return reader
