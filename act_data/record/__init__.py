"""Recording: live topics of a robot into bags, episode after episode."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from act_data.errors import ActError
from act_data.ingest import IngestSettings, check_out
from act_data.record.files import open_folder
from act_data.record.following import FollowingIngest
from act_data.record.operator import Command, Nobody, Operator, Phase, State, TopicState
from act_data.record.session import Follower, NoFollower, Session
from act_data.record.settings import (
    LiveIngestReport,
    RecordedEpisode,
    RecordReport,
    RecordSettings,
    Stop,
    Verdict,
)
from act_data.records import Annotation
from act_data.sources.live import LiveBackend

__all__ = [
    "Command",
    "Follower",
    "LiveIngestReport",
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
    "ingest_live",
    "record",
]


def record(
    backend: LiveBackend,
    folder: Path,
    settings: RecordSettings | None = None,
    *,
    operator: Operator | None = None,
    follower: Follower | None = None,
) -> RecordReport:
    """Record episodes of a live robot into `folder`, one MCAP file each, until somebody ends it.

    A file is called `*.mcap.active` while it is written, and loses at most its last second when
    this process is killed. What a person says about it lies beside it, where `ingest` reads it.

    Args:
        backend: How the robot is heard (`open_backend`); the caller closes it.
        operator: Who sees the session and decides; nobody by default: every episode is saved.
        follower: Who reads the recordings while they are made.

    Raises:
        InputError: A setting or a preset that cannot be.
        NotFoundError: A preset that does not exist.
        DataError: The robot is not here. Nothing was recorded.
        StoreError: Nothing can be written to `folder`.
    """
    open_folder(folder)
    with ThreadPoolExecutor(1, "record") as threads:
        session = Session(
            backend,
            folder,
            settings or RecordSettings(),
            operator or Nobody(),
            follower or NoFollower(),
            threads,
        )
        return session.run()


def ingest_live(
    backend: LiveBackend,
    out: Path,
    folder: Path,
    settings: RecordSettings,
    ingest: IngestSettings,
    *,
    operator: Operator | None = None,
) -> LiveIngestReport:
    """Record episodes into `folder`, and write them to the dataset at `out` meanwhile.

    The dataset is the one that `ingest` makes of the recordings afterwards, with the same settings.

    Args:
        settings: Its robot counts, and what it says of every episode; not that of `ingest`.

    Raises:
        InputError: A setting, a preset or the name of the dataset that cannot be.
        NotFoundError: A preset that does not exist.
        DataError: The robot is not here. Nothing was recorded.
        StoreError: Nothing can be written to `folder`.
    """
    check_out(out, settings.episodes or 2)
    # What is said of an episode lies beside its recording, where an operator may have changed it.
    unsaid = dict.fromkeys(Annotation.model_fields)
    ingest = ingest.model_copy(update={**unsaid, "robot": settings.robot})
    with FollowingIngest(out, ingest) as follower:
        report = record(
            backend,
            folder,
            settings.model_copy(update={"latency_ms": ingest.latency_ms}),
            operator=operator,
            follower=follower,
        )
        try:
            return LiveIngestReport(record=report, ingest=follower.finish())
        except ActError as e:
            hint = f"{e.hint} The recordings are complete: act-data ingest {folder} --out {out}"
            return LiveIngestReport(record=report, ingest=None, error=str(e), hint=hint.strip())
