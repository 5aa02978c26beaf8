"""A dataset that is written while its recordings are made: one spool after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self
from uuid import uuid4

from act_data.episodes import GapPolicy
from act_data.errors import DataError
from act_data.fitting import together
from act_data.ingest.account import account
from act_data.ingest.episodes import Episodes
from act_data.ingest.recording import (
    Item,
    Outcome,
    Plan,
    describe,
    digest,
    first_step,
    ingest_recording,
    is_last,
    view_of,
)
from act_data.ingest.run import opened
from act_data.ingest.settings import FailedRecording, IngestReport, IngestSettings
from act_data.interfaces import DatasetWriter, EpisodeWriter
from act_data.records import EpisodeInfo, VersionRecord
from act_data.segments import Segments, annotation_of
from act_data.sources import Recording, find_recordings, readable
from act_data.sources.live import DiscardedError, FollowedSpool
from act_data.types import RobotSpec, Timestep


class LiveRun:
    """The episodes of a session on their way into one dataset.

    Each is what an ingest of its finished recording gives: same uid, same content. Where that
    cannot be had while it is recorded, the recording is ingested when it is finished.
    """

    def __init__(
        self, robot: RobotSpec, settings: IngestSettings, out: Path, ended: Callable[[], bool]
    ) -> None:
        """Args: ended: Whether nobody records any more."""
        self._robot = robot
        self._settings = settings
        self._out = out
        self._ended = ended
        self._began = perf_counter()
        self._outcomes: list[Outcome] = []
        self._bytes = 0
        self._writer: DatasetWriter | None = None
        self._plan: Plan | None = None
        self._close = ExitStack()

    def follow(self, target: Path) -> None:
        """Write the episode of the recording that becomes `target`, and come back at its end.

        A recording that cannot be ingested is part of the account; the next one may follow.

        Raises:
            ConflictError: The dataset is something else, or somebody else is writing it.
            StoreError: The dataset cannot be written.
        """
        try:
            outcome = self._followed(target)
        except DiscardedError:
            return
        except DataError as e:
            name = readable(target.stem)
            text = str(e) if str(e).startswith(name) else f"{name}: {e}"
            outcome = Outcome(
                failure=FailedRecording(
                    recording=name, files=(readable(str(target)),), error=text, hint=e.hint
                )
            )
        if target.exists():
            self._bytes += target.stat().st_size
        self._outcomes.append(outcome)

    def finish(self) -> IngestReport | None:
        """Make all episodes visible as one version; None when nothing was recorded.

        Raises:
            DataError: No recording could become an episode.
            StoreError: The disk is full or failing.
        """
        done = [done.uid for outcome in self._outcomes for done in outcome.done]
        failures = [outcome.failure for outcome in self._outcomes if outcome.failure]
        if failures and not done:
            errors = [DataError(failure.error, hint=failure.hint) for failure in failures]
            raise together(errors, len(self._outcomes))
        if self._writer is None or not done:
            return None
        version: VersionRecord = self._writer.commit(done)
        return account(
            self._out,
            self._robot.name,
            version,
            self._outcomes,
            source_bytes=self._bytes,
            seconds=perf_counter() - self._began,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close.__exit__(kind, error, trace)

    def _followed(self, target: Path) -> Outcome:
        settings = self._settings
        with FollowedSpool(target, self._ended) as source:
            if _is_read_otherwise(settings):
                source.wait()
                return self._afterwards(target)
            view = view_of(source, self._plan.robot if self._plan else self._robot, settings)

            def silent() -> bool:
                # A topic without a message counts as missing from a recording.
                return not all(source.counts[topic] for topic in view.topics)

            recording = Recording(source.name, "mcap", (target,))  # as it will be found
            wanted = annotation_of(recording).steps

            def write(uid: str, first: Timestep) -> EpisodeWriter:
                if silent():
                    raise _TooEarlyError
                plan = self._plan or self._open(*opened(first, view, settings, self._out))
                return plan.bench.episode(uid)

            def info(_: object) -> EpisodeInfo:
                said = settings.annotation.over(annotation_of(recording))
                return describe(source.record(view.topics), said)

            episodes = Episodes(
                view,
                settings,
                Segments(),
                job=uuid4().hex,
                write=write,
                describe=info,
                scratch=self._out.resolve().parent,
                wanted=wanted,
            )
            try:
                for frame in view.frames():
                    episodes.add(frame)
                origin = source.record(view.topics)
                if silent():
                    raise _TooEarlyError
                episodes.settle(digest(origin.sha256, self._robot, settings, wanted))
                done = episodes.finish()
            except _TooEarlyError:
                episodes.discard()
                source.wait()
                return self._afterwards(target)
            except BaseException:
                episodes.discard()
                raise
        outcome = Outcome(done=tuple(done))
        self._adopt(outcome)
        return outcome

    def _afterwards(self, target: Path) -> Outcome:
        """Ingest the finished recording."""
        (recording,) = find_recordings([target], self._settings.reading)
        item = Item(recording=recording, sidecar=annotation_of(recording))
        plan = self._plan
        if plan is None:
            scratch = self._out.resolve().parent
            first, view = first_step(item, self._robot, self._settings, scratch)
            plan = self._open(*opened(first, view, self._settings, self._out))
        outcome = ingest_recording(plan, item, lambda amount: None)
        self._adopt(outcome)
        return outcome

    def _open(self, writer: DatasetWriter, plan: Plan) -> Plan:
        self._writer, self._plan = self._close.enter_context(writer), plan
        return plan

    def _adopt(self, outcome: Outcome) -> None:
        for done in outcome.done:
            if not done.found:
                assert self._writer is not None
                assert self._plan is not None
                record = self._writer.adopt(done.uid)
                self._plan.known[done.uid] = is_last(record, self._settings)


class _TooEarlyError(Exception):
    """What the recording holds is not known before its end."""


def _is_read_otherwise(settings: IngestSettings) -> bool:
    """Whether a recording must be finished first: it may become several episodes, whose identity
    shows at its end, or a person says how its types are read.
    """
    cut = settings.gap is GapPolicy.CUT or settings.split_by or settings.segments
    return bool(cut or settings.max_timesteps or settings.msg_path or settings.typestore)
