"""A rollout becomes episodes that can be read, checked and trained on, and says who commanded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import InputError
from act_data.records import SourceRecord
from act_data.store import open_dataset
from act_model.chunking import ActionQueue
from act_model.deploy import COMMANDER, Mode, Recorder, Stop, deploy
from act_model.robot_io import DatasetRobot, RobotObservation, offered_by
from act_model.safety import Limits
from tests.model.memory_dataset import MemoryDataset, dataset_of
from tests.model.test_deploy import Commands, Oracle

SOURCE = SourceRecord(kind="policy", name="run/best (step 3)", sha256="ab" * 32)
WIDE = Limits.of([-99.0] * 3, [99.0] * 3)


class TakenOver(DatasetRobot):
    """A person commands from tick 10 to 14."""

    def observe(self) -> RobotObservation | None:
        seen = super().observe()
        if seen is None or not 10 <= seen.tick < 15:
            return seen
        return replace(seen, taken_over=True, demonstrated=np.full(3, 7.0, np.float32))


def recorded(tmp_path: Path, dataset: MemoryDataset) -> tuple[object, Commands]:
    policy = Oracle(dataset)
    sink = Commands()
    report = deploy(
        policy,
        TakenOver(dataset, 0, policy.contract),
        mode=Mode.SIM,
        chunker=ActionQueue(8, 3),
        sink=sink,
        limits=WIDE,
        recorder=Recorder(
            tmp_path / "rollouts.zarr", policy.contract, SOURCE, task="pour", threaded=False
        ),
    )
    return report, sink


def test_what_was_seen_and_sent_is_what_is_recorded_and_corrections_are_marked(
    tmp_path: Path,
) -> None:
    dataset = dataset_of(30)
    for _ in range(2):
        report, sink = recorded(tmp_path, dataset)
        assert report.stop is Stop.END  # type: ignore[attr-defined]
        assert len(report.recorded) == 1  # type: ignore[attr-defined]
        assert report.taken_over_ticks == 5  # type: ignore[attr-defined]
    reader = open_dataset(tmp_path / "rollouts.zarr")
    assert len(reader.episodes) == 2
    assert reader.verify("deep") == []
    sent = np.array([action for _, action in sink.sent], np.float32)
    assert np.array_equal(reader.read("action", 1), sent)
    assert np.array_equal(reader.read("qpos", 1), dataset.read("qpos", 0))
    assert reader.read("images/top", 1).shape == (30, 32, 48, 3)
    commander = reader.read(COMMANDER, 1)[:, 0]
    assert np.flatnonzero(commander).tolist() == [10, 11, 12, 13, 14]
    assert sent[12].tolist() == [7.0, 7.0, 7.0]
    info = reader.episode(reader.episodes[1].uid).info
    assert (info.source.kind, info.source.sha256, info.task) == ("policy", "ab" * 32, "pour")
    assert info.notes == "a person commanded 5 of 30 steps"
    # And a policy of the original dataset fits a robot of the recorded one.
    trained = offered_by(dataset.schema)
    assert [v.names for v in offered_by(reader.schema).state] == [v.names for v in trained.state]


def test_only_a_zarr_dataset_takes_rollouts(tmp_path: Path) -> None:
    dataset = dataset_of(5)
    with pytest.raises(InputError, match="cannot take rollouts"):
        Recorder(tmp_path / "r.hdf5", offered_by(dataset.schema), SOURCE, task="", threaded=False)
