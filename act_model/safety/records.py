"""What a person writes down about where a robot may be."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from act_data.records import Record

_Metres = Annotated[float, Field(allow_inf_nan=False)]
_Point = tuple[_Metres, _Metres, _Metres]


class Box(Record):
    """Where the origin of one link may be: x, y, z in metres, in the frame of the first link.

    Attributes:
        frame: A link of the URDF, usually the tip of a tool.
        stream: Only the joints of this stream of the action move it: two arms may be one URDF each.
    """

    frame: str
    stream: str = ""
    min: _Point
    max: _Point

    @model_validator(mode="after")
    def _is_a_box(self) -> Self:
        for axis, low, high in zip("xyz", self.min, self.max, strict=True):
            if low > high:
                raise ValueError(f"{axis} is from {low:g} to {high:g}: min is larger than max")
        return self


class WorkspaceFile(Record):
    """The boxes that a robot's tips stay in."""

    boxes: tuple[Box, ...] = Field(min_length=1, max_length=64)
