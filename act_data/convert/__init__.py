"""Datasets of other formats in, and out: one verb for all of them.

    source -> arrays by name -> steps -> act-zarr | ALOHA HDF5 | LeRobot

Steps are streamed: one picture per camera is in memory, and a block of numbers. What was lossless
stays lossless unless somebody asks for JPEG, and how often a picture was encoded is written down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import platformdirs

from act_data.check import open_ref
from act_data.convert import into_store
from act_data.convert.dialects import in_dialect
from act_data.convert.foreign import Foreign
from act_data.convert.formats import open_source, target_format
from act_data.convert.mapping import Planned, plan
from act_data.convert.own import open_own
from act_data.convert.progress import Progress, Skipped
from act_data.convert.resized import resized
from act_data.convert.settings import (
    ConvertedArray,
    ConvertedEpisode,
    ConvertReport,
    ConvertSettings,
    Target,
)
from act_data.errors import ConflictError, DataError, InputError, StoreError
from act_data.records import DatasetFacts, DatasetSchema, VersionRecord
from act_data.registry import Registry
from act_data.store import open_dataset
from act_data.store.facts import facts_of, save_facts

__all__ = [
    "ConvertReport",
    "ConvertSettings",
    "ConvertedArray",
    "ConvertedEpisode",
    "cache",
    "convert",
]

_MIN_SIDE, _MAX_SIDE = 16, 4096


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
    try:
        foreign = open_source(source, settings)
        try:
            return _convert(foreign, source, out, target, settings, progress, began)
        finally:
            foreign.close()
    except (DataError, StoreError) as e:
        e.hint = e.hint or "Copy the source again, or say what it is with --from."
        raise


def cache(
    ref: str,
    *,
    size: tuple[int, int] | None = None,
    out: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ConvertReport:
    """Copy the version that `ref` means with raw pictures: reading one costs a copy, not a decode.

    Splits, stamps, masks and provenance stay. The copy is a dataset of its own, with its own
    content hash, and its episodes name those that they came from. A copy that is there already, or
    that was interrupted, is completed.

    Args:
        size: (H, W) of all pictures; None keeps each as it is.
        out: "*.zarr"; by default in the user's cache folder, named by content and size.

    Raises:
        InputError: A size that no picture has, or `out` is no "*.zarr".
        NotFoundError: There is no such dataset or version.
        StoreError: It is damaged, or the copy cannot be written.
    """
    began = perf_counter()
    if size is not None and not all(_MIN_SIDE <= side <= _MAX_SIDE for side in size):
        raise InputError(
            f"a picture of {size[0]}x{size[1]} has a side out of {_MIN_SIDE} to {_MAX_SIDE}",
            hint="For example 240x320.",
        )
    if out is not None and out.suffix != ".zarr":
        raise InputError(f"{str(out)!r} is no *.zarr", hint="A cache is always act-zarr.")
    reader = open_ref(ref)
    foreign, end = open_own(reader, "act_zarr"), ""
    if size is not None:
        foreign, end = resized(foreign, size), f"-{size[0]}x{size[1]}"
    if out is None:
        name = f"{reader.path.stem}-{reader.version.content_hash[:12]}-raw{end}.zarr"
        out = platformdirs.user_cache_path("act", appauthor=False) / name
    settings = ConvertSettings(codec="raw")
    return _convert(foreign, reader.path, out, "act_zarr", settings, progress, began)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What a target was made of.

    Attributes:
        schema: Of the arrays under their names in this toolkit.
        stored: How pictures are kept, by array.
        generations: Most lossy encodings of any episode, by picture array.
        version: Where the target has versions.
    """

    planned: Sequence[Planned]
    schema: DatasetSchema
    left_out: Mapping[str, str]
    episodes: Sequence[ConvertedEpisode]
    stored: Mapping[str, str]
    generations: Mapping[str, int]
    notes: Sequence[str] = ()
    name: str = ""
    version: VersionRecord | None = None


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
    _check_out(out, foreign)
    skipped = Skipped(settings.damaged)
    for name, reason in foreign.broken.items():
        skipped.broken(name, reason)
    progress = Progress(foreign.episodes, tell)
    if target == "lerobot":
        done = _to_lerobot(foreign, out, settings, progress, skipped)
    else:
        done = _to_store(foreign, out, target, settings, progress, skipped)
    return ConvertReport(
        source=str(source),
        source_format=foreign.kind,
        variant=foreign.variant,
        dataset=str(out),
        target_format=target,
        name=done.name,
        version=done.version.number if done.version else 0,
        content_hash=done.version.content_hash if done.version else "",
        fps=fps,
        stamps=done.schema.stamps,
        added=sum(not episode.found for episode in done.episodes),
        episodes=tuple(done.episodes),
        arrays=tuple(_array(p, done) for p in done.planned),
        left_out={**foreign.left_out, **done.left_out},
        skipped=skipped.reasons,
        notes=(*foreign.notes, *done.notes, *_notes(done)),
        seconds=perf_counter() - began,
    )


