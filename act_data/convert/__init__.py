"""Datasets of other formats in, and out: one verb for all of them.

    source -> arrays by name -> steps -> act-zarr | ALOHA HDF5 | LeRobot

Steps are streamed: one picture per camera is in memory, and a block of numbers. What was lossless
stays lossless unless somebody asks for JPEG, and how often a picture was encoded is written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import numpy as np

from act_data.convert import into_store
from act_data.convert.dialects import in_dialect
from act_data.convert.foreign import Foreign
from act_data.convert.formats import open_source, target_format
from act_data.convert.mapping import Planned, plan
from act_data.convert.progress import Progress, Skipped
from act_data.convert.settings import (
    ConvertedArray,
    ConvertedEpisode,
    ConvertReport,
    ConvertSettings,
    Target,
)
from act_data.errors import ConflictError, InputError
from act_data.records import DatasetSchema
from act_data.registry import Registry
from act_data.store import open_dataset
from act_data.types import Role

__all__ = ["ConvertReport", "ConvertSettings", "ConvertedArray", "ConvertedEpisode", "convert"]


def convert(
    source: Path,
    out: Path,
    settings: ConvertSettings | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ConvertReport:
    """Write the dataset at `source` to `out` in another format, or with another codec.

    An episode is the atomic unit of zarr and HDF5 targets: a run that was interrupted is
    completed by the same call. A LeRobot dataset appears whole or not at all.

    Args:
        out: "*.zarr" for act-zarr, "*.hdf5" for one ALOHA episode, any other path for a folder
            of them or, where the settings say so, a LeRobot dataset.
        progress: Called with (steps done, steps in all).

    Raises:
        NotFoundError: Nothing lies at `source`.
        InputError: A setting that cannot be, an array that does not fit the target.
        DataError: An episode cannot be read. Nothing of it remains.
        ConflictError: `out` is something else, or somebody else is writing it.
        StoreError: `out` cannot be written.
    """
    began = perf_counter()
    settings = settings or ConvertSettings()
    source, out = Path(source), Path(out)
    target = target_format(out, settings)
    if source.exists() and out.exists() and source.samefile(out):
        raise ConflictError(f"{str(out)!r} is the source itself", hint="Pick another path.")
    foreign = open_source(source, settings)
    try:
        return _convert(foreign, source, out, target, settings, progress, began)
    finally:
        foreign.close()


def _convert(
    foreign: Foreign,
    source: Path,
    out: Path,
    target: Target,
    settings: ConvertSettings,
    tell: Callable[[int, int], None],
    began: float,
) -> ConvertReport:
    fps = _fps(foreign, settings)
    planned, left_out = plan(foreign.arrays, settings.names)
    if target == "aloha_hdf5" and settings.dialect is not None:
        planned, outside = in_dialect(planned, settings.dialect)
        left_out.update(outside)
    if not planned:
        raise InputError(f"no array of {str(source)!r} is left to convert")
    _check_out(out, foreign)
    schema = into_store.schema_of(foreign, planned, settings, target=target)
    skipped = Skipped(settings.damaged)
    for name, reason in foreign.broken.items():
        skipped.broken(name, reason)
    progress = Progress(foreign.episodes, tell)
    fresh = not out.exists()
    try:
        version, episodes, generations = into_store.write(
            foreign, planned, schema, out, settings, progress, skipped
        )
    finally:
        if fresh and out.is_dir():
            with suppress(OSError):  # not empty: an episode was finished
                out.rmdir()
    return ConvertReport(
        source=str(source),
        source_format=foreign.kind,
        variant=foreign.variant,
        dataset=str(out),
        target_format=target,
        name=Registry().register(open_dataset(out)),
        version=version.number,
        content_hash=version.content_hash,
        fps=fps,
        stamps=schema.stamps,
        added=sum(not episode.found for episode in episodes),
        episodes=tuple(episodes),
        arrays=tuple(_array(p, schema, generations) for p in planned),
        left_out={**foreign.left_out, **left_out},
        skipped=skipped.reasons,
        notes=(*foreign.notes, *_notes(schema, target, planned)),
        seconds=perf_counter() - began,
    )


def _fps(foreign: Foreign, settings: ConvertSettings) -> float:
    if foreign.fps is None and settings.fps is None:
        raise InputError(
            f"{foreign.kind} files do not say how many steps a second has",
            hint="Say it with --fps: 50 for ALOHA, 30 for AgileX, 10 for most ReplayBuffers.",
        )
    if foreign.fps is not None and settings.fps not in (None, foreign.fps):
        raise InputError(
            f"the source has {foreign.fps:g} steps per second, not {settings.fps:g}",
            hint="Leave --fps out: it does not resample.",
        )
    fps = settings.fps or foreign.fps
    assert fps is not None
    return fps


def _check_out(out: Path, foreign: Foreign) -> None:
    if out.suffix == ".hdf5" and len(foreign.episodes) > 1:
        raise InputError(
            f"{str(out)!r} holds exactly one episode, the source has {len(foreign.episodes)}",
            hint="Name a folder (without .hdf5) or a *.zarr dataset.",
        )


def _array(p: Planned, schema: DatasetSchema, generations: dict[str, int]) -> ConvertedArray:
    feature = schema.feature(p.name)
    numbers = feature.codec == "none"
    return ConvertedArray(
        name=p.name,
        sources=tuple(part.name for part in p.parts),
        dtype=feature.dtype,
        shape=feature.shape,
        unit=feature.unit,
        stored="" if numbers else feature.codec,
        was=p.parts[0].encoding,
        generations=generations.get(p.name),
    )


def _notes(schema: DatasetSchema, target: Target, planned: Sequence[Planned]) -> list[str]:
    notes = []
    unknown = [f.name for f in schema.features if f.role is not Role.SYNC and f.codec == "none"]
    unknown = [name for name in unknown if not schema.feature(name).unit]
    if unknown:
        notes.append(f"units are not known: {', '.join(unknown)}")
    if schema.stamps == "nominal":
        notes.append(
            f"no stamps were recorded: row i is at i / {schema.fps:g} s, and nothing is said about "
            "how well the arrays were synchronised"
        )
    wide = [part.name for p in planned for part in p.parts if part.dtype == np.float64]
    if wide:
        notes.append(f"float64 became float32: {', '.join(wide)}")
    if target == "aloha_hdf5" and not schema.simulated:
        notes.append(
            "sim is written as false: the original programs will train on action[t-1] for "
            "observation t; with --sim they take action[t]"
        )
    return notes
