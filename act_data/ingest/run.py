"""One ingest on its way: the dataset it writes, and what became of each recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from act_data import engines
from act_data.episodes import schema_of
from act_data.errors import DataError
from act_data.fitting import together
from act_data.ingest.episodes import Done
from act_data.ingest.recording import (
    Item,
    Outcome,
    Plan,
    failed,
    first_step,
    ingest_recording,
    is_last,
    size_of,
)
from act_data.ingest.settings import FailedRecording, IngestSettings
from act_data.interfaces import DatasetWriter
from act_data.observe import Observation
from act_data.records import VersionRecord
from act_data.robot import with_joints
from act_data.sources import Recording
from act_data.store import open_writer
from act_data.types import RobotSpec, Timestep

Progress = Callable[[int, int], None]
"""Hears the bytes of recordings that are done, and those of all."""


class Run:
    """The recordings of one ingest, their outcomes, and the writer that adopts their episodes."""

    def __init__(
        self,
        items: Sequence[Item],
        robot: RobotSpec,
        settings: IngestSettings,
        out: Path,
        unfit: dict[Recording, FailedRecording],
    ) -> None:
        """Args: unfit: Recordings that are known to fail; with `keep_going` only."""
        self._items = items
        self._robot = robot
        self._settings = settings
        self._out = out
        self._outcomes = {r: Outcome(failure=failure) for r, failure in unfit.items()}

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of the recordings, in their order."""
        return [self._outcomes[item.recording] for item in self._items]

    @property
    def done(self) -> list[Done]:
        """The episodes of all recordings, in the order of the recordings."""
        return [done for outcome in self.outcomes for done in outcome.done]

    def open(self) -> tuple[DatasetWriter, Plan]:
        """The writer, for the schema of the first recording that has one, and the plan.

        Raises:
            DataError: That recording fails; with `keep_going`, all of them do.
            ConflictError: `out` is something else, or somebody else is writing it.
            StoreError: `out` cannot be written.
        """
        scratch = next(p for p in (self._out.parent, *self._out.parent.parents) if p.exists())
        for item in self._waiting():
            try:
                first, view = first_step(item, self._robot, self._settings, scratch)
            except DataError as e:
                self._fail(item, failed(item.recording, e))
                continue
            return opened(first, view, self._settings, self._out)
        raise self.nothing()

    def ingest(self, writer: DatasetWriter, plan: Plan, progress: Progress) -> VersionRecord:
        """Ingest what has not failed yet, and make everything that is done visible.

        Raises:
            DataError: A recording fails; with `keep_going`, all of them do.
            LostWorkerError: A process was killed, without `keep_going`.
            StoreError: The disk is full or failing.
        """
        items = self._waiting()
        sizes = [size_of(item.recording) for item in items]
        amounts, so_far = [0] * len(items), 0

        def told(number: int, amount: int) -> None:
            nonlocal so_far
            so_far += amount - amounts[number]
            amounts[number] = amount
            progress(so_far, sum(sizes))

        results = engines.run(
            ingest_recording, plan, items, jobs=self._settings.jobs, progress=told
        )
        try:
            with closing(results):  # whatever happens here: nobody works on when the writer ends
                for number, outcome in results:
                    self._take(items[number], outcome, writer, plan)
        except engines.LostWorkerError as e:
            for item in self._waiting():
                error = DataError(f"{item.recording.name}: {e}", hint=e.hint)
                if not self._settings.keep_going:
                    raise
                self._fail(item, failed(item.recording, error))
        if not self.done:
            raise self.nothing()
        return writer.commit([done.uid for done in self.done])

    def nothing(self) -> DataError:
        """The error about an ingest of which every recording failed."""
        failures = [o.failure for o in self.outcomes if o.failure is not None]
        errors = [DataError(failure.error, hint=failure.hint) for failure in failures]
        return together(errors, len(self._items))

    def _waiting(self) -> list[Item]:
        return [item for item in self._items if item.recording not in self._outcomes]

    def _take(self, item: Item, outcome: Outcome, writer: DatasetWriter, plan: Plan) -> None:
        """Adopt the episodes of a recording; one that two recordings have is adopted once."""
        if outcome.failure is not None:
            self._fail(item, outcome.failure)
            return
        done: list[Done] = []
        for episode in outcome.done:
            found = episode.found or episode.uid in writer.durable
            if not found:
                record = writer.adopt(episode.uid)
                plan.known[episode.uid] = is_last(record, self._settings)
            done.append(replace(episode, found=found))
        self._outcomes[item.recording] = replace(outcome, done=tuple(done))

    def _fail(self, item: Item, failure: FailedRecording) -> None:
        if not self._settings.keep_going:
            raise DataError(failure.error, hint=failure.hint)
        self._outcomes[item.recording] = Outcome(failure=failure)


def opened(
    first: Timestep, view: Observation, settings: IngestSettings, out: Path
) -> tuple[DatasetWriter, Plan]:
    """The writer of the dataset whose schema `first` of `view` shows, and the plan for it.

    Raises:
        ConflictError: `out` is something else, or somebody else is writing it.
        StoreError: `out` cannot be written.
    """
    zarr = out.suffix == ".zarr"
    robot = with_joints(view.robot, view.joints())
    schema = schema_of(
        robot,
        first,
        view.observer.columns,
        codec=settings.codec or ("jpeg" if zarr else "raw"),
        depth_codec="blosc" if zarr else "raw",
        quality=settings.quality,
    ).model_copy(update={"latency_ms": settings.latency_ms})
    writer = open_writer(out, schema, shard_frames=settings.shard_frames)
    try:
        return writer, Plan(
            robot=robot,
            asked=view.robot,
            settings=settings,
            bench=writer.bench,
            known={uid: is_last(r, settings) for uid, r in writer.durable.items()},
            scratch=out.resolve().parent,
        )
    except BaseException as e:
        writer.__exit__(type(e), e, e.__traceback__)
        raise
