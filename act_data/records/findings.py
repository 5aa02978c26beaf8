"""What was found out about a dataset: damage, and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from act_data.records.base import Record

Depth = Literal["quick", "hash", "deep"]


class Problem(Record):
    """One thing that is wrong with a dataset.

    Attributes:
        what: A sentence for people; it names the rest.
        array: The array it concerns; "" when it is no array's.
        episode: uid of the episode it concerns; "" when it is no episode's.
        rows: The rows of the episode that cannot be relied on, half-open; None when not known.
    """

    what: str
    array: str = ""
    episode: str = ""
    rows: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.what


class FeatureStats(Record):
    """Statistics of one array, one number per dimension (per channel for images).

    Attributes:
        count: Finite values that each dimension was computed from.
        std: Population standard deviation (ddof 0), no floor applied.
        nan: Values that were NaN or infinite and are in no other number here.
        constant: Indices of dimensions whose minimum equals their maximum.
        masked: Rows left out because a stream that they depend on was not valid there.
    """

    count: tuple[int, ...]
    mean: tuple[float | None, ...]
    std: tuple[float | None, ...]
    min: tuple[float | None, ...]
    max: tuple[float | None, ...]
    q01: tuple[float | None, ...]
    q10: tuple[float | None, ...]
    q50: tuple[float | None, ...]
    q90: tuple[float | None, ...]
    q99: tuple[float | None, ...]
    nan: tuple[int, ...]
    constant: tuple[int, ...] = ()
    masked: int = 0
    names: tuple[str, ...] = ()
    unit: str = ""


class StatsRecord(Record):
    """Statistics of one split of one version.

    Attributes:
        dataset: Name or path the numbers were computed from, for people.
        content_hash: Of the version: what the numbers belong to.
        ddof: 0, and said so.
    """

    format: Literal["act-stats"] = "act-stats"
    format_version: int = 1
    dataset: str
    version: int
    content_hash: str
    split: Literal["train", "val", "all"]
    episodes: int
    steps: int
    ddof: Literal[0] = 0
    features: Mapping[str, FeatureStats]
