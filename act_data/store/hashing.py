"""What makes two episodes, and two versions, the same: hashes over content and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from act_data.records import Annotation, DatasetSchema, EpisodeEntry, Feature


class EpisodeHash:
    """sha256 over the content of one episode, fed step by step.

    One running digest per array (so that arrays may be fed in any interleaving), joined in the
    order of the schema. Rows of low-dimensional arrays enter as little-endian bytes, frames of
    chunked ones as their length and their encoded bytes (without checksum). So neither shard size
    nor uid, source or date can change it, and copying the encoded frames keeps it.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = tuple(features)
        self._digests = {f.name: hashlib.sha256() for f in features}
        self._framed = {f.name for f in features if f.codec != "none"}

    def add(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Feed the next row (or several whole rows), or exactly one encoded frame, of `name`."""
        digest = self._digests[name]
        if name in self._framed:
            digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)

    def hexdigest(self, length: int) -> str:
        """The hash of an episode of `length` steps."""
        whole = hashlib.sha256(f"act-episode 1 {length}\n".encode())
        for feature in self._features:
            head = [feature.name, feature.dtype, list(feature.shape), feature.codec]
            whole.update(canonical_json(head))
            whole.update(self._digests[feature.name].digest())
        return whole.hexdigest()


def content_hash(
    schema: DatasetSchema,
    episodes: Iterable[EpisodeEntry],
    annotations: Mapping[str, Annotation] | None = None,
) -> str:
    """sha256 over all that a version says: schema, ordered episode hashes, splits, annotations."""
    episodes = tuple(episodes)
    content: dict[str, Any] = {
        # Without defaults, so that a field which is added later leaves old hashes as they are.
        "schema": schema.model_dump(mode="json", exclude_defaults=True),
        "episodes": [[entry.hash, entry.split] for entry in episodes],
    }
    if annotations:
        # By place, not by uid: the same episode has another uid when it came another way.
        said = (annotations.get(entry.uid) for entry in episodes)
        content["annotations"] = [None if a is None else a.model_dump(mode="json") for a in said]
    return hashlib.sha256(canonical_json(content)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The one JSON spelling of `value`: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
