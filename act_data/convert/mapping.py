"""Which array becomes which: names, types and concatenations between formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act_data.convert.foreign import ForeignArray
from act_data.errors import DataError, InputError
from act_data.types import EncodedImage, Role, Value

_SMALLEST_SIDE = 8  # a float (H, W, 3) smaller than that is no picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One array of the target and what it is made of.

    Attributes:
        parts: One array of the source; several vectors are concatenated.
        dtype: "float32", "int64"; "uint8" for pictures, "uint16" for depth.
    """

    name: str
    role: Role
    parts: tuple[ForeignArray, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def picture(self) -> bool:
        """Whether it holds colour pictures."""
        return self.dtype == "uint8"

    @property
    def names(self) -> tuple[str, ...]:
        """One per element, where every part has them."""
        joined = tuple(name for part in self.parts for name in part.names)
        return joined if self.shape == (len(joined),) else ()

    @property
    def unit(self) -> str:
        """That of the parts, when they agree."""
        units = {part.unit for part in self.parts}
        return units.pop() if len(units) == 1 else ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Sync columns that any part depends on."""
        return tuple(dict.fromkeys(c for part in self.parts for c in part.columns))


def plan(
    arrays: Sequence[ForeignArray], names: Mapping[str, str]
) -> tuple[list[Planned], dict[str, str]]:
    """What the target is made of, and which arrays are left out and why.

    Args:
        names: What a person said; arrays that are not in it go where `ForeignArray.target` says.

    Raises:
        InputError: A name that the source does not have, or arrays that cannot become one.
    """
    known = {array.name: array for array in arrays}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"the source has no array {', '.join(map(repr, unknown))}",
            hint=f"It has: {', '.join(known) or 'none'}.",
        )
    left_out: dict[str, str] = {}
    targets: dict[str, list[ForeignArray]] = {}
    # Those that a person named come in the order in which they were named.
    for array in [*(known[n] for n in names), *(a for a in arrays if a.name not in names)]:
        target = names.get(array.name, array.target)
        reason = "asked for" if not target else _no_place(array)
        if reason:
            left_out[array.name] = reason
        else:
            targets.setdefault(target, []).append(array)
    order = {array.name: i for i, array in enumerate(arrays)}
    planned = [_planned(target, parts, names) for target, parts in targets.items()]
    return sorted(planned, key=lambda p: order[p.parts[0].name]), left_out


def value_of(planned: Planned, values: Mapping[str, Value], where: str) -> Value:
    """The step of `planned` in `values`.

    Raises:
        DataError: A number that is not finite or does not fit, or a float picture that is none.
    """
    if planned.picture or planned.dtype == "uint16":
        (part,) = planned.parts
        value = values[part.name]
        if isinstance(value, EncodedImage):
            return value
        return _integers(value, np.dtype(planned.dtype), part, where).reshape(planned.shape)
    parts = [_numbers(values[part.name], planned, part, where) for part in planned.parts]
    return parts[0].reshape(planned.shape) if len(parts) == 1 else np.concatenate(parts)


def is_picture(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bool:
    """Whether steps like that are colour pictures; floats count when they look like some."""
    if len(shape) != 3 or shape[2] != 3:
        return False
    return dtype == np.uint8 or (dtype.kind == "f" and min(shape[:2]) >= _SMALLEST_SIDE)


def _is_depth(array: ForeignArray) -> bool:
    return array.dtype == np.uint16 and (
        len(array.shape) == 2 or (len(array.shape) == 3 and array.shape[2] == 1)
    )


def _no_place(array: ForeignArray) -> str:
    if array.dtype.kind not in "biuf":
        return f"holds {array.dtype}, not numbers"
    if array.dtype == np.uint8 and len(array.shape) == 3 and array.shape[2] != 3:
        return f"pictures of {array.shape[2]} channels"
    if array.dtype == np.uint8 and len(array.shape) == 2 and min(array.shape) >= _SMALLEST_SIDE:
        return "8-bit pictures without colour; as depth they would end at 255 mm"
    if 0 in array.shape:
        return "is empty"
    return ""


def _planned(target: str, parts: list[ForeignArray], names: Mapping[str, str]) -> Planned:
    what = ", ".join(repr(part.name) for part in parts)
    if len(parts) > 1 and not all(part.name in names for part in parts):
        raise InputError(
            f"{what} would all become {target!r}",
            hint="Say with --map SOURCE=TARGET where each goes; to concatenate, name them all.",
        )
    first = parts[0]
    acts = target.startswith("action") or target == "base_action" or first.role is Role.ACTION
    role = Role.ACTION if acts else Role.OBSERVATION
    if len(parts) == 1:
        shape, dtype = first.shape or (1,), _dtype_of(first)
        if dtype == "uint16":
            shape = shape[:2]
        return Planned(name=target, role=role, parts=(first,), shape=shape, dtype=dtype)
    types = {_dtype_of(part) for part in parts}
    if any(len(part.shape) > 1 for part in parts) or len(types) > 1:
        raise InputError(
            f"{what} cannot be concatenated to {target!r}: "
            f"{[(part.shape, str(part.dtype)) for part in parts]}",
            hint="Only vectors of one type can be; give the others names of their own.",
        )
    width = sum(part.shape[0] if part.shape else 1 for part in parts)
    return Planned(name=target, role=role, parts=tuple(parts), shape=(width,), dtype=types.pop())


def _dtype_of(array: ForeignArray) -> str:
    if is_picture(array.shape, array.dtype):
        return "uint8"
    if _is_depth(array):
        return "uint16"
    return "float32" if array.dtype.kind == "f" else "int64"


def _integers(
    value: NDArray[np.generic], dtype: np.dtype[np.generic], part: ForeignArray, where: str
) -> NDArray[np.generic]:
    if value.dtype == dtype:
        return value
    with np.errstate(invalid="ignore"):  # NaN is found by the comparison
        as_integers = value.clip(0, 255).astype(dtype)
    if not (as_integers == value).all():
        raise DataError(
            f"{where}: array {part.name!r} looks like pictures in {value.dtype}, but holds values "
            "that are no whole numbers from 0 to 255",
            hint=f"Leave it out with --map {part.name}=",
        )
    return as_integers


def _numbers(value: Value, planned: Planned, part: ForeignArray, where: str) -> NDArray[np.generic]:
    assert isinstance(value, np.ndarray)  # only pictures are files
    if planned.dtype == "int64":
        if value.dtype == np.uint64 and int(value.max()) > np.iinfo(np.int64).max:
            raise DataError(f"{where}: array {part.name!r} has a number beyond 64 signed bits")
        return value.astype(np.int64).reshape(-1)
    with np.errstate(over="ignore"):
        numbers = value.astype(np.float32).reshape(-1)
    bad = ~np.isfinite(numbers)
    if bad.any() and not part.columns:  # where there are columns, they say that it is not valid
        at = int(bad.argmax())
        raise DataError(
            f"{where}: array {part.name!r} holds {value.reshape(-1)[at].item()!r} as element {at}",
            hint=f"Leave the array out with --map {part.name}=, or such episodes with "
            "--damaged skip.",
        )
    return numbers