def _to_store(
    foreign: Foreign,
    out: Path,
    target: Target,
    settings: ConvertSettings,
    progress: Progress,
    skipped: Skipped,
) -> _Outcome:
    planned, left_out = plan(foreign.arrays, settings.names)
    if target == "aloha_hdf5" and settings.dialect is not None:
        planned, outside = in_dialect(planned, settings.dialect)
        left_out.update(outside)
    _refuse_nothing(planned)
    schema = into_store.schema_of(foreign, planned, settings, target=target)
    fresh = not out.exists()
    try:
        job = into_store.Job(
            foreign=foreign, planned=planned, schema=schema, settings=settings, target=target
        )
        version, episodes, generations = into_store.write(job, out, progress, skipped)
    finally:
        if fresh and out.is_dir():
            with suppress(OSError):  # not empty: an episode was finished
                out.rmdir()
    notes = []
    made = open_dataset(out)
    if foreign.facts != DatasetFacts() and target == "act_zarr":
        if facts_of(made) == DatasetFacts():
            save_facts(made, foreign.facts)
    elif foreign.facts != DatasetFacts():
        notes.append("licence, citation and description stay behind: HDF5 has no place for them")
    if target == "aloha_hdf5" and not schema.simulated:
        notes.append(
            "sim is written as false: the original programs will train on action[t-1] for "
            "observation t; with --sim they take action[t]"
        )
    return _Outcome(
        planned=planned,
        schema=schema,
        left_out=left_out,
        episodes=episodes,
        stored={p.name: schema.feature(p.name).codec for p in planned if _is_picture(p)},
        generations=generations,
        notes=notes,
        name=Registry().register(made),
        version=version,
    )


def _to_lerobot(
    foreign: Foreign,
    out: Path,
    settings: ConvertSettings,
    progress: Progress,
    skipped: Skipped,
) -> _Outcome:
    from act_data.convert.lerobot import require

    require()
    from act_data.convert.lerobot.write import plan_export, write

    planned, left_out = plan_export(foreign, settings)
    _refuse_nothing(planned)
    # The same arrays as a dataset of this toolkit would have them: what `meta/act.json` tells.
    kept = {part.name for p in planned for part in p.parts}
    ours, _ = plan([a for a in foreign.arrays if a.name in kept], {})
    schema = into_store.schema_of(foreign, ours, settings, target="act_zarr")
    written = write(foreign, planned, ours, schema, out, settings, progress, skipped)
    notes = []
    cut = sum(episode.left_out for episode in written.episodes)
    if cut:
        notes.append(
            f"{cut} steps without valid data were left out, and episodes cut there: "
            f"{written.pieces} episodes from {len(written.episodes)} (--masked keep keeps them)"
        )
    return _Outcome(
        planned=planned,
        schema=schema,
        left_out=left_out,
        episodes=written.episodes,
        stored={p.name: written.stored for p in planned if p.picture},
        generations=written.generations,
        notes=notes,
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


def _refuse_nothing(planned: Sequence[Planned]) -> None:
    if not planned:
        raise InputError("no array is left to convert", hint="Leave fewer out with --map.")


def _is_picture(p: Planned) -> bool:
    return p.picture or p.dtype == "uint16"


def _array(p: Planned, done: _Outcome) -> ConvertedArray:
    return ConvertedArray(
        name=p.name,
        sources=tuple(part.name for part in p.parts),
        dtype=p.dtype,
        shape=p.shape,
        unit=p.unit,
        stored=done.stored.get(p.name, ""),
        was=p.parts[0].encoding,
        generations=done.generations.get(p.name),
    )


def _notes(done: _Outcome) -> list[str]:
    notes = []
    numbers = [p for p in done.planned if not _is_picture(p)]
    unknown = [p.name for p in numbers if not p.unit]
    if unknown:
        notes.append(f"units are not known: {', '.join(unknown)}")
    if done.schema.stamps == "nominal":
        notes.append(
            f"no stamps were recorded: row i is at i / {done.schema.fps:g} s, and nothing is said "
            "about how well the arrays were synchronised"
        )
    wide = [part.name for p in numbers for part in p.parts if part.dtype == np.float64]
    if wide:
        notes.append(f"float64 became float32: {', '.join(wide)}")
    return notes
