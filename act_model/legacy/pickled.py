"""The float arrays in a pickle, without doing what a pickle says.

A pickle is a program. `pickletools` takes it apart and runs none of it; this follows the few
instructions that make up a dict of numpy arrays, and ends at the first other one. Names in the file
are compared with numpy's constructors, never looked up, imported or called.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from act_data.errors import NotFoundError, StoreError

_MAX_BYTES = 64 << 20  # act's statistics carry one episode of joints along
_MAX_STEPS = 10_000  # real ones take about 150

_CORES = ("numpy.core", "numpy._core")  # the latter since numpy 2
_ARRAY, _DTYPE = "numpy.ndarray", "numpy.dtype"
_EMPTY = tuple(f"{core}.multiarray._reconstruct" for core in _CORES)
_SCALAR = tuple(f"{core}.multiarray.scalar" for core in _CORES)
_FILLED = tuple(f"{core}.numeric._frombuffer" for core in _CORES)
_NAMES = {_ARRAY, _DTYPE, *_EMPTY, *_SCALAR, *_FILLED}
_FLOATS = ("f4", "f8")

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


@dataclass(frozen=True, slots=True)
class _Name:
    """What the file would have imported."""

    name: str


@dataclass(slots=True)
class _Dtype:
    code: str
    order: str = "<"


@dataclass(slots=True)
class _Array:
    values: NDArray[np.float64] | None = None


class _Mark:
    """Where a row of arguments begins."""


def read_arrays(path: Path) -> dict[str, NDArray[np.float64]]:
    """The arrays of float32 and float64 in a pickled dict, by name.

    Raises:
        NotFoundError: There is no such file.
        StoreError: It is damaged, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as e:
        raise NotFoundError(
            f"{path} cannot be read: {e.strerror}", hint="Get the whole checkpoint."
        ) from e
    return arrays_in(data, str(path))


def arrays_in(data: bytes, source: str) -> dict[str, NDArray[np.float64]]:
    """As `read_arrays`, of what stands in `source`."""
    position = 0
    try:
        if len(data) > _MAX_BYTES:
            _refuse(f"more than {_MAX_BYTES} bytes")
        machine = _Machine()
        for step, (instruction, argument, place) in enumerate(pickletools.genops(data)):
            position = place or 0
            if step >= _MAX_STEPS:
                _refuse(f"more than {_MAX_STEPS} instructions")
            machine.follow(instruction.name, argument)
        return machine.result()
    except ValueError as e:
        raise StoreError(
            f"{source} is no pickle of float arrays: byte {position}: {e}",
            hint="Only a dict of numpy arrays is read, as ACT's programs write it.",
        ) from e


