"""One recording's way into a dataset: a task that any process can do, and do again.

It makes episodes on the dataset's bench and says which; the process that holds the dataset adopts
them. What an earlier run has finished is recognised by its uid and not made again.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from act_data.engines import Advance
from act_data.episodes import GapPolicy
from act_data.errors import DataError
from act_data.fitting import named
from act_data.ingest.episodes import Done, Episodes, uid_of
from act_data.ingest.settings import FailedRecording, IngestSettings
from act_data.ingest.steps import Steps
from act_data.interfaces import Bench, EpisodeWriter, Source
from act_data.observe import Listener, Observation
from act_data.records import Annotation, EpisodeInfo, EpisodeRecord, FileRecovery, SourceRecord
from act_data.segments import Ranges, Segments, Sidecar, listeners, opens_at_first
from act_data.sources import BagSource, Recording, open_recording, readable
from act_data.types import NS_PER_MS, RobotSpec, Timestep


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One recording to ingest.

    Attributes:
        sidecar: What lies beside it.
        ranges: Its segments, where a file lists them; None where `split_by` finds them.
    """

    recording: Recording
    sidecar: Sidecar
    ranges: Ranges | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the recordings of an ingest have in common.

    Attributes:
        robot: With the joint orders that the first recording showed.
        asked: The robot without them: part of what makes a uid.
        known: Whether each finished episode, by uid, is the last one of its recording or segment.
        scratch: A folder on the disk of the dataset.
    """

    robot: RobotSpec
    asked: RobotSpec
    settings: IngestSettings
    bench: Bench
    known: dict[str, bool]
    scratch: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a recording: its episodes in order, or why there are none.

    Attributes:
        notes: Sentences about segments that hold nothing.
        recovered: What was read of its files, with `recover`.
    """

    done: tuple[Done, ...] = ()
    notes: tuple[str, ...] = ()
    failure: FailedRecording | None = None
    recovered: tuple[FileRecovery, ...] = ()


def ingest_recording(plan: Plan, item: Item, advance: Advance) -> Outcome:
    """Make the episodes of a recording, or find them finished. A task for `engines.run`.

    A recording fails as a whole: then nothing is left of what it had begun.

    Args:
        advance: Told the bytes of the recording that are done.

    Raises:
        InputError: Segments that overlap.
        StoreError: The disk is full or failing.
    """
    made: list[str] = []
    try:
        with open_recording(item.recording) as source:
            outcome = _ingested(plan, item, source, advance, made)
            outcome = replace(outcome, recovered=source.recoveries)
    except DataError as e:
        for uid in made:
            plan.bench.remove(uid)
        return Outcome(failure=failed(item.recording, e))
    advance(size_of(item.recording))
    return outcome


def first_step(
    item: Item, robot: RobotSpec, settings: IngestSettings, scratch: Path
) -> tuple[Timestep, Observation]:
    """The step that the first episode of a recording begins with, and the view that gave it.

    Raises:
        DataError: It is damaged or holds no usable step.
    """
    with open_recording(item.recording) as source:
        view = view_of(source, robot, settings)
        segments, heard = _segments(source, view, item, settings)
        with closing(Steps(view, settings, segments, scratch, item.sidecar.steps)) as steps:
            for frame in view.frames(heard):
                for _, step in steps.add(frame):
                    return step, view
            raise steps.none()


def failed(recording: Recording, error: DataError) -> FailedRecording:
    """The record of a recording that cannot be ingested."""
    error = named(error, recording)
    files = tuple(readable(str(f)) for f in recording.files)
    return FailedRecording(recording=recording.name, files=files, error=str(error), hint=error.hint)


def size_of(recording: Recording) -> int:
    """The bytes of all its files."""
    return sum(file.stat().st_size for file in recording.files)


def is_last(record: EpisodeRecord, settings: IngestSettings) -> bool:
    """Whether no episode of the same recording or segment follows, for `Plan.known`."""
    if record.info.segment is None:  # an older ingest, which did not say
        return settings.gap is not GapPolicy.CUT
    return record.info.segment.last


