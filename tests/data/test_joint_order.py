"""A driver may list its joints in any order; what is stored has one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from act_data.ingest import IngestSettings, ingest
from act_data.robot import load_robot
from act_data.sources import find_recordings, open_recording
from act_data.store import open_dataset
from act_model.checkpoint import contract_of
from act_model.config import TrainConfig
from act_model.robot_io import BagRobot
from tests.bags import Entry, write

MS = 1_000_000
ROBOT = """
name: one_arm
fps: 20
streams:
  arm: {topic: /arm, kind: joint_state, unit: rad}
  lead: {topic: /lead, kind: joint_state, unit: rad}
arrays:
  qpos: {role: observation, from: [arm]}
  action: {role: action, from: [lead]}
"""
VALUES = {"hip": 0.1, "knee": 0.2, "toe": 0.3}


def recording(path: Path, order: list[str], start_ms: int) -> Path:
    entries: list[Entry] = []
    for i in range(300):
        stamp = (start_ms + 10 * i) * MS
        for topic in ("/arm", "/lead"):
            values = {
                "header": stamp,
                "name": order,
                "position": np.array([VALUES[joint] for joint in order]),
            }
            entries.append((topic, "sensor_msgs/msg/JointState", stamp, values))
    return write(path, "ros1", entries)


def test_joints_that_no_preset_names_keep_the_order_of_the_first_recording(tmp_path: Path) -> None:
    robot = tmp_path / "one_arm.yaml"
    robot.write_text(ROBOT)
    first = recording(tmp_path / "a", ["toe", "hip", "knee"], 1_000_000)
    second = recording(tmp_path / "b", ["hip", "knee", "toe"], 2_000_000)
    ingest([first, second], tmp_path / "ds.zarr", IngestSettings(robot=str(robot)))
    reader = open_dataset(tmp_path / "ds.zarr")
    assert reader.schema.feature("qpos").names == ("arm/toe", "arm/hip", "arm/knee")
    for episode in (0, 1):
        assert np.allclose(reader.read("qpos", episode), [0.3, 0.1, 0.2])

    policy = contract_of(reader.schema, TrainConfig(), 10)
    (bag,) = find_recordings([second])
    with open_recording(bag) as source:
        seen = BagRobot(source, load_robot(robot), policy).observe()
    assert seen is not None
    assert np.allclose(seen.arrays()["qpos"], [0.3, 0.1, 0.2])
