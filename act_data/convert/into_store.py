"""From any source into a dataset of this toolkit: act-zarr, or ALOHA's HDF5 layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from act_data.convert.dialects import codec_of, picture_codec
from act_data.convert.foreign import Foreign, ForeignEpisode, Origin, Row, Sync, nominal_ns
from act_data.convert.mapping import Planned, value_of
from act_data.convert.progress import Progress, Skipped, reading
from act_data.convert.settings import ConvertedEpisode, ConvertSettings, Target
from act_data.errors import DataError
from act_data.interfaces import EpisodeWriter
from act_data.records import (
    TIMESTAMP,
    Codec,
    DatasetSchema,
    EpisodeInfo,
    Feature,
    ImportRecord,
    PictureOrigin,
    SourceRecord,
    StoredPicture,
    VersionRecord,
)
from act_data.store import jpeg, open_writer
from act_data.store.hashing import canonical_json
from act_data.types import EncodedImage, Role, StepType, Timestep, Value

_NONE = Sync(
    tick_ns=0,
    skew_ns=np.zeros(0, np.int64),
    reason=np.zeros(0, np.uint8),
    index=np.zeros(0, np.int64),
)


def schema_of(
    foreign: Foreign, planned: Sequence[Planned], settings: ConvertSettings, *, target: Target
) -> DatasetSchema:
    """The schema of the target. Without stamps in the source it has no sync columns at all."""
    features = [
        _feature(p, _codec(p, foreign, settings, target), settings.quality or p.parts[0].quality)
        for p in planned
    ]
    if foreign.schema is not None:
        changes: dict[str, object] = {
            "features": (*features, *foreign.schema.named(Role.SYNC)),
            "simulated": foreign.simulated if settings.simulated is None else settings.simulated,
            "robot": settings.robot or foreign.schema.robot,
        }
        if settings.action_shift is not None:
            changes["action_shift"] = settings.action_shift
        return foreign.schema.model_copy(update=changes)
    features.append(Feature(name=TIMESTAMP, role=Role.SYNC, dtype="int64", shape=(), unit="ns"))
    fps = settings.fps or foreign.fps
    assert fps is not None  # checked at the door
    simulated = foreign.simulated if settings.simulated is None else settings.simulated
    return DatasetSchema(
        robot=settings.robot or foreign.robot,
        fps=fps,
        action_shift=settings.action_shift or 0,
        features=tuple(features),
        stamps=foreign.stamps,
        simulated=bool(simulated),
    )


def _feature(planned: Planned, codec: Codec, quality: int) -> Feature:
    original = planned.parts[0].original
    if original is not None and original == StoredPicture(
        height=planned.shape[0], width=planned.shape[1], codec=codec, quality=quality
    ):
        original = None
    return Feature(
        name=planned.name,
        role=planned.role,
        dtype=planned.dtype,
        shape=planned.shape,
        unit=planned.unit,
        names=planned.names,
        codec=codec,
        quality=quality,
        columns=planned.columns,
        original=original,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One conversion into a dataset of this toolkit."""

    foreign: Foreign
    planned: Sequence[Planned]
    schema: DatasetSchema
    settings: ConvertSettings
    target: Target


def write(
    job: Job, out: Path, progress: Progress, skipped: Skipped
) -> tuple[VersionRecord, list[ConvertedEpisode], dict[str, int]]:
    """Write every episode that is not there yet, and make all of them visible.

    Returns:
        The version, the episodes, and by picture array the most generations of any episode.

    Raises:
        DataError: An episode cannot be read and none may be skipped, or none can be read.
        StoreError: `out` cannot be written. Finished episodes are kept for the next run.
    """
    done: list[ConvertedEpisode] = []
    generations: dict[str, int] = {}
    splits = {}
    with open_writer(out, job.schema, shard_frames=job.settings.shard_frames) as writer:
        for episode in job.foreign.episodes:
            try:
                origin = episode.origin()
                uid = _uid(origin.source, episode, job.schema)
                found = uid in writer.durable
                if not found:
                    _episode(job, episode, origin, writer.episode(uid), progress)
            except DataError as e:
                skipped.note(episode, e)
                continue
            finally:
                progress.episode(episode)
            info = writer.durable[uid].info
            for name, picture in (info.imported.pictures if info.imported else {}).items():
                generations[name] = max(generations.get(name, 0), picture.generations)
            if episode.split is not None:
                splits[uid] = episode.split
            steps = writer.durable[uid].length
            done.append(ConvertedEpisode(source=episode.name, uid=uid, steps=steps, found=found))
        if not done:
            raise skipped.nothing_left()
        version = writer.commit([d.uid for d in done], splits=splits)
    return version, done, generations


