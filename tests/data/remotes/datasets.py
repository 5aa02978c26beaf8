"""Small datasets that travel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from act_data.store import open_writer
from tests.data.store.contract import make_schema, make_steps, record

LENGTHS = (9, 5)


def make(path: Path, lengths: Sequence[int] = LENGTHS, *, first: int = 0) -> Path:
    """One version per episode; the `n`-th has the seed `first + n`."""
    with open_writer(path, make_schema("jpeg"), shard_frames=4) as writer:
        for n, length in enumerate(lengths, first):
            record(writer, f"e{n}", make_steps(length, seed=n), seed=n)
            writer.commit([f"e{n}"])
    return path


def tree(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes | None]:
    """Everything below `folder`: content of files, None for what is no file.

    Args:
        without: How names begin that are left out.
    """
    return {
        name: p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in sorted(folder.rglob("*"))
        if not (name := str(p.relative_to(folder))).startswith(without or ("\0",))
    }
