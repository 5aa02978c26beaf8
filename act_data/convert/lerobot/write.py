"""From any source into a LeRobot dataset, v3.0. It appears whole, by one rename, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from act_data.convert.foreign import Foreign, ForeignEpisode, Origin, Row
from act_data.convert.lerobot import layout
from act_data.convert.lerobot.dataset import Recorder
from act_data.convert.lerobot.video import VideoCodec, choose_codec
from act_data.convert.mapping import Planned, plan
from act_data.convert.progress import Progress, Skipped, reading
from act_data.convert.settings import ConvertedEpisode, ConvertSettings
from act_data.errors import ConflictError, DataError, InputError
from act_data.records import DatasetSchema, EpisodeInfo, ImportRecord, PictureOrigin
from act_data.store.files import sync_folder, writing
from act_data.store.lock import WriterLock
from act_data.types import Reason


@dataclass(slots=True)
class Written:
    """What became of a conversion.

    Attributes:
        stored: How pictures are kept: "av1", "h264" or "png".
        pieces: Episodes of LeRobot; more than those of the source where they were cut.
    """

    stored: str
    episodes: list[ConvertedEpisode] = field(default_factory=list)
    generations: dict[str, int] = field(default_factory=dict)
    pieces: int = 0


def plan_export(
    foreign: Foreign, settings: ConvertSettings
) -> tuple[list[Planned], dict[str, str]]:
    """What becomes which feature, and what is left out.

    Raises:
        InputError: LeRobot has no place for an array, or no such name; says the way out.
    """
    arrays = [replace(a, target=layout.key_of(a.target, a.role)) for a in foreign.arrays]
    planned, left_out = plan(arrays, settings.names)
    for p in planned:
        if p.dtype == "uint16":
            raise InputError(
                f"LeRobot has no place for the 16-bit depth of {p.parts[0].name!r}",
                hint=f"Leave it out with --map {p.parts[0].name}=",
            )
        if "/" in p.name or p.name in layout.COUNTED or p.name.startswith("sync."):
            raise InputError(
                f"{p.name!r} cannot be the name of a feature in LeRobot",
                hint="Use names such as observation.state, observation.images.front, action.",
            )
    fps = settings.fps or foreign.fps
    if fps is not None and fps != int(fps):
        raise InputError(
            f"LeRobot has whole steps per second, the source has {fps:g}",
            hint="Ingest the recordings again with a whole --fps.",
        )
    return planned, left_out


def write(
    foreign: Foreign,
    planned: Sequence[Planned],
    ours: Sequence[Planned],
    schema: DatasetSchema,
    out: Path,
    settings: ConvertSettings,
    progress: Progress,
    skipped: Skipped,
) -> Written:
    """Write every episode, those of the train split first.

    Args:
        ours: The same arrays under the names that they have, or would have, in this toolkit.
        schema: Of `ours`.

    Raises:
        DataError: An episode cannot be read and none may be skipped, or none can be read.
        ConflictError: Something lies at `out`.
        StoreError: `out` cannot be written.
    """
    codec: VideoCodec | None = None
    if settings.pictures == "video" and any(p.picture for p in planned):
        codec = choose_codec(settings.video_codec)
    written = Written(stored=codec or "png")
    names = {part.name: p.name for p in ours for part in p.parts}
    with _appearing(out) as scratch:
        recorder = Recorder(scratch, planned, schema, names, settings, codec)
        try:
            order = sorted(foreign.episodes, key=lambda e: e.split == "val")  # stable
            for episode in order:
                try:
                    _episode(episode, planned, schema, settings, recorder, progress, written)
                except DataError as e:
                    skipped.note(episode, e)
                finally:
                    progress.episode(episode)
            if not written.pieces:
                raise skipped.nothing_left()
            recorder.close(out.name, foreign.facts)
        finally:
            recorder.abandon()
    return written


def _episode(
    episode: ForeignEpisode,
    planned: Sequence[Planned],
    schema: DatasetSchema,
    settings: ConvertSettings,
    recorder: Recorder,
    progress: Progress,
    written: Written,
) -> None:
    if settings.damaged == "skip":
        # What is in a video stays there: an episode that may be skipped is read once before.
        for t, row in enumerate(reading(episode.rows())):
            recorder.checked(row, f"{episode.name}, step {t}", masked=_masked(row, planned, schema))
    origin = episode.origin()
    info = _info(episode, origin, planned, settings, schema, lossy=written.stored != "png")
    count, kept = 0, 0
    for t, row in enumerate(reading(episode.rows())):
        count += 1
        masked = _masked(row, planned, schema)
        if masked and settings.masked == "cut":
            written.pieces += recorder.end(info, episode.split)
            continue
        values = recorder.checked(row, f"{episode.name}, step {t}", masked=False)
        recorder.record(values, row.sync, info.task, episode.length)
        kept += 1
        progress.step(episode, t + 1)
    written.pieces += recorder.end(info, episode.split)
    if count != episode.length:
        raise DataError(f"{episode.name} has {count} steps where {episode.length} are promised")
    if not kept:
        raise DataError(f"{episode.name}: not one step has valid data in every array")
    for name, picture in info.imported.pictures.items() if info.imported else ():
        before = written.generations.get(name, 0)
        written.generations[name] = max(before, picture.generations)
    written.episodes.append(
        ConvertedEpisode(source=episode.name, uid="", steps=kept, left_out=count - kept)
    )


def _masked(row: Row, planned: Sequence[Planned], schema: DatasetSchema) -> bool:
    """Whether an array of this step is not validly synchronised."""
    if row.sync is None or not schema.columns:
        return False
    needed = {column for p in planned for column in p.columns}
    used = [i for i, column in enumerate(schema.columns) if column.name in needed]
    return bool((row.sync.reason[used] != Reason.OK).any())


def _info(
    episode: ForeignEpisode,
    origin: Origin,
    planned: Sequence[Planned],
    settings: ConvertSettings,
    schema: DatasetSchema,
    *,
    lossy: bool,
) -> EpisodeInfo:
    before = origin.info
    pictures = {}
    for p in planned:
        if p.picture:
            part = p.parts[0]
            known = origin.pictures.get(part.name)
            encoding, generations = part.encoding, int(part.lossy)
            if known is not None:
                encoding, generations = known.encoding, known.generations
            pictures[p.name] = PictureOrigin(encoding=encoding, generations=generations + lossy)
    earlier = before.imported if before else None
    imported = ImportRecord(
        variant="LeRobot v3.0",
        pictures=pictures,
        notes=earlier.notes if earlier else (),
        origin=(earlier.origin if earlier else None) or (before.source if before else None),
    )
    task = settings.task if settings.task is not None else (before.task if before else episode.task)
    # The account of a synchronisation is as large as an episode's numbers: it stays in the source.
    changes = {"source": origin.source, "task": task, "imported": imported, "sync": None}
    return before.model_copy(update=changes) if before else EpisodeInfo.model_validate(changes)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out` that becomes it, durably, if the block ends well."""
    root = Path(os.path.realpath(out))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConflictError(
            f"{str(out)!r} exists", hint="A LeRobot dataset is not continued: pick another path."
        )
    with writing(root.parent, 0):
        root.parent.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(root)
    scratch = root.with_name(f".{root.name}.partial")
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        with writing(scratch, 0):
            scratch.mkdir()
            yield scratch
            _sync_tree(scratch)
            scratch.rename(root)
            sync_folder(root.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
