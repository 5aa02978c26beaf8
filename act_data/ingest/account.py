"""The account of an ingest that has ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from act_data.ingest.recording import Outcome
from act_data.ingest.settings import IngestedEpisode, IngestReport
from act_data.records import VersionRecord
from act_data.registry import Registry
from act_data.report import masked_steps
from act_data.store import open_dataset


def account(
    out: Path,
    robot: str,
    version: VersionRecord,
    outcomes: Sequence[Outcome],
    *,
    notes: Sequence[str] = (),
    source_bytes: int,
    seconds: float,
) -> IngestReport:
    """Register the dataset at `out`, and say what it got from which recording."""
    reader = open_dataset(out)
    numbers = {entry.uid: number for number, entry in enumerate(reader.episodes)}
    episodes = []
    for done in (done for outcome in outcomes for done in outcome.done):
        number = numbers[done.uid]
        info = reader.episode(done.uid).info
        episodes.append(
            IngestedEpisode(
                recording=done.recording,
                uid=done.uid,
                steps=reader.episodes[number].length,
                masked=masked_steps(reader, number),
                found=done.found,
                segment=info.segment,
                sync=info.sync,
            )
        )
    return IngestReport(
        dataset=str(out),
        name=Registry().register(reader),
        robot=robot,
        version=version.number,
        content_hash=version.content_hash,
        added=sum(not episode.found for episode in episodes),
        episodes=tuple(episodes),
        failed=tuple(o.failure for o in outcomes if o.failure is not None),
        notes=(*notes, *(note for outcome in outcomes for note in outcome.notes)),
        recovered=tuple(file for outcome in outcomes for file in outcome.recovered),
        source_bytes=source_bytes,
        seconds=seconds,
    )
