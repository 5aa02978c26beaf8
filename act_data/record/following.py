"""The dataset that is written while its episodes are recorded."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from act_data.ingest import IngestReport, IngestSettings, LiveIngest, configured
from act_data.types import RobotSpec


class FollowingIngest:
    """A `Follower` that ingests. Use it in a `with` statement around the session."""

    def __init__(self, out: Path, settings: IngestSettings) -> None:
        self._out = out
        self._settings = settings
        self._live: LiveIngest | None = None

    def prepare(self, robot: RobotSpec) -> RobotSpec:
        """Start the process that writes; the robot with what the settings override."""
        robot = configured(robot, self._settings)
        self._live = LiveIngest(robot, self._settings, self._out)
        return robot

    def begins(self, target: Path) -> None:
        """Let the process read it."""
        assert self._live is not None
        self._live.follow(target)

    def finish(self) -> IngestReport | None:
        """Wait until all is written; None when there was nothing.

        Raises:
            ActError: The dataset could not be written.
        """
        return self._live.finish() if self._live else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.close()
