"""A dataset's card for catalogues: Croissant 1.1, which is JSON-LD over schema.org.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

from typing import Any

from act_data.records import Feature
from act_data.report import DatasetCard

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"

# The context that the specification asks every document to carry.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{
        word: f"cr:{word}"
        for word in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract",
            "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray",
            "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source",
            "subField", "transform",
        )
    },
}  # fmt: skip
_TYPES = {"float32": "cr:Float32", "uint8": "cr:UInt8", "uint16": "cr:UInt16", "int64": "cr:Int64"}
_EPISODE = {
    "uid": "sc:Text",
    "split": "sc:Text",
    "steps": "sc:Integer",
    "masked": "sc:Integer",
    "task": "sc:Text",
    "recording": "sc:Text",
}


def croissant(card: DatasetCard) -> dict[str, Any]:
    """The document. Its record sets: the splits, the episodes with their values, and the steps.

    Catalogues have no word for zarr: a field of a step names the files of all arrays, and says in
    words which array its rows lie in.
    """
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": card.name,
        "description": card.facts.description or _description(card),
        "version": str(card.version),
        "datePublished": card.created,
        "identifier": card.content_hash,
        **({"license": card.facts.licence} if card.facts.licence else {}),
        "citeAs": card.facts.cite
        or f"{card.name}, version {card.version}, content {card.content_hash}",
        "keywords": sorted(
            {"robotics", "act-zarr", card.robot, *(e.task for e in card.episodes)} - {""}
        ),
        "rai:dataCollection": _collection(card),
        "distribution": [
            _file_set("dataset", "zarr.json", "application/json"),
            _file_set("episode-records", "episodes/*/zarr.json", "application/json"),
            _file_set("data", "data/**/c/**", "application/octet-stream"),
        ],
        "recordSet": [_splits(card), _episodes(card), _steps(card)],
    }


def _description(card: DatasetCard) -> str:
    return (
        f"{len(card.episodes)} episodes, {card.steps} steps at {card.fps:g} Hz, of the robot "
        f"{card.robot}."
    )


def _collection(card: DatasetCard) -> str:
    sources = ", ".join(f"{count} {kind}" for kind, count in card.sources.items())
    return (
        f"Recordings ({sources}), synchronised to a grid of {card.fps:g} Hz"
        + (f" with {card.made_with}" if card.made_with else "")
        + f"; {sum(e.masked for e in card.episodes)} of {card.steps} steps are masked."
    )


def _file_set(name: str, includes: str, encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "encodingFormat": encoding,
        "includes": includes,
    }


def _record_set(name: str, fields: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields, **more}


def _field(record_set: str, name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "dataType": kind,
        **more,
    }


def _splits(card: DatasetCard) -> dict[str, Any]:
    return _record_set(
        "splits",
        [_field("splits", "name", "sc:Text")],
        dataType="cr:Split",
        key={"@id": "splits/name"},
        data=[{"splits/name": name} for name in sorted({e.split for e in card.episodes})],
    )


def _episodes(card: DatasetCard) -> dict[str, Any]:
    fields = [_field("episodes", name, kind) for name, kind in _EPISODE.items()]
    for field in fields:
        if field["name"] == "split":
            field["references"] = {"field": {"@id": "splits/name"}}
    return _record_set(
        "episodes",
        fields,
        key={"@id": "episodes/uid"},
        data=[
            {f"episodes/{name}": getattr(episode, name) for name in _EPISODE}
            for episode in card.episodes
        ],
    )


def _steps(card: DatasetCard) -> dict[str, Any]:
    return _record_set("steps", [_array(f) for f in card.arrays])


def _array(feature: Feature) -> dict[str, Any]:
    unit = f" in {feature.unit}" if feature.unit else ""
    names = f": {', '.join(feature.names)}" if feature.names else ""
    shape = ",".join(map(str, feature.shape))
    return _field(
        "steps",
        feature.name,
        _TYPES[feature.dtype],
        description=f"{feature.role.value}{unit}{names}. "
        f"Rows of the zarr array data/{feature.name}.",
        **({"isArray": True, "arrayShape": shape} if shape else {}),
        source={
            "fileSet": {"@id": "data"},
            "extract": {"fileProperty": "content"},
        },
    )
