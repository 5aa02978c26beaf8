"""Sinks are opened by name, and a file of commands may have two writers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import DataError, InputError, StoreError
from act_model.config import VectorContract
from act_model.robot_io import JsonSink, NullSink, labels, offered_by, open_sink, velocities
from tests.model.memory_dataset import dataset_of

CONTRACT = offered_by(dataset_of(3).schema)


def test_a_file_holds_the_commands_of_the_loop_and_of_the_watchdog(tmp_path: Path) -> None:
    loop, watchdog = (open_sink(f"jsonl:{tmp_path / 'c'}", CONTRACT) for _ in range(2))
    loop.send(np.array([0.5, -1], np.float32), 7)
    watchdog.hold()
    watchdog.stop()
    loop.close()
    loop.close()
    loop.stop()  # closed: nothing to stop
    lines = [json.loads(line) for line in (tmp_path / "c").read_text().splitlines()]
    assert [line["do"] for line in lines] == ["send", "hold", "stop"]
    assert (lines[0]["action"], lines[0]["valid_ns"]) == ([0.5, -1.0], 7)
    assert lines[0]["at_ns"] <= lines[1]["at_ns"] <= lines[2]["at_ns"]


@pytest.mark.parametrize("text", ["motor", "", "jsonl", "jsonl:"])
def test_a_sink_that_is_not_there_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(InputError) as error:
        open_sink(text, CONTRACT)
    assert "jsonl" in error.value.hint


def test_a_file_that_cannot_be_written_is_refused_and_a_full_disk_still_stops(
    tmp_path: Path,
) -> None:
    with pytest.raises(StoreError, match="cannot write commands"):
        open_sink(f"jsonl:{tmp_path / 'no' / 'c'}", CONTRACT)
    full = JsonSink(Path("/dev/full"))
    with pytest.raises(DataError, match="No space left"):
        full.send(np.zeros(2, np.float32), 0)
    full.hold()
    full.stop()
    full.close()


def test_the_null_sink_takes_everything() -> None:
    sink = open_sink("null", CONTRACT)
    assert isinstance(sink, NullSink)
    sink.send(np.zeros(2, np.float32), 0)
    for do in (sink.hold, sink.stop, sink.close):
        do()


def test_velocities_are_known_by_their_units() -> None:
    action = [
        VectorContract(name="action", names=("a", "b"), unit="rad"),
        VectorContract(name="base", names=("x", "yaw"), unit="m/s, rad/s"),
    ]
    assert velocities(action).tolist() == [False, False, True, True]
    assert labels(action)[2:] == [("x", "m/s"), ("yaw", "rad/s")]
