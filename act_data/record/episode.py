"""One episode on its way: spooled and watched by a thread of its own, kept or not at the end."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from act_data.errors import ActError, DataError
from act_data.observe import Observation
from act_data.record.files import sidecar_path, write_sidecar
from act_data.record.operator import Command
from act_data.record.robot_here import RobotHere
from act_data.record.settings import RecordedEpisode, RecordSettings, Stop, Verdict
from act_data.record.watch import Watch
from act_data.records import Annotation
from act_data.segments import Mark, Sidecar, listeners
from act_data.sources.live import Inbox, LiveBackend, LiveSource, Spool
from act_data.sources.storage import Channel
from act_data.types import NS_PER_MS


class Episode:
    """Records from the moment it is made until something stops it.

    Attributes:
        target: The file that it becomes.
        source: What is heard.
        watch: How good it is so far.
        began: Monotonic time of the start.
        command: What the operator asked for while it was recorded.
        error: Why it failed, once it has ended; what came before is in its file.
    """

    def __init__(
        self,
        backend: LiveBackend,
        inbox: Inbox,
        here: RobotHere,
        channels: Mapping[str, Channel],
        target: Path,
        settings: RecordSettings,
        threads: Executor,
        after: LiveSource,
    ) -> None:
        """Args: threads: One is free. after: Who listened until now.

        Raises:
            DataError: A required stream has no topic among `channels`.
            StoreError: The file cannot be made.
        """
        self.target = target
        self.command: Command | None = None
        self.error: ActError | None = None
        self.watch = Watch(here.robot.action_shift, settings.max_timesteps)
        self._settings = settings
        self._spool = Spool(target, channels.values(), _about(backend, here, settings))
        try:
            write_sidecar(target, self._sidecar(None))
            self.source = LiveSource(backend, inbox, channels, self._spool, after=after)
            latency_ns = round(settings.latency_ms * NS_PER_MS)
            self._view = Observation(self.source, here.robot, latency_ns=latency_ns)
            self._listen = listeners(
                settings.stops, self.source.topics, (), self.source.deserialize, self._marked
            )
        except BaseException:
            self._remove()
            raise
        self._stop = Stop.SOURCE_ENDED
        self.began = monotonic()
        self._seconds = 0.0
        self._future: Future[None] = threads.submit(self._record)

    @property
    def ended(self) -> bool:
        """Whether nothing more is recorded."""
        return self._future.done()

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return self._seconds or monotonic() - self.began

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._spool.size

    def stop(self, command: Command) -> None:
        """Let it end with what has arrived until now, because the operator asked for it."""
        self.command = command
        self._stop_because(Stop.OPERATOR)

    def end(self) -> None:
        """Wait until everything is in the file; `error` is known then."""
        try:
            self._future.result()
            self._spool.flush()
        except ActError as e:
            self.error, self._stop = e, Stop.FAILED
            with suppress(ActError):  # on a full disk what was accepted still fits
                self._spool.flush()
        self._seconds = monotonic() - self.began

    def save(self, success: bool | None) -> RecordedEpisode:
        """Finish the file, and say how the episode ended.

        Raises:
            StoreError: The disk fails. The file keeps the name that it has while it is written.
        """
        said = self._sidecar(success)
        write_sidecar(self.target, said)
        about = {"stop": self._stop.value, "steps": str(self.watch.steps)}
        about |= {f"lost {topic}": str(n) for topic, n in self.source.lost.items()}
        if said.success is not None:
            about["success"] = str(said.success).lower()
        path = self._spool.finish(about)
        return self._report(Verdict.SAVED, str(path), said.success)

    def discard(self, verdict: Verdict) -> RecordedEpisode:
        """Remove it; `verdict` says why."""
        self._remove()
        return self._report(verdict, "", None)

    def keep(self) -> RecordedEpisode:
        """Leave the file as it is, unfinished: for an interrupt, and for a disk that fails."""
        self.source.stop()
        with suppress(ActError):
            self._future.result()
        self._spool.keep()
        return self._report(Verdict.SAVED, str(self._spool.path), None)

    def _sidecar(self, success: bool | None) -> Sidecar:
        said = Annotation(success=success).over(self._settings.annotation)
        return Sidecar(**said.model_dump(), steps=self._settings.max_timesteps)

    def _remove(self) -> None:
        self._spool.discard()
        sidecar_path(self.target).unlink(missing_ok=True)

    def _record(self) -> None:
        limit = self._settings.max_timesteps
        for frame in self._view.frames(self._listen):
            self.watch.add(frame)
            if self.watch.steps == limit:  # the message that completed it is the last one
                self._stop = Stop.MAX_TIMESTEPS
                return

    def _marked(self, mark: Mark) -> None:
        self._stop_because(Stop.TOPIC)

    def _stop_because(self, why: Stop) -> None:
        self._stop = why
        self.source.stop()

    def _report(self, verdict: Verdict, file: str, success: bool | None) -> RecordedEpisode:
        readable = not isinstance(self.error, DataError)
        return RecordedEpisode(
            file=file,
            verdict=verdict,
            stop=self._stop,
            seconds=self.seconds,
            steps=self.watch.steps,
            bytes=self.size,
            messages=dict(self.source.counts),
            lost=dict(self.source.lost),
            success=success,
            sync=self._view.report() if readable else None,
            notes=self.source.notes,
        )


def _about(backend: LiveBackend, here: RobotHere, settings: RecordSettings) -> dict[str, str]:
    said = settings.annotation.model_dump(include={"task", "operator", "notes"}, exclude_none=True)
    return {
        "robot": here.robot.name,
        "backend": backend.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **said,
    }
