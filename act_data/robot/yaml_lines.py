"""YAML as plain text values with the line of each one: bounded, and without any construction.

Scalars stay text (None for null): what they mean is the models' business. Tags are refused, so
no object is ever built from a file, and an alias cannot blow a small file up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from act_data.errors import InputError

MAX_BYTES = 64 * 1024  # a robot with forty sensors needs ten
MAX_DEPTH = 12
MAX_VALUES = 10_000
MAX_BRACKETS = 1_000  # the scanner's time grows with the square of brackets left open
_LISTED = 40  # problems of a file that an error shows
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file: its line from 1, what it is, and what to do."""

    line: int
    what: str
    way_out: str = ""


@dataclass(frozen=True)
class Located:
    """The values of a file, and the line of each key and of each value by its path."""

    data: Any
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of `path`, or of its nearest parent that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def refusal(file: str, problems: Sequence[Problem]) -> InputError:
    """The error that tells all `problems` of `file`."""
    if len(problems) == 1:
        (problem,) = problems
        return InputError(
            f"{file}:{problem.line}: {problem.what}", hint=problem.way_out or "Correct this line."
        )
    lines = [f"  {file}:{p.line}: {p.what}. {p.way_out}".rstrip() for p in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  and {len(problems) - _LISTED} more")
    return InputError(
        f"{file} has {len(problems)} problems:\n" + "\n".join(lines),
        hint="Correct these lines.",
    )


@dataclass
class _Node:
    line: int
    value: str | None = None
    items: list[_Node] | None = None
    pairs: list[tuple[_Node, _Node]] | None = None
    key: _Node | None = None
    closed: bool = field(default=True)


def read(text: str) -> tuple[Located, list[Problem]]:
    """The values of the one YAML document in `text`, and all that is wrong with its form."""
    brackets = text.count("[") + text.count("{")
    if brackets > MAX_BRACKETS:
        return Located(None, {}), [Problem(1, f"{brackets} brackets are more than {MAX_BRACKETS}")]
    root, problems = _tree(text)
    lines: dict[Path, int] = {}
    if root is None:
        return Located(None, lines), problems or [Problem(1, "the file is empty")]
    budget = [MAX_VALUES]
    data = _values(root, (), 0, budget, lines, problems)
    return Located(data, lines), problems


def _tree(text: str) -> tuple[_Node | None, list[Problem]]:
    """Nodes from parser events, with a stack of our own: depth is checked, not survived."""
    problems: list[Problem] = []
    root: _Node | None = None
    stack: list[_Node] = []
    anchors: dict[str, _Node] = {}
    documents = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            line = event.start_mark.line + 1
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    return root, [*problems, Problem(line, "a second document begins here")]
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                stack.pop().closed = True
            elif isinstance(event, AliasEvent):
                target = anchors.get(event.anchor)
                if target is None or not target.closed:
                    return None, [Problem(line, f"alias {'*' + event.anchor!r} names no value")]
                _attach(stack, target)
            elif isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent):
                if event.tag is not None:
                    problems.append(Problem(line, f"tag {str(event.tag)!r} is not read here"))
                node = _Node(line)
                if isinstance(event, ScalarEvent):
                    null = event.style is None and event.value in _NULLS
                    node.value = None if null else event.value
                elif isinstance(event, MappingStartEvent):
                    node.pairs, node.closed = [], False
                else:
                    node.items, node.closed = [], False
                if event.anchor is not None:
                    anchors[event.anchor] = node
                if stack:
                    _attach(stack, node)
                else:
                    root = node
                if not node.closed:
                    stack.append(node)
                if len(stack) > MAX_DEPTH:
                    return None, [Problem(line, f"nested deeper than {MAX_DEPTH} levels")]
    except MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        return None, [Problem(mark.line + 1 if mark else 1, f"not YAML: {e.problem}")]
    except YAMLError as e:  # characters that no YAML file may hold
        return None, [Problem(1, f"not YAML: {str(e).splitlines()[0]}")]
    return root, problems


def _attach(stack: list[_Node], node: _Node) -> None:
    if not stack:
        return
    parent = stack[-1]
    if parent.items is not None:
        parent.items.append(node)
    elif parent.key is None:
        parent.key = node
    else:
        assert parent.pairs is not None
        parent.pairs.append((parent.key, node))
        parent.key = None


def _values(
    node: _Node,
    path: Path,
    depth: int,
    budget: list[int],
    lines: dict[Path, int],
    problems: list[Problem],
) -> Any:
    lines.setdefault(path, node.line)
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        if budget[0] != -MAX_VALUES:  # say it once, however many aliases follow
            budget[0] = -MAX_VALUES
            problems.append(Problem(node.line, f"its aliases make more than {MAX_VALUES} values"))
        return None
    if node.items is not None:
        items = []
        for i, item in enumerate(node.items):
            if budget[0] < 0:
                break
            items.append(_values(item, (*path, i), depth + 1, budget, lines, problems))
        return items
    if node.pairs is None:
        return node.value
    mapping: dict[str, Any] = {}
    for key, value in node.pairs:
        if budget[0] < 0:
            break
        if key.value is None:
            problems.append(Problem(key.line, "a key must be a plain word"))
            continue
        if key.value in mapping:
            problems.append(Problem(key.line, f"key {key.value!r} is there twice"))
        lines[(*path, key.value)] = key.line
        mapping[key.value] = _values(value, (*path, key.value), depth + 1, budget, lines, problems)
    return mapping