class _Machine:
    """The stack that a pickle works on, with inert values on it."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> dict[str, NDArray[np.float64]]:
        """What is left at the end."""
        found = self._pop(dict)
        if self._stack:
            _refuse("more than one object")
        for name, value in found.items():
            if not isinstance(name, str) or not isinstance(value, _Array) or value.values is None:
                _refuse(f"{name!r} is no array")
        return {name: value.values for name, value in found.items()}

    def follow(self, name: str, argument: Any) -> None:
        """Do one instruction.

        Raises:
            ValueError: It is none that makes a dict of arrays.
        """
        push = self._stack.append
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push(_CONSTANTS[name])
            case "BININT" | "BININT1" | "BININT2" | "SHORT_BINUNICODE" | "BINUNICODE":
                push(argument)
            case "SHORT_BINBYTES" | "BINBYTES" | "BYTEARRAY8":
                push(argument)
            case "MARK":
                push(_Mark())
            case "EMPTY_DICT":
                push({})
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE":
                push(self._since_mark())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                last = [self._pop() for _ in range(int(name[-1]))]
                push(tuple(reversed(last)))
            case "MEMOIZE" | "BINPUT" | "LONG_BINPUT":
                self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._top()
            case "BINGET" | "LONG_BINGET":
                if argument not in self._memo:
                    _refuse(f"there is no object {argument}")
                push(self._memo[argument])
            case "GLOBAL":
                push(_known(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = self._pop(str), self._pop(str)
                push(_known(f"{module}.{attribute}"))
            case "REDUCE":
                arguments, callable_ = self._pop(tuple), self._pop(_Name)
                push(_made(callable_.name, arguments))
            case "BUILD":
                state = self._pop(tuple)
                _fill(self._top(), state)
            case "SETITEM":
                value, key = self._pop(), self._pop(str)
                self._top(dict)[key] = value
            case "SETITEMS":
                items = self._since_mark()
                target = self._top(dict)
                for key, value in zip(items[::2], items[1::2], strict=True):
                    target[_of(str, key)] = value
            case _:
                _refuse(f"the instruction {name}")

    def _top(self, kind: type = object) -> Any:
        if not self._stack:
            _refuse("nothing is on the stack")
        return _of(kind, self._stack[-1])

    def _pop(self, kind: type = object) -> Any:
        value = self._top(kind)
        self._stack.pop()
        return value

    def _since_mark(self) -> tuple[Any, ...]:
        marks = [n for n, value in enumerate(self._stack) if isinstance(value, _Mark)]
        if not marks:
            _refuse("no mark is on the stack")
        items = tuple(self._stack[marks[-1] + 1 :])
        del self._stack[marks[-1] :]
        return items


def _refuse(why: str) -> NoReturn:
    raise ValueError(why)


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        _refuse(f"a {type(value).__name__.lstrip('_')} where a {kind.__name__.lstrip('_')} belongs")
    return value


def _known(name: str) -> _Name:
    if name not in _NAMES:
        _refuse(f"it would import {name[:80]!r}")
    return _Name(name)


def _made(name: str, arguments: tuple[Any, ...]) -> _Array | _Dtype:
    """What a constructor of numpy makes of `arguments`."""
    makers: Mapping[str, Callable[[tuple[Any, ...]], _Array | _Dtype]] = {
        _DTYPE: _dtype,
        **dict.fromkeys(_EMPTY, lambda _: _Array()),
        **dict.fromkeys(_SCALAR, lambda a: _filled(_at(a, 1), _at(a, 0), (), "C")),
        **dict.fromkeys(
            _FILLED, lambda a: _filled(_at(a, 0), _at(a, 1), _at(a, 2), str(_at(a, 3)))
        ),
    }
    if name not in makers:
        _refuse(f"{name} is called")
    return makers[name](arguments)


def _at(items: tuple[Any, ...], place: int) -> Any:
    if place >= len(items):
        _refuse(f"{len(items)} arguments")
    return items[place]


def _dtype(arguments: tuple[Any, ...]) -> _Dtype:
    code = _at(arguments, 0)
    if code not in _FLOATS:
        _refuse(f"an array of {str(code)[:20]!r}")
    return _Dtype(code)


def _fill(target: Any, state: tuple[Any, ...]) -> None:
    """What `__setstate__` of a dtype or an array does."""
    if isinstance(target, _Dtype):
        target.order = ">" if _at(state, 1) == ">" else "<"
    elif isinstance(target, _Array):
        order = "F" if _at(state, 3) else "C"
        target.values = _filled(_at(state, 4), _at(state, 2), _at(state, 1), order).values
    else:
        _refuse(f"the state of a {type(target).__name__.lstrip('_')} is set")


def _filled(data: Any, dtype: Any, shape: Any, order: str) -> _Array:
    if not isinstance(data, bytes | bytearray):
        _refuse("an array without bytes")
    kind: _Dtype = _of(_Dtype, dtype)
    sides: tuple[Any, ...] = _of(tuple, shape)
    whole = all(type(side) is int and side >= 0 for side in sides) and len(sides) <= 8
    if not whole or math.prod(sides) * int(kind.code[1]) != len(data):
        _refuse(f"an array {str(shape)[:40]} of {len(data)} bytes")
    flat = np.frombuffer(data, np.dtype(kind.order + kind.code))
    values = flat.reshape(sides, order="F" if order == "F" else "C")
    return _Array(values.astype(np.float64))
