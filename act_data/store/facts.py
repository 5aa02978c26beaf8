"""What people say about a dataset: kept inside it, with the version that it was said of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from act_data.errors import InputError
from act_data.interfaces import DatasetReader
from act_data.records import DatasetFacts
from act_data.store import layout
from act_data.store.files import exists, real_root, write_whole
from act_data.store.lock import WriterLock
from act_data.store.remote import Url
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import dump, read_facts


def facts_of(reader: DatasetReader) -> DatasetFacts:
    """What is said about the version of `reader`: of it, or last of one before it.

    A version that is made later inherits them, until something else is said of it.

    Raises:
        StoreError: They are damaged.
    """
    if isinstance(reader, ZarrReader):
        root = real_root(reader.path)
        for number in range(reader.version.number, 0, -1):
            if exists(root, layout.facts_key(number)):
                return read_facts(root, number)
    return DatasetFacts()


def together(all_facts: Sequence[DatasetFacts]) -> DatasetFacts:
    """What is to be said of a dataset that is made of several.

    Descriptions and citations stand one after the other, each once. Licences hold together (SPDX's
    AND), and where one dataset has none that is part of it (NOASSERTION): a copy claims no more
    than what it was made of.
    """
    if len(set(all_facts)) == 1:
        return all_facts[0]
    licences = list(dict.fromkeys(f.licence for f in all_facts))
    said = [f"({name})" if " " in name else name for name in licences if name]
    if said and "" in licences:
        said.append("NOASSERTION")
    return DatasetFacts(
        description="\n\n".join(dict.fromkeys(f.description for f in all_facts if f.description)),
        licence=licences[0] if len(licences) == 1 else " AND ".join(said),
        cite="\n\n".join(dict.fromkeys(f.cite for f in all_facts if f.cite)),
    )


def made_with(reader: DatasetReader) -> str:
    """The program that began the dataset, with its version; "" where it is not known."""
    return reader.created_by if isinstance(reader, ZarrReader) else ""


def save_facts(reader: DatasetReader, facts: DatasetFacts) -> None:
    """Keep `facts` with the version of `reader`, in place of those before.

    Raises:
        InputError: It is no act-zarr dataset on a disk.
        ConflictError: Another process is writing it.
        StoreError: They cannot be written.
    """
    if not isinstance(reader, ZarrReader) or isinstance(reader.path, Url):
        raise InputError(
            f"{str(reader.path)!r} cannot keep a description, licence or citation",
            hint="An act-zarr dataset on a disk can: make one with `act-data convert`.",
        )
    root = Path(real_root(reader.path))
    document = layout.render(layout.group(act_facts=dump(facts)))
    lock = WriterLock(root)
    try:
        scratch = root.with_name(f".{root.name}.facts-{os.getpid()}")
        write_whole(root, layout.facts_key(reader.version.number), document, scratch)
    finally:
        lock.release()
