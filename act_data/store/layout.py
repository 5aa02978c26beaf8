"""Where everything lies in an act-zarr dataset, and the zarr v3 documents that describe it.

    zarr.json                       root; attributes.act points to the newest version
    data/<array>/zarr.json, c/...   arrays concatenated over time; an episode starts on a shard
    episodes/<uid>/zarr.json        attributes.act_episode: one EpisodeRecord, never changed
    versions/<n>/zarr.json          attributes.act_version: one VersionRecord, never changed
    versions/<n>/stats/zarr.json    attributes.act_stats
    versions/<n>/facts/zarr.json    attributes.act_facts: what people say about it
    meta/episode_start, _length     of the newest version, for people who only have zarr

Our own payloads carry their sha256 in `attributes.act_digest`, so that a flipped byte in a document
is found like one in a chunk.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from act_data.errors import InputError, StoreError
from act_data.records import DatasetSchema, Feature
from act_data.store.frames import BLOSC_LEVEL, ZSTD_LEVEL, check_feature, item_bytes
from act_data.store.hashing import canonical_json

Document = dict[str, Any]

META_CHUNK = 1024  # episodes per chunk of the meta arrays
META = ("episode_start", "episode_length")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_CRC: Document = {"name": "crc32c"}


# --- names ------------------------------------------------------------------------------------


def check_schema(schema: DatasetSchema) -> None:
    """Whether an act-zarr dataset can hold `schema`.

    Raises:
        InputError: Names the array.
    """
    names = [f.name for f in schema.features]
    for feature in schema.features:
        parts = feature.name.split("/")
        if not all(_NAME.fullmatch(p) and not p.startswith("__") for p in parts):
            raise InputError(
                f"{feature.name!r} cannot be the name of an array",
                hint="Use letters, digits, '_', '-' and '.', with '/' between groups.",
            )
        if names.count(feature.name) > 1 or any(n.startswith(feature.name + "/") for n in names):
            raise InputError(f"array {feature.name!r} is declared twice, or is also a group")
        check_feature(feature)


def check_uid(uid: str) -> None:
    """Whether `uid` can be the name of an episode; InputError otherwise."""
    if not _NAME.fullmatch(uid):
        raise InputError(
            f"{uid!r} cannot be the uid of an episode",
            hint="Use letters, digits, '_', '-' and '.', at most 100.",
        )


def array_key(feature: Feature) -> str:
    """Key of the document of `feature`."""
    return f"data/{feature.name}/zarr.json"


def chunk_key(feature: Feature, shard: int) -> str:
    """Key of the file that holds shard `shard` of `feature`."""
    return "/".join([f"data/{feature.name}/c/{shard}", *("0" for _ in feature.shape)])


def episode_key(uid: str) -> str:
    """Key of the record of an episode."""
    return f"episodes/{uid}/zarr.json"


def version_key(number: int) -> str:
    """Key of the record of a version."""
    return f"versions/{number:06d}/zarr.json"


def stats_key(number: int) -> str:
    """Key of the statistics of a version."""
    return f"versions/{number:06d}/stats/zarr.json"


def facts_key(number: int) -> str:
    """Key of what people say about a version and those after it."""
    return f"versions/{number:06d}/facts/zarr.json"


def shards_of(start: int, length: int, shard_frames: int) -> range:
    """The shards that an episode of `length` rows from row `start` lies in."""
    return range(start // shard_frames, (start + length - 1) // shard_frames + 1)


def group_keys(schema: DatasetSchema) -> Iterator[str]:
    """Keys of the documents of the plain groups, parents first."""
    seen = {"data", "episodes", "versions", "meta"}
    for feature in schema.features:
        parts = feature.name.split("/")
        seen |= {"/".join(["data", *parts[:n]]) for n in range(1, len(parts))}
    return (f"{group}/zarr.json" for group in sorted(seen))


# --- documents --------------------------------------------------------------------------------


def render(document: Document) -> bytes:
    """The bytes of a document: the same document has the same bytes."""
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def group(**payload: Any) -> Document:
    """A group, with at most one payload and the digest of it."""
    attributes: Document = dict(payload)
    for value in payload.values():
        attributes["act_digest"] = hashlib.sha256(canonical_json(value)).hexdigest()
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def parse(data: bytes, where: str) -> Document:
    """The document in `data`; StoreError names `where` when it is not one."""
    try:
        document = json.loads(data, parse_constant=_no_constant)
    except ValueError as e:  # also UnicodeDecodeError
        raise StoreError(f"{where} is damaged: {e}") from e
    except RecursionError as e:
        raise StoreError(f"{where} is damaged: nested too deeply") from e
    if not isinstance(document, dict):
        raise StoreError(f"{where} is damaged: not a JSON object")
    return document


def payload(document: Document, key: str, where: str) -> Any:
    """What `group(key=...)` was given, its digest checked.

    Raises:
        StoreError: It is not there or was changed.
    """
    attributes = document.get("attributes")
    if not isinstance(attributes, dict) or key not in attributes:
        raise StoreError(f"{where} is damaged or not of an act-zarr dataset: it has no {key!r}")
    value = attributes[key]
    try:
        digest = hashlib.sha256(canonical_json(value)).hexdigest()
    except ValueError as e:  # a lone surrogate: legal in JSON, not in UTF-8
        raise StoreError(f"{where} is damaged: {e}") from e
    if attributes.get("act_digest") != digest:
        raise StoreError(f"{where} is damaged: its digest does not fit")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def array(feature: Feature, shard_frames: int, rows: int) -> Document:
    """The document of `feature` with `rows` rows."""
    shard = [shard_frames, *feature.shape]
    axes = {(2, "none"): ["element"]}.get((len(shard), feature.codec))
    axes = axes or (["height", "width", "channel"] if feature.codec != "none" else None)
    axes = axes or [f"axis{n}" for n in range(1, len(shard))]
    attributes: Document = {"act_array": feature.name, "role": str(feature.role)}
    if feature.unit:
        attributes["units"] = feature.unit
    if feature.names:
        attributes["names"] = list(feature.names)
    if feature.codec != "none" and feature.dtype == "uint8":
        attributes["color_order"] = "rgb"
    codecs = [_bytes(feature)] if feature.codec == "none" else [_sharding(feature)]
    return _array(
        [rows, *feature.shape], feature.dtype, shard, codecs,
        ["time", *axes[: len(feature.shape)]], attributes,
    )  # fmt: skip


def meta_array(name: str, rows: int, version: int) -> Document:
    """The document of a meta array that describes `version` with `rows` episodes."""
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    return _array(
        [rows], "int64", [META_CHUNK], codecs, ["episode"], {"act_meta": name, "version": version}
    )


def _array(
    shape: list[int],
    dtype: str,
    chunk: list[int],
    codecs: Iterable[Document],
    axes: list[str],
    attributes: Document,
) -> Document:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if dtype.startswith("float") else 0,
        "codecs": list(codecs),
        "dimension_names": axes,
        "attributes": attributes,
    }


def _bytes(feature: Feature) -> Document:
    if item_bytes(feature) == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _sharding(feature: Feature) -> Document:
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, _CRC]
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [1, *feature.shape],
            "codecs": [*_inner(feature), _CRC],
            "index_codecs": index,
            "index_location": "end",
        },
    }


def _inner(feature: Feature) -> list[Document]:
    if feature.codec == "jpeg":
        # The draft `jpeg` codec takes (H, W, 3) (zarr-extensions, pull request 66): hence reshape.
        jpeg = {
            "quality": feature.quality,
            "encoded_color_space": "ycbcr",
            "subsampling": [[2, 2], [1, 1], [1, 1]],
        }
        shape = {"shape": [[0, 1], [2], [3]]}
        return [
            {"name": "reshape", "configuration": shape},
            {"name": "jpeg", "configuration": jpeg},
        ]
    if feature.codec == "zstd":
        zstd = {"level": ZSTD_LEVEL, "checksum": False}
        return [_bytes(feature), {"name": "zstd", "configuration": zstd}]
    if feature.codec == "blosc":
        blosc = {
            "typesize": item_bytes(feature),
            "cname": "zstd",
            "clevel": BLOSC_LEVEL,
            "shuffle": "bitshuffle",
            "blocksize": 0,
        }
        return [_bytes(feature), {"name": "blosc", "configuration": blosc}]
    return [_bytes(feature)]
