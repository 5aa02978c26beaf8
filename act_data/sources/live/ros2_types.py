"""ROS 2 message types as the packages installed here know them: classes and definitions.

ROS 2 sends no definitions with its messages. A recording needs them to be readable elsewhere, in
the form that rosbag2 writes: the type's own text, then one section per type that it is made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import TypesysError, get_types_from_msg

from act_data.errors import DataError
from act_data.sources.message_types import standard_definition
from act_data.sources.storage import Definition

_TYPE = re.compile(r"([A-Za-z]\w*)/msg/([A-Za-z]\w*)", re.ASCII)
_SECTION = "=" * 80 + "\nMSG: {}\n"


def message_class(topic: str, type_: str) -> Any:
    """The class that the installed Python package of `type_` has for it.

    Raises:
        DataError: The package is not there, or has no such type; names topic, type and package.
    """
    match = _TYPE.fullmatch(type_)
    if match is None:
        raise DataError(
            f"topic {topic!r} has type {type_!r}, which is no message type",
            hint="Leave the topic out.",
        )
    package, name = match.groups()
    try:
        class_ = getattr(import_module(f"{package}.msg"), name)
        class_.__class__.__import_type_support__()
        usable = class_.__class__._TYPE_SUPPORT is not None
        why = "its library does not load"
    except (ImportError, AttributeError) as e:
        usable, why = False, str(e)
    if not usable:
        raise DataError(
            f"topic {topic!r} has type {type_!r}, but the Python package {package!r} is not "
            f"installed here, or does not fit: {why}",
            hint=f"Source the workspace that holds {package!r}, or see whether there is a wheel "
            f"ros-jazzy-{package.replace('_', '-')}. A foxglove bridge needs neither.",
        )
    return class_


def installed_definition(type_: str) -> Definition | None:
    """The text of `type_` and of all types inside it; None where nobody has it.

    Args:
        type_: "sensor_msgs/msg/Image", whose Python package can be imported.
    """
    texts: dict[str, str] = {}
    waiting = [type_]
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        file = _file(name)
        if file is None:
            return standard_definition(type_)
        texts[name] = file.read_text(encoding="utf-8", errors="replace").rstrip("\n") + "\n"
        try:
            fields = get_types_from_msg(texts[name], name)[name][1]
        except TypesysError:
            return standard_definition(type_)
        waiting += sorted({inner for _, kind in fields for inner in _names(kind)}, reverse=True)
    own = texts.pop(type_)
    parts = (_SECTION.format(n.replace("/msg/", "/")) + text for n, text in texts.items())
    return Definition(format="msg", text=own + "".join(parts))


def _file(type_: str) -> Path | None:
    """Where its package lies, in share/<package>/msg below one of the folders above the Python.

    So it is for a ROS installation, for each package of a workspace, and for wheels.
    """
    spec = find_spec(type_.split("/")[0])
    name = Path("share", f"{type_}.msg")
    for place in (spec and spec.submodule_search_locations) or ():
        for folder in Path(place).resolve().parents:
            if (folder / name).is_file():
                return folder / name
    return None


def _names(kind: Any) -> Iterator[str]:
    """The message types that a field is made of."""
    if kind[0] == Nodetype.NAME:
        yield kind[1]
    elif kind[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        yield from _names(kind[1][0])
