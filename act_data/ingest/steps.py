"""Frames of one source become steps of segments: assembled, trimmed, cut to length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from act_data.episodes import Assembler
from act_data.errors import DataError
from act_data.ingest.settings import IngestSettings
from act_data.observe import Observation
from act_data.records import SyncReport, reason_name
from act_data.segments import IdleTrim, Segment, Segments
from act_data.types import Frame, RawMessage, Reason, StepType, Timestep


class Steps:
    """Turns the frames of a source into the steps of its segments; FIRST begins an episode.

    Frames between segments are not decoded. A segment is one episode, or several: where the
    settings cut it at gaps or to a length. Episodes that follow each other within a segment because
    of their length share no step, and together have all of its steps.
    """

    def __init__(
        self,
        view: Observation,
        settings: IngestSettings,
        segments: Segments,
        scratch: Path,
        wanted: int | None = None,
    ) -> None:
        """Args:
        scratch: A folder for what is too large to wait in memory; nothing stays there.
        wanted: Steps of the source that count; None for all.
        """
        self._view = view
        self._segments = segments
        self._segment: Segment | None = None
        self._assembler: Assembler[RawMessage] = Assembler(
            view.robot,
            view.observer,
            gap=settings.gap,
            max_gap_ticks=round(settings.max_gap_s * view.robot.fps),
        )
        self._idle = (
            IdleTrim(view.robot, settings.idle_threshold, scratch) if settings.trim_idle else None
        )
        self._longest = settings.max_timesteps
        self._length = 0
        self._wanted = wanted
        self._given = 0

    def add(self, frame: Frame[RawMessage]) -> Iterator[tuple[Segment, Timestep]]:
        """The steps that `frame` completes, and the segment they belong to.

        Raises:
            DataError: A message does not fit its stream, or a gap is longer than it may be.
            StoreError: There is no room for what waits.
        """
        segment = self._segments.at(self._view.recv_of(frame.tick_ns))
        if segment is not self._segment:
            self._assembler.finish()
            self._segment = segment
        if segment is None:
            return
        for step in self._assembler.add(frame):
            for kept in (step,) if self._idle is None else self._idle.add(step):
                if self._given != self._wanted:
                    self._given += 1
                    yield segment, self._limited(kept)

    def close(self) -> None:
        """No frame will come any more."""
        if self._idle is not None:
            self._idle.close()

    @property
    def segments(self) -> Segments:
        """The segments so far."""
        return self._segments

    def account(self) -> SyncReport:
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

    def none(self) -> DataError:
        """The error about a source that gave no step."""
        return DataError(
            f"no usable step. {self._why_none()}",
            hint="Look at the topics' rates and stamps, or raise tolerance_ms in the robot's YAML.",
        )

    def _why_none(self) -> str:
        """Which required streams were missing in how many of the ticks, or what else it was."""
        report, seen = self.account(), self._assembler.account
        if not report.ticks:
            return "The required streams do not overlap in time."
        if not self._segments.begun:
            return "No segment begins in it."
        if seen.rows:
            return "Nothing moves in it."
        parts = [
            f"{name}: " + ", ".join(f"{reason} in {n}" for reason, n in stream.invalid.items() if n)
            for name, stream in report.streams.items()
            if stream.required and any(stream.invalid.values())
        ]
        if not parts:
            return "It is too short."
        told = (f"Of {report.ticks} ticks, {'; '.join(parts)}", *report.notes[:3])
        return ". ".join(told) + "."

    def _limited(self, step: Timestep) -> Timestep:
        if step.step_type is StepType.FIRST:
            self._length = 0
        elif self._length == self._longest:
            step, self._length = replace(step, step_type=StepType.FIRST), 0
        self._length += 1
        return step
