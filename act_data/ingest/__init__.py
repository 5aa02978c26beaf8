"""Recordings in, a dataset out: the one place where all stages of `act_data` meet.

    recording -> messages -> frames -> timesteps -> episode -> version -> registry

An episode is the atomic unit. It is durable when its last step is written and visible when the
whole run commits; a run that was interrupted is completed by the same command, which recognises
its finished episodes by their uid.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from act_data.errors import ActError, InputError
from act_data.fitting import fitting, together
from act_data.ingest.account import account
from act_data.ingest.live import LiveIngest
from act_data.ingest.recording import Item, failed, size_of
from act_data.ingest.run import Progress, Run
from act_data.ingest.settings import (
    FailedRecording,
    IngestedEpisode,
    IngestReport,
    IngestSettings,
    configured,
)
from act_data.segments import annotation_of, read_ranges
from act_data.sources import Recording, find_recordings

__all__ = [
    "FailedRecording",
    "IngestReport",
    "IngestSettings",
    "IngestedEpisode",
    "LiveIngest",
    "check_out",
    "configured",
    "ingest",
]


def ingest(
    sources: Sequence[Path],
    out: Path,
    settings: IngestSettings | None = None,
    *,
    progress: Progress = lambda done, total: None,
) -> IngestReport:
    """Turn recordings into synchronised episodes of the dataset at `out`, and register it.

    Args:
        sources: Bags, folders of one recording, or folders of many.
        out: "*.zarr" for act-zarr, "*.hdf5" for one ALOHA episode, any other path for a folder
            of ALOHA episodes. An existing dataset of the same schema is continued.
        progress: Called with (bytes done, bytes of all recordings).

    Raises:
        InputError: A setting, a preset, a sidecar or a file of segments that cannot be.
        NotFoundError: A path that does not exist, or no recording there.
        DataError: A recording that cannot become an episode; with `keep_going`, no recording can.
            Nothing of it remains.
        ConflictError: `out` is something else, or somebody else is writing it.
        StoreError: `out` cannot be written.
    """
    began = perf_counter()
    settings = settings or IngestSettings()
    recordings = find_recordings(sources, settings.reading)
    check_out(out, len(recordings))
    items, notes = _items(recordings, settings)
    asked, misfits = fitting([item.recording for item in items], settings.robot)
    if asked is None or (misfits and not settings.keep_going):
        raise together(list(misfits.values()), len(items))
    robot = configured(asked, settings)
    run = Run(items, robot, settings, out, {r: failed(r, e) for r, e in misfits.items()})
    fresh = not out.exists()
    writer, plan = run.open()
    before = len(writer.durable)
    try:
        with writer:
            version = run.ingest(writer, plan, progress)
    except ActError as e:
        if new := len(writer.durable) - before:
            e.hint += f" {new} finished episodes are kept: the same command goes on from there."
        raise
    finally:
        if fresh and out.is_dir():
            with suppress(OSError):  # not empty: an episode was finished
                out.rmdir()
    return account(
        out,
        robot.name,
        version,
        run.outcomes,
        notes=notes,
        source_bytes=sum(size_of(item.recording) for item in items),
        seconds=perf_counter() - began,
    )


def _items(
    recordings: Sequence[Recording], settings: IngestSettings
) -> tuple[list[Item], list[str]]:
    """What is to be ingested, and a sentence for each recording that is left out.

    Raises:
        InputError: A sidecar or the file of segments says something that cannot be.
    """
    if settings.segments is None:
        return [Item(recording=r, sidecar=annotation_of(r)) for r in recordings], []
    ranges = read_ranges(settings.segments)
    ranges.check(recordings)
    items = [
        Item(recording=r, sidecar=annotation_of(r), ranges=own)
        for r in recordings
        if (own := ranges.of(r)).rows
    ]
    used = {item.recording for item in items}
    lacking = [r.name for r in recordings if r not in used]
    return items, [f"{name}: left out, {settings.segments} lists no segment" for name in lacking]


def check_out(out: Path, recordings: int) -> None:
    """Refuse a path that cannot hold what is to come, before hours are spent on it.

    Raises:
        InputError: It is no name for a dataset, or names one episode for several.
    """
    try:
        str(out).encode()
    except UnicodeEncodeError as e:
        raise InputError(f"{str(out)!r} is no UTF-8 path: {e}", hint="Pick another name.") from None
    if not out.resolve().name or out.suffix == ".h5":
        raise InputError(
            f"{str(out)!r} is no name for a dataset",
            hint="Write NAME.zarr, NAME.hdf5, or a folder for HDF5 episodes.",
        )
    if out.suffix == ".hdf5" and recordings > 1:
        raise InputError(
            f"{str(out)!r} holds exactly one episode, and there are {recordings} recordings",
            hint="Name a folder (--out without .hdf5) or a *.zarr dataset.",
        )
