"""Which joints the messages of one topic list, and which of their fields they fill."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from act_data.errors import DataError
from act_data.inspect.cards import JointCard

FIELDS = ("position", "velocity", "effort")
# More lists of names than this on one topic: they change with every message.
_MAX_LISTS = 64


class JointLook:
    """Names, lengths and numbers of the joint states of one topic."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._messages = 0
        self._lists: Counter[tuple[str, ...]] = Counter()
        self._counts: set[int] = set()
        self._filled: Counter[str] = Counter()
        self._not_finite: Counter[str] = Counter()

    def seen(self, _type: str, message: Any) -> None:
        """Take in one message.

        Raises:
            DataError: Its lists do not fit each other, or it lists a joint twice.
        """
        names = tuple(message.name)
        values = {field: np.asarray(getattr(message, field)) for field in FIELDS}
        sizes = {field: value.size for field, value in values.items()}
        wanted = len(names) or max(sizes.values())
        if any(size not in (0, wanted) for size in sizes.values()):
            lengths = ", ".join(f"{size} of {field}" for field, size in sizes.items())
            raise DataError(f"{self._topic}: {len(names)} names, {lengths}")
        if names not in self._lists:
            if len(set(names)) < len(names):
                raise DataError(f"{self._topic}: joints are listed twice: {', '.join(names)[:200]}")
            if len(self._lists) >= _MAX_LISTS:
                raise DataError(f"{self._topic}: its joints change all the time")
        self._messages += 1
        self._lists[names] += 1
        if len(self._counts) < _MAX_LISTS:
            self._counts.add(wanted)
        for field, value in values.items():
            self._filled[field] += bool(value.size)
            self._not_finite[field] += not np.isfinite(value).all()

    def card(self) -> JointCard:
        """What was found."""
        lists = list(self._lists)
        common = set(lists[0]).intersection(*lists[1:]) if lists else set()
        every = dict.fromkeys(name for names in lists for name in names)
        return JointCard(
            names=tuple(name for name in every if name in common),
            sometimes=tuple(name for name in every if name not in common),
            count=next(iter(self._counts)) if len(self._counts) == 1 else 0,
            fields=tuple(f for f in FIELDS if self._filled[f] == self._messages > 0),
            not_finite={f: n for f in FIELDS if (n := self._not_finite[f])},
        )