def _ingested(
    plan: Plan, item: Item, source: BagSource, advance: Advance, made: list[str]
) -> Outcome:
    """Args: made: Gets the uids of the episodes that are being made."""
    settings, name = plan.settings, item.recording.name
    view = view_of(source, plan.robot, settings)
    origin = source.record(view.topics)
    job = digest(origin.sha256 + origin.types, plan.asked, settings, item.sidecar.steps)
    segments, heard = _segments(source, view, item, settings)
    if found := _found(plan, job, segments):
        return Outcome(done=tuple(Done(recording=name, uid=uid, found=True) for uid in found))

    def write(uid: str, first: Timestep) -> EpisodeWriter | None:
        if uid in plan.known:
            return None
        made.append(uid)
        return plan.bench.episode(uid)

    episodes = Episodes(
        view,
        settings,
        segments,
        job=job,
        write=write,
        describe=lambda said: describe(origin, settings.annotation.over(said.over(item.sidecar))),
        scratch=plan.scratch,
        wanted=item.sidecar.steps,
    )
    try:
        size, span_ns = size_of(item.recording), max(1, origin.end_ns - origin.start_ns)
        for frame in view.frames(heard):
            episodes.add(frame)
            passed_ns = view.recv_of(frame.tick_ns) - origin.start_ns  # as if spread evenly
            advance(max(0, min(size, size * passed_ns // span_ns)))
            if item.ranges is not None and segments.over:
                break
        done = episodes.finish()
    except BaseException:
        episodes.discard()
        raise
    notes = tuple(f"{name}: {what}" for what in episodes.empty(origin.start_ns))
    return Outcome(done=tuple(done), notes=notes)


def view_of(source: Source, robot: RobotSpec, settings: IngestSettings) -> Observation:
    """The robot's view of a source, as the settings want it."""
    return Observation(source, robot, latency_ns=round(settings.latency_ms * NS_PER_MS))


def _segments(
    source: BagSource, view: Observation, item: Item, settings: IngestSettings
) -> tuple[Segments, dict[str, Listener]]:
    """The segments of a recording, and who must hear what while it is read."""
    if item.ranges is not None:
        return Segments(item.ranges.marks(source.span_ns[0]), open_at_first=False), {}
    segments = Segments(open_at_first=opens_at_first(settings.splits))
    required = {view.streams[s.name].name for s in view.robot.streams if s.required}
    heard = listeners(settings.splits, source.topics, required, source.deserialize, segments.put)
    return segments, heard


def _found(plan: Plan, job: str, segments: Segments) -> list[str]:
    """The episodes of a recording if all are finished; else none, and it must be read.

    Those that are finished of others then pass by and are not written again.
    """
    found: list[str] = []
    for key in segments.keys:
        number = 0
        last = False
        while not last:
            uid = uid_of(job, key, number)
            if uid not in plan.known:
                return []
            last = plan.known[uid]
            found.append(uid)
            number += 1
    return found


def describe(origin: SourceRecord, said: Annotation) -> EpisodeInfo:
    """What is known about an episode: where it came from, and what was said about it."""
    words = said.model_dump(include=set(Annotation.model_fields), exclude_none=True)
    return EpisodeInfo(source=origin, **words)


def digest(
    source_sha256: str, robot: RobotSpec, settings: IngestSettings, steps: int | None
) -> str:
    """What decides an episode's content: the recording, the robot, and how it is read.

    Args:
        steps: How many of the recording are wanted; None for all.

    Segments that a file lists are not in it: each is told by its own times.
    """
    always = {"latency_ms", "gap", "max_gap_s", "codec", "quality"}
    # What was added later leaves the uids of older datasets as they are.
    added = {"split_by", "max_timesteps", "trim_idle"}
    reading = settings.model_dump(mode="json", include=always | added)
    reading = {k: v for k, v in reading.items() if k in always or v}
    if settings.trim_idle:
        reading["idle_threshold"] = settings.idle_threshold
    if steps is not None:
        reading["steps"] = steps
    text = json.dumps([source_sha256, asdict(robot), reading], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
