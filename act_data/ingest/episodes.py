"""What one source becomes: the steps of its segments as episodes in a writer's hands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from act_data.ingest.settings import IngestSettings
from act_data.ingest.steps import Steps
from act_data.interfaces import EpisodeWriter
from act_data.observe import Observation
from act_data.records import Annotation, EpisodeInfo, SegmentRecord
from act_data.segments import Segment, Segments
from act_data.types import NS_PER_S, Frame, RawMessage, StepType, Timestep


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

    Attributes:
        done: The finished ones.
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
        scratch: Path,
        wanted: int | None = None,
    ) -> None:
        """Args:
        job: What the uids of the episodes are made from, beside their segment.
        scratch: A folder for what is too large to wait in memory; nothing stays there.
        wanted: Steps of the source that count; None for all.
        """
        self.done: list[Done] = []
        self._name = view.name
        self._job = job
        self._write = write
        self._describe = describe
        self._steps = Steps(view, settings, segments, scratch, wanted)
        self._episode: _Episode | None = None
        self._numbers: dict[str, int] = {}
        self._filled: set[int] = set()

    def add(self, frame: Frame[RawMessage]) -> None:
        """Take in the next frame of the source.

        Raises:
            DataError: A message does not fit its stream, or a gap is longer than it may be.
            StoreError: The dataset cannot be written.
        """
        for segment, step in self._steps.add(frame):
            if step.step_type is StepType.FIRST:
                if self._episode is not None:
                    self.end_episode(last=self._episode.segment.key != segment.key)
                self._begin(step, segment)
            episode = self._episode
            assert episode is not None  # the first step of a segment is a FIRST
            if episode.writer is not None:
                episode.writer.record(step)
            episode.end_ns = step.tick_ns

    def settle(self, job: str) -> None:
        """What the job is called is known only now; the open episode gets its uid from it.

        For a source whose identity shows at its end. No episode may be finished before.
        """
        assert not self.done
        self._job = job
        if (episode := self._episode) is not None:
            episode.uid = uid_of(job, episode.segment.key, episode.number)
            if episode.writer is not None:
                episode.writer.uid = episode.uid

    def finish(self) -> list[Done]:
        """Finish the last episode; all of them.

        Raises:
            DataError: There is none.
        """
        self._steps.segments.end()
        self._steps.close()
        self.end_episode(last=True)
        if not self.done:
            raise self._steps.none()
        return self.done

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
            update = {"segment": segment, "sync": self._steps.account()}
            episode.writer.finish(info.model_copy(update=update))
        self.done.append(Done(recording=self._name, uid=episode.uid, found=episode.writer is None))

    def discard(self) -> None:
        """Remove what was begun and not finished."""
        self._steps.close()
        if self._episode is not None and self._episode.writer is not None:
            self._episode.writer.discard()
        self._episode = None

    def empty(self, origin_ns: int) -> list[str]:
        """A sentence for each segment without a step; times count from `origin_ns`."""
        return [
            f"no usable step from {_seconds(segment.start_ns, origin_ns, 'the start')} to "
            f"{_seconds(segment.stop_ns, origin_ns, 'the end')}"
            for segment in self._steps.segments.begun
            if segment.number not in self._filled
        ]

    def _begin(self, first: Timestep, segment: Segment) -> None:
        number = self._numbers.get(segment.key, 0)
        self._numbers[segment.key] = number + 1
        self._filled.add(segment.number)
        uid = uid_of(self._job, segment.key, number)
        self._episode = _Episode(
            uid=uid,
            number=number,
            segment=segment,
            start_ns=first.tick_ns,
            end_ns=first.tick_ns,
            writer=self._write(uid, first),
        )


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


def _seconds(time_ns: int | None, origin_ns: int, otherwise: str) -> str:
    return otherwise if time_ns is None else f"{(time_ns - origin_ns) / NS_PER_S:.2f} s"
