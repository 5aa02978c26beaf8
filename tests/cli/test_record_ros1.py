"""`act-data record` beside a real ROS 1 graph: what it records, and what a kill leaves of it."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

from act_data.ingest import IngestSettings, ingest
from act_data.record import RecordReport
from act_data.sources.stamps import HeaderLayout, header_stamp
from tests.cli.commands import BIN
from tests.live_topics import streamed
from tests.ros1_graph import Ros1Graph, eventually, need_ros1
from tests.small_robot import robot_file

ROBOT = """\
name: real
fps: 30
streams:
  cam: {topic: /camera, kind: image}
  arm: {topic: /arm, kind: joint_state, unit: rad}
  lead: {topic: /lead, kind: joint_state, unit: rad}
arrays:
  qpos: {role: observation, from: arm}
  images/cam: {role: observation, from: cam}
  action: {role: action, from: lead}
"""
TOPICS = {
    "/camera": {"type": "sensor_msgs/Image"},
    "/arm": {"type": "sensor_msgs/JointState"},
    "/lead": {"type": "sensor_msgs/JointState"},
}
RECORDERS = 5
PROMISE_NS = 10**9
LAYOUT = HeaderLayout("ros1", has_seq=True)


def recorder(graph: Ros1Graph, robot: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    words = ["record", "--backend", f"ros1:{graph.uri}", "--robot", robot, "--out", out, *more]
    return subprocess.Popen(
        [str(BIN / "act-data"), *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_episodes_of_a_rospy_robot_are_recorded_and_ingested(tmp_path: Path) -> None:
    need_ros1()
    robot = robot_file(tmp_path, ROBOT)
    out = tmp_path / "bags"
    with Ros1Graph(tmp_path) as graph, graph.publisher("robot", TOPICS) as publisher:
        with recorder(graph, robot, out, "--episodes", "2", "--max-timesteps", "45",
                      "--json") as process:  # fmt: skip
            publisher.wait_for_subscribers()
            publisher.begin(540, 60)
            said, err = process.communicate(timeout=60)
        publisher.published()
    assert process.returncode == 0, err
    report = RecordReport.model_validate_json(said)
    assert [(e.steps, e.lost) for e in report.episodes] == [(45, {}), (45, {})]
    made = ingest([out], tmp_path / "ds.zarr", IngestSettings(robot=str(robot)))
    assert [e.steps for e in made.episodes] == [45, 45]


def test_killed_recorders_of_a_rospy_robot_lose_at_most_their_last_second(tmp_path: Path) -> None:
    need_ros1()
    robot = robot_file(tmp_path, ROBOT)
    rng = random.Random(0)
    outs = [tmp_path / str(n) for n in range(RECORDERS)]
    began: dict[Path, int] = {}
    killed: dict[Path, int] = {}
    with Ros1Graph(tmp_path) as graph, graph.publisher("robot", TOPICS) as publisher:
        processes = [recorder(graph, robot, out) for out in outs]
        try:
            publisher.wait_for_subscribers(RECORDERS)
            publisher.begin(420, 60)
            for out in outs:
                eventually(lambda out=out: list(out.glob("*.active")), "it does not record")
                began[out] = time.time_ns()
            start = time.monotonic()
            moments = sorted((rng.uniform(1.2, 5.0), n) for n in range(RECORDERS))
            for moment, n in moments:
                time.sleep(max(0.0, start + moment - time.monotonic()))
                killed[outs[n]] = time.time_ns()
                processes[n].kill()
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        sent = publisher.published()
    for out in outs:
        (path,) = out.glob("episode-000.mcap.active")
        there: dict[str, list[int]] = {topic: [] for topic in TOPICS}
        for topic, message in streamed(path.read_bytes()):
            there[topic].append(header_stamp(message.data, LAYOUT)[0])
        for topic, stamps in sent.items():
            due = [t for t in stamps if began[out] <= t <= killed[out] - PROMISE_NS]
            assert set(due) <= set(there[topic]), f"{out.name} {topic}"
            first = stamps.index(there[topic][0])
            assert there[topic] == stamps[first : first + len(there[topic])]