def _episode(
    job: Job,
    episode: ForeignEpisode,
    origin: Origin,
    writer: EpisodeWriter,
    progress: Progress,
) -> None:
    again: set[str] = set()  # JPEG arrays of which a frame had to be encoded
    jpegs = {f.name: f for f in job.schema.features if f.codec == "jpeg"}
    swapped = job.target == "aloha_hdf5"
    try:
        for t, step in enumerate(_steps(episode, job.planned, job.schema)):
            for name, feature in jpegs.items():
                value = step.observation.get(name)
                kept = isinstance(value, EncodedImage) and jpeg.fits(
                    value, feature, swapped=swapped
                )
                again |= set() if kept else {name}
            writer.record(step)
            progress.step(episode, t + 1)
        pictures = {
            p.name: _encoded(p, origin, again=p.name in again) for p in job.planned if p.picture
        }
        writer.finish(_info(job, episode, origin, pictures))
    except BaseException:
        writer.discard()
        raise


def _steps(
    episode: ForeignEpisode, planned: Sequence[Planned], schema: DatasetSchema
) -> Iterator[Timestep]:
    count = 0
    for t, row in enumerate(reading(episode.rows())):
        where = f"{episode.name}, step {t}"
        sync = row.sync or _NONE
        yield Timestep(
            step_type=StepType.MID if t else StepType.FIRST,
            tick_ns=sync.tick_ns if row.sync else nominal_ns(t, schema.fps),
            observation=_side(planned, Role.OBSERVATION, row, where),
            action=_side(planned, Role.ACTION, row, where),
            skew_ns=sync.skew_ns,
            reason=sync.reason,
            index=sync.index,
        )
        count += 1
    if count != episode.length:
        raise DataError(f"{episode.name} has {count} steps where {episode.length} are promised")


def _side(planned: Sequence[Planned], role: Role, row: Row, where: str) -> dict[str, Value]:
    return {p.name: value_of(p, row.values, where) for p in planned if p.role is role}


def _codec(p: Planned, foreign: Foreign, settings: ConvertSettings, target: Target) -> Codec:
    if not p.picture:
        return codec_of(p.parts[0], p.dtype, foreign, target)
    return picture_codec(p.parts[0], foreign, settings, target)


def _encoded(p: Planned, origin: Origin, *, again: bool) -> PictureOrigin:
    part = p.parts[0]
    before = origin.pictures.get(part.name)
    known = before.generations if before is not None else int(part.lossy)
    encoding = before.encoding if before is not None else part.encoding
    return PictureOrigin(encoding=encoding, generations=known + int(again))


def _info(
    job: Job, episode: ForeignEpisode, origin: Origin, pictures: Mapping[str, PictureOrigin]
) -> EpisodeInfo:
    settings, before = job.settings, origin.info
    task = settings.task if settings.task is not None else (before.task if before else episode.task)
    earlier = before.imported if before else None
    imported = ImportRecord(
        variant=job.foreign.variant,
        pictures=pictures,
        notes=(*(earlier.notes if earlier else ()), *job.foreign.notes),
        origin=(earlier.origin if earlier else None) or (before.source if before else None),
    )
    changes = {"source": origin.source, "task": task, "imported": imported}
    return before.model_copy(update=changes) if before else EpisodeInfo.model_validate(changes)


def _uid(source: SourceRecord, episode: ForeignEpisode, schema: DatasetSchema) -> str:
    """The same job gives the same uid, so a run that was interrupted finds what it finished."""
    job = [source.kind, source.sha256, episode.name, schema.model_dump(mode="json")]
    return hashlib.sha256(canonical_json(job)).hexdigest()[:16]
