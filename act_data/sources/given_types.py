"""Message definitions that a person gives, for recordings that carry none.

Recorders of ROS 2 Humble and older keep only the names of types in a `.db3`; packages of the robot
define them. What a recording says itself is never replaced, unless it cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from act_data.errors import InputError, NotFoundError
from act_data.sources.bounds import MAX_DEFINITION_BYTES, MAX_TEXT_BYTES
from act_data.sources.message_types import (
    DEFAULTS,
    UNREADABLE,
    parsed,
    referred,
    standard_definition,
)
from act_data.sources.storage import Channel, Definition, Encoding

_MAX_FILES = 20_000
_FORMS: dict[str, Literal["msg", "idl"]] = {".msg": "msg", ".idl": "idl"}
TYPESTORES = tuple(s.value for s in Stores if s not in (Stores.EMPTY, Stores.LATEST))


@dataclass(frozen=True)
class GivenTypes:
    """Definitions from outside of any recording.

    Attributes:
        typestore: ROS version whose standard types are meant, e.g. "ros2_foxy"; "" for none.
        definitions: By type name ("pkg/msg/Name"), without what they refer to.
    """

    typestore: str = ""
    definitions: tuple[tuple[str, Definition], ...] = ()

    def complete(self, channel: Channel) -> Channel:
        """`channel` with a definition, where it has none that can be read and one was given."""
        if channel.encoding is None or not (self.typestore or self.definitions):
            return channel
        if channel.definition is not None and channel.definition.text.strip():
            try:
                parsed(channel.definition, channel.type)
            except UNREADABLE:
                pass
            else:
                return channel
        definition = _closed(self, channel.type, channel.encoding)
        return channel if definition is None else replace(channel, definition=definition)


def given_types(paths: Sequence[Path] = (), typestore: str | None = None) -> GivenTypes:
    """The definitions in `paths`, and the standard types of a ROS version.

    Args:
        paths: `.msg` or `.idl` files, or folders that hold them at any depth: a package, its
            `msg` folder, a workspace. The package of `.../<package>/msg/Name.msg` is `<package>`.
        typestore: One of TYPESTORES.

    Raises:
        NotFoundError: A path that does not exist, or that holds no definition.
        InputError: An unknown typestore, a file too long for a definition, or two different
            definitions of one type.
    """
    if typestore is not None and typestore not in TYPESTORES:
        raise InputError(
            f"{typestore!r} is no known set of types", hint=f"Use one of: {', '.join(TYPESTORES)}."
        )
    found: dict[str, tuple[Path, Definition]] = {}
    size = 0
    for path in paths:
        files = list(_files(path))
        if not files:
            raise NotFoundError(
                f"{path} holds no .msg or .idl file", hint="Name a package, or its msg folder."
            )
        for file in files:
            name, definition = _read(file)
            size += len(definition.text)
            if size > MAX_TEXT_BYTES:
                raise InputError(
                    f"the definitions in {path} have more than {MAX_TEXT_BYTES} bytes",
                    hint="Name only the packages whose types were recorded.",
                )
            other, known = found.setdefault(name, (file, definition))
            if known != definition and known.format == definition.format:
                raise InputError(
                    f"{name} is defined differently in {other} and in {file}",
                    hint="Name only the package that was on the robot.",
                )
    return GivenTypes(
        typestore or "",
        tuple((name, definition) for name, (_, definition) in sorted(found.items())),
    )


def _files(path: Path) -> Iterator[Path]:
    """Files with definitions; where a type has both forms, the `.msg` comes first."""
    if not path.exists():
        raise NotFoundError(f"no such file or folder: {path}", hint="Check --msg-path.")
    if path.is_file():
        if path.suffix not in _FORMS:
            raise InputError(
                f"{path} is no message definition", hint="Definitions are .msg and .idl files."
            )
        yield path
        return
    count = 0
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names, key=lambda name: (name[-4:] != ".msg", name)):
            if name[-4:] in _FORMS and Path(folder).name not in ("srv", "action"):
                count += 1
                if count > _MAX_FILES:
                    raise InputError(
                        f"{path} holds more than {_MAX_FILES} definitions",
                        hint="Name only the packages whose types were recorded.",
                    )
                yield Path(folder, name)


def _read(file: Path) -> tuple[str, Definition]:
    with file.open("rb") as stream:
        data = stream.read(MAX_DEFINITION_BYTES + 1)
    if len(data) > MAX_DEFINITION_BYTES:
        raise InputError(
            f"{file} has more than {MAX_DEFINITION_BYTES} bytes",
            hint="Leave it out: it is no message definition.",
        )
    folder = file.resolve().parent
    package = folder.parent if folder.name == "msg" else folder
    text = data.decode("utf-8", "replace")
    return f"{package.name}/msg/{file.stem}", Definition(format=_FORMS[file.suffix], text=text)


@cache
def _closed(given: GivenTypes, name: str, encoding: Encoding) -> Definition | None:
    """The definition of `name` with all that it refers to; None when it was not given.

    Where something that it refers to is not known, the text as it was given: decoding then says
    what is missing.
    """
    own = dict(given.definitions)
    stores = [get_typestore(Stores(given.typestore))] if given.typestore else []
    stores += [get_typestore(version) for version in DEFAULTS[encoding]] if own else []
    types: Typesdict = {}
    waiting = [name]
    while waiting:
        wanted = waiting.pop()
        if wanted in types:
            continue
        if wanted in own:
            try:
                types.update(parsed(own[wanted], wanted))
            except UNREADABLE:
                return own.get(name)
        else:
            store = next((store for store in stores if wanted in store.fielddefs), None)
            if store is None:
                return own.get(name)
            types[wanted] = store.fielddefs[wanted]
        waiting += referred(types[wanted])
    store = Typestore()
    store.register(types)
    text, _ = store.generate_msgdef(name, ros_version=1 if encoding == "ros1" else 2)
    return Definition(format="msg", text=text)


def changes_decoding(channel: Channel, definition: Definition) -> bool:
    """Whether a given definition differs from that which is taken when none is given."""
    assert channel.encoding is not None  # nothing is given for what is not ROS's own
    return definition != standard_definition(channel.type, channel.encoding)
