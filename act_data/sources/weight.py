"""What decoding a message may cost at the worst, told by its type alone.

A decoded message is made of objects, a hundred bytes each and more, where the recording may have
none: a list of messages without fields is as long as somebody says it is. So a type whose lists
hold less than a byte for each object is refused, and a message with lists of messages or of texts
may have so many bytes that it is no more than `MAX_LISTED_OBJECTS` objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.serde.utils import SIZEMAP

from act_data.sources.bounds import MAX_FIELDS
from act_data.sources.storage import Encoding

_LENGTH_BYTES = 4  # before a text and before a list
_NO_LIST = 2**31
_FILLER = "structure_needs_at_least_one_member"  # of a type without fields, in ROS 2's CDR only

Fields = Mapping[str, tuple[Any, Any]]  # constants and fields of each type, as rosbags has them


@dataclass(frozen=True, slots=True)
class Weight:
    """What a message of a type is made of.

    Attributes:
        bytes: The fewest that it can have.
        objects: Itself, the messages and the texts inside it, without those in lists.
        lightest: The fewest bytes for each object in any of its lists of messages or texts; very
            many without such a list.
    """

    bytes: int = 0
    objects: int = 0
    lightest: int = _NO_LIST

    def __add__(self, other: Weight) -> Weight:
        return Weight(
            self.bytes + other.bytes,
            self.objects + other.objects,
            min(self.lightest, other.lightest),
        )


def weight(name: str, types: Fields, encoding: Encoding) -> Weight:
    """The weight of the type called `name`, serialised in `encoding`.

    Raises:
        ValueError: It is made of too many objects, or of lists whose elements have no bytes.
        KeyError: A type in it is not known.
        RecursionError: It contains itself.
    """
    return _Scales(types, Weight(0 if encoding == "ros1" else 1)).of_type(name)


class _Scales:
    def __init__(self, types: Fields, filler: Weight) -> None:
        self._types = types
        self._filler = filler
        self._known: dict[str, Weight] = {}

    def of_type(self, name: str) -> Weight:
        if name in self._known:
            return self._known[name]
        total = Weight(objects=1)
        for field, kind in self._types[name][1]:
            total += self._filler if field == _FILLER else self._of_field(kind)
            if total.objects > MAX_FIELDS:
                raise ValueError(f"{name} is made of more than {MAX_FIELDS} messages and texts")
        self._known[name] = total
        return total

    def _of_field(self, kind: Any) -> Weight:
        node, inner = kind
        if node == Nodetype.BASE:
            if inner[0] == "string":
                return Weight(_LENGTH_BYTES, 1)
            return Weight(SIZEMAP[inner[0]])
        if node == Nodetype.NAME:
            return self.of_type(inner)
        element, length = inner
        one = self._of_field(element)
        if node == Nodetype.ARRAY:
            return Weight(one.bytes * length, one.objects * length, one.lightest)
        if not one.objects:  # numbers: an array
            return Weight(_LENGTH_BYTES)
        if one.objects > one.bytes:
            raise ValueError(f"a list of {element[1]} has fewer bytes than objects")
        return Weight(_LENGTH_BYTES, lightest=min(one.lightest, one.bytes // one.objects))
