"""A version of a dataset: its episodes, and what people say about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from act_data.records.base import Record
from act_data.records.episodes import Annotation

Split = Literal["train", "val"]


class EpisodeEntry(Record):
    """One line of a version: an episode and the split it belongs to."""

    uid: str
    start: int
    length: int
    hash: str
    split: Split


class SplitRule(Record):
    """How new episodes are divided: held out where the bucket of their content is below the share.

    Attributes:
        val_share: 0 to 1.
        seed: Another one deals the buckets anew.
    """

    val_share: float = Field(0.1, ge=0, le=1, allow_inf_nan=False)
    seed: int = 0


class VersionOrigin(Record):
    """A version of another dataset whose episodes were copied, byte for byte, to make one."""

    name: str
    path: str
    uid: str
    version: int
    content_hash: str


class VersionRecord(Record):
    """One immutable state of a dataset.

    Attributes:
        number: From 1.
        parent: The version before, None for the first.
        content_hash: sha256 over schema, ordered episode hashes, splits, and the annotations if
            there are any; independent of where the data came from, when, and how it is sharded.
        annotations: What people said about episodes after they were ingested, by uid. Whole: each
            takes the place of what the episode's own record says; there `success` may be None.
        split_rule: For episodes to come; None is the default one.
        made_from: Where its episodes were copied from, in the version that brought them.
    """

    number: int
    parent: int | None
    created: str
    message: str = ""
    episodes: tuple[EpisodeEntry, ...]
    content_hash: str
    annotations: Mapping[str, Annotation] = Field(default_factory=dict)
    split_rule: SplitRule | None = None
    made_from: tuple[VersionOrigin, ...] = ()


class PartOf(Record):
    """The version that a dataset is a part of: some of its episodes, or not all of its cameras.

    Attributes:
        dataset: Its name where it was taken from.
        uid: Of the whole dataset.
        without: Arrays that were left out.
        of_episodes: Episodes that the whole version has.
    """

    dataset: str
    uid: str
    version: int
    content_hash: str
    without: tuple[str, ...] = ()
    of_episodes: int


class DatasetFacts(Record):
    """What people say about a dataset, and what it was taken from. Kept with a version.

    Attributes:
        licence: An SPDX identifier ("CC-BY-4.0"), or the address of a text; "" is not said.
        cite: How to cite it, free text or BibTeX.
        part_of: None for a dataset that is whole.
    """

    description: str = ""
    licence: str = ""
    cite: str = ""
    part_of: PartOf | None = None
