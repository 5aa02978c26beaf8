"""What the making of a card reports."""

from __future__ import annotations

from act_data.records import Record
from act_data.report import DatasetCard


class CardReport(Record):
    """A dataset's card, and where it was written.

    Attributes:
        said: What of the facts changed: "description", "licence", "cite".
    """

    card: DatasetCard
    markdown: str
    out: str | None
    croissant: str | None
    said: tuple[str, ...]
    dry_run: bool = False
