"""A search finds what `where` and the words say, in SQLite and in PostgreSQL alike."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.curate.versions import annotate, delete_episodes, restore
from act_data.errors import InputError, NotFoundError
from act_data.facts import FactValue, facts_of
from act_data.records import Annotation, EpisodeInfo, SegmentRecord, SyncReport
from act_data.registry import Registry, fact_rows, prepare
from act_data.registry.words import cut
from act_data.store import open_dataset, open_writer
from act_data.store.files import real_root
from act_data.store.zarr_reader import ZarrReader
from act_data.types import ClockPolicy
from act_data.where import Condition, matches, parse
from tests.data.curate import datasets
from tests.data.curate.datasets import SECOND, SHARD_FRAMES, schema, steps
from tests.data.registry.index_rows import index_rows, loose_rows
from tests.data.test_where import conditions, written
from tests.postgres_server import own_schema

TEXTS = ["", "a", "A%b", "a_B", "éb", "b'\"--", "Pour-Tea cup", "tea pour", "茶杯 B", "Straße", "aBa"]
DAY = 86_400 * SECOND


def info(n: int) -> EpisodeInfo:
    """What is known of the `n`-th episode: every fact with several values, and none of it."""
    rng = np.random.default_rng(n)
    task, operator, notes = (str(rng.choice(TEXTS)) for _ in range(3))
    start = int(rng.integers(0, 4)) * 31 * DAY
    source = datasets.info(n % 9, 2).source
    sync = SyncReport(fps=10, clock=ClockPolicy.HEADER, ticks=n % 4, valid=n % 4 // 2, streams={})
    return EpisodeInfo(
        source=source.model_copy(update={"name": str(rng.choice(TEXTS)), "start_ns": start}),
        segment=SegmentRecord(number=0, start_ns=start, end_ns=start, last=True) if n % 2 else None,
        task=task,
        operator=operator,
        notes=notes,
        success=(True, False, None)[n % 3],
        sync=None if n % 5 == 0 else sync,
    )


def write(path: Path, numbers: range, *, robot: str = "aB", fps: float = 2.0) -> Path:
    with open_writer(path, schema(robot, fps=fps), shard_frames=SHARD_FRAMES) as writer:
        for n in numbers:
            episode = writer.episode(f"e{n:04d}")
            for step in steps(1 + n % 3, n):
                episode.record(step)
            episode.finish(info(n))
        writer.commit(list(writer.durable))
    return path


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """One that knows "one" (three versions: whole, annotated, cut) and "two"."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            place = request.param and own_schema(server, "search")
            url = place.__enter__()
            patch.setenv("ACT_REGISTRY", url)
        else:
            place = None
            patch.setenv("ACT_REGISTRY", str(folder / "registry.db"))
        known = Registry()
        known.register(open_dataset(write(folder / "one.zarr", range(24))))
        known.register(open_dataset(write(folder / "two.zarr", range(20, 32), robot="b", fps=3.0)))
        annotate("one", ["0-5"], Annotation(task="Pour jasmine tea", success=True))
        delete_episodes("one", ["2", "7-9"])
        yield known
        if place is not None:
            place.__exit__(None, None, None)
