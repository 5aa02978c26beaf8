"""Recording: live topics of a robot into bags, episode after episode."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from act_data.record.files import open_folder
from act_data.record.operator import Command, Nobody, Operator, Phase, State, TopicState
from act_data.record.session import Session
from act_data.record.settings import RecordedEpisode, RecordReport, RecordSettings, Stop, Verdict
from act_data.sources.live import LiveBackend

__all__ = [
    "Command",
    "Nobody",
    "Operator",
    "Phase",
    "RecordReport",
    "RecordSettings",
    "RecordedEpisode",
    "State",
    "Stop",
    "TopicState",
    "Verdict",
    "record",
]


def record(
    backend: LiveBackend,
    folder: Path,
    settings: RecordSettings | None = None,
    *,
    operator: Operator | None = None,
) -> RecordReport:
    """Record episodes of a live robot into `folder`, one MCAP file each, until somebody ends it.

    A file is called `*.mcap.active` while it is written, and loses at most its last second when
    this process is killed. What a person says about it lies beside it, where `ingest` reads it.

    Args:
        backend: How the robot is heard (`open_backend`); the caller closes it.
        operator: Who sees the session and decides; nobody by default: every episode is saved.

    Raises:
        InputError: A setting or a preset that cannot be.
        NotFoundError: A preset that does not exist.
        DataError: The robot is not here. Nothing was recorded.
        StoreError: Nothing can be written to `folder`.
    """
    open_folder(folder)
    with ThreadPoolExecutor(1, "record") as threads:
        session = Session(
            backend, folder, settings or RecordSettings(), operator or Nobody(), threads
        )
        return session.run()
