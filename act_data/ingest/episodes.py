"""What one source becomes: its frames, cut into segments, as episodes in a writer's hands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from act_data.episodes import Assembler
from act_data.errors import DataError
from act_data.ingest.settings import IngestSettings
from act_data.interfaces import EpisodeWriter
from act_data.observe import Observation
from act_data.records import Annotation, EpisodeInfo, SegmentRecord, SyncReport, reason_name
from act_data.segments import Segment, Segments
from act_data.types import Frame, RawMessage, Reason, StepType, Timestep


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One episode that is durable, new or found."""

    recording: str
    uid: str
    found: bool


Write = Callable[[str, Timestep], EpisodeWriter | None]
"""A writer for the episode of this uid, which the step begins; None when it is there already."""
Describe = Callable[[Annotation], EpisodeInfo]
"""What is known about an episode: where it came from, and the annotation of its segment."""


class Episodes:
    """The episodes of one source on their way, one after the other: frames in, episodes finished.

        for frame in view.frames(...):
            episodes.add(frame)
        episodes.finish()

    Frames between segments are not decoded. A segment is one episode; several, where the settings
    cut it at gaps.

    Attributes:
        done: The finished ones.
        steps: Rows so far, of all episodes.
    """

    def __init__(
        self,
        view: Observation,
        settings: IngestSettings,
        segments: Segments,
        *,
        job: str,
        write: Write,
        describe: Describe,
    ) -> None:
        """Args: job: What the uids of the episodes are made from, beside their segment."""
        self.done: list[Done] = []
        self.steps = 0
        self._view = view
        self._segments = segments
        self._segment: Segment | None = None
        self._job = job
        self._write = write
        self._describe = describe
        self._assembler: Assembler[RawMessage] = Assembler(
            view.robot,
            view.observer,
            gap=settings.gap,
            max_gap_ticks=round(settings.max_gap_s * view.robot.fps),
        )
        self._episode: _Episode | None = None
        self._numbers: dict[str, int] = {}

    def add(self, frame: Frame[RawMessage]) -> None:
        """Take in the next frame of the source.

        Raises:
            DataError: A message does not fit its stream, or a gap is longer than it may be.
            StoreError: The dataset cannot be written.
        """
        segment = self._segments.at(self._view.recv_of(frame.tick_ns))
        if segment is not self._segment:
            self._assembler.finish()
            self._segment = segment
        if segment is not None:
            for step in self._assembler.add(frame):
                self._record(step, segment)

    def finish(self) -> list[Done]:
        """Finish the last episode; all of them.

        Raises:
            DataError: There is none.
        """
        self._segments.end()
        self.end_episode(last=True)
        if not self.done:
            raise DataError(
                f"no usable step. {_why_invalid(self._account())}",
                hint="Look at the topics' rates and stamps, or raise tolerance_ms in the "
                "robot's YAML.",
            )
        return self.done

    def discard(self) -> None:
        """Remove what was begun and not finished."""
        if self._episode is not None and self._episode.writer is not None:
            self._episode.writer.discard()
        self._episode = None

    def end_episode(self, *, last: bool) -> None:
        """Finish the episode that is open, if any. Without this it waits for the next one."""
        episode, self._episode = self._episode, None
        if episode is None:
            return
        if episode.writer is not None:
            segment = SegmentRecord(
                number=episode.number,
                key=episode.segment.key,
                start_ns=episode.start_ns,
                end_ns=episode.end_ns,
                last=last,
            )
            info = self._describe(episode.segment.annotation)
            update = {"segment": segment, "sync": self._account()}
            episode.writer.finish(info.model_copy(update=update))
        self.done.append(
            Done(recording=self._view.name, uid=episode.uid, found=episode.writer is None)
        )

    def _record(self, step: Timestep, segment: Segment) -> None:
        if step.step_type is StepType.FIRST or self._episode is None:
            if self._episode is not None:
                self.end_episode(last=self._episode.segment.key != segment.key)
            self._begin(step, segment)
        episode = self._episode
        assert episode is not None
        if episode.writer is not None:
            episode.writer.record(step)
        episode.end_ns = step.tick_ns
        self.steps += 1

    def _begin(self, first: Timestep, segment: Segment) -> None:
        number = self._numbers.get(segment.key, 0)
        self._numbers[segment.key] = number + 1
        uid = uid_of(self._job, segment.key, number)
        self._episode = _Episode(
            uid=uid,
            number=number,
            segment=segment,
            start_ns=first.tick_ns,
            end_ns=first.tick_ns,
            writer=self._write(uid, first),
        )

    def _account(self) -> SyncReport:
        """The synchronizer's account, and what only decoding could tell: what is not finite."""
        report, seen = self._view.report(), self._assembler.account
        not_finite = reason_name(Reason.NOT_FINITE)
        streams = dict(report.streams)
        for column in self._view.observer.columns:
            ticks = seen.invalid.get(column.name, {}).get(not_finite, 0)
            stream = streams[column.stream]
            if ticks > stream.invalid.get(not_finite, 0):
                invalid = {**stream.invalid, not_finite: ticks}
                streams[column.stream] = stream.model_copy(update={"invalid": invalid})
        if streams == report.streams:
            return report
        valid = min(report.valid, seen.usable)
        return report.model_copy(update={"streams": streams, "valid": valid})


@dataclass(slots=True, kw_only=True)
class _Episode:
    """The one being written; without a writer it is there already and only passes by."""

    uid: str
    number: int
    segment: Segment
    start_ns: int
    end_ns: int
    writer: EpisodeWriter | None


def uid_of(job: str, key: str, number: int) -> str:
    """The uid of the `number`-th episode of a job, or of the segment `key` in it."""
    place = f"{key}/{number}" if key else str(number)
    return hashlib.sha256(f"{job}/{place}".encode()).hexdigest()[:16]


def _why_invalid(report: SyncReport) -> str:
    """Which required streams were missing in how many of the ticks."""
    if not report.ticks:
        return "The required streams do not overlap in time."
    parts = [
        f"{name}: " + ", ".join(f"{reason} in {n}" for reason, n in stream.invalid.items() if n)
        for name, stream in report.streams.items()
        if stream.required and any(stream.invalid.values())
    ]
    if not parts:
        return "It is too short."
    return ". ".join((f"Of {report.ticks} ticks, {'; '.join(parts)}", *report.notes[:3])) + "."
