"""The same recordings as datasets of five ways to synchronise them.

`hold`, `hold_now` and `nearest` are ingest's; `hold_now` waits for no sample that is on its way
(`--latency-ms 0`), as a robot that acts at once. `newest` is what the loop of ALOHA does, which
takes whatever of each topic was heard last: `hold` on receive times, with a tolerance of a day; a
policy trained on that is deployed that way, too. `get_frame` is that of cobot_magic, written here
from its description: queues that are polled at the rate of the robot. The time of a frame is the
stamp of the newest picture (here: of the place of the cube, which stands for a camera); of every
queue the first message at or after it is taken, and what came before is thrown away. If one has
none, there is no frame, and nobody is told. Policies trained on its frames are deployed with
`hold`.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.ingest import IngestSettings, ingest
from act_data.interfaces import DatasetReader
from act_data.records import EpisodeInfo, SourceRecord
from act_data.sources import find_recordings, open_recording
from act_data.store import open_dataset, open_writer
from act_data.types import NS_PER_S, Reason, StepType, SyncPolicy, Timestep

SYNCS = ("hold", "hold_now", "nearest", "newest", "get_frame")
TOLERANCE_MS = 150  # bad sensors deliver what is older than the usual 50
ROBOT = """\
name: study
fps: 50
clock: {clock}
streams:
{arms}  cube:
    topic: /sim/cube/pose
    kind: numeric
    field: [pose.position.x, pose.position.y, pose.position.z]
    unit: m
    tolerance_ms: {tolerance_ms}
arrays:
  qpos: {{role: observation, from: [puppet_left, puppet_right]}}
  cube: {{role: observation, from: cube, names: [x, y, z]}}
  action: {{role: action, from: [master_left, master_right]}}
"""
_ARM = """\
  {name}:
    topic: /sim/{name}/joint_states
    kind: joint_state
    joints: [waist, shoulder, elbow, forearm_roll, wrist_angle, wrist_rotate, gripper]
    unit: rad
    tolerance_ms: {tolerance_ms}
"""
_ARMS = ("puppet_left", "puppet_right", "master_left", "master_right")
_STREAMS = (*_ARMS, "cube")
_QUEUE = 2000
_TICK_NS = NS_PER_S // 50

Heard = tuple[int, int, NDArray[np.float64]]  # stamp, running number, values


def robot_file(sync: str, folder: Path) -> Path:
    """The robot as `sync` reads it."""
    newest = sync == "newest"
    path = folder / f"robot-{'newest' if newest else 'study'}.yaml"
    tolerance_ms = 86_400_000 if newest else TOLERANCE_MS
    text = ROBOT.format(
        clock="receive" if newest else "auto",
        tolerance_ms=tolerance_ms,
        arms="".join(_ARM.format(name=name, tolerance_ms=tolerance_ms) for name in _ARMS),
    )
    path.write_text(text, encoding="utf-8")
    return path


def dataset(sync: str, bags: Path, folder: Path) -> Path:
    """The dataset that `sync` makes of `bags`, which another call may have made already."""
    path = folder / f"{sync}.zarr"
    if path.is_dir():
        return path
    making = folder / f"{sync}.making.zarr"
    shutil.rmtree(making, ignore_errors=True)
    if sync == "get_frame":
        _write_frames(bags, open_dataset(dataset("hold", bags, folder)), making)
    else:
        policy = SyncPolicy.NEAREST if sync == "nearest" else SyncPolicy.HOLD
        robot = str(robot_file(sync, folder))
        latency_ms = 0.0 if sync == "hold_now" else 250.0
        settings = IngestSettings(robot=robot, sync=policy, latency_ms=latency_ms)
        ingest([bags], making, settings)
    making.rename(path)
    return path


def _write_frames(bags: Path, like: DatasetReader, out: Path) -> None:
    """Every recording that is an episode of `like`, in the same split, as `get_frame` sees it."""
    of_recording = {like.episode(e.uid).info.source.name: e for e in like.episodes}
    columns = [column.stream for column in like.schema.columns]
    with open_writer(out, like.schema) as writer:
        splits = {}
        for recording in find_recordings([bags]):
            entry = of_recording[recording.name]
            episode = writer.episode(entry.uid)
            splits[entry.uid] = entry.split
            for number, (frame_ns, taken) in enumerate(_frames(_heard(recording))):
                episode.record(_step(number == 0, frame_ns, taken, columns))
            info = like.episode(entry.uid).info
            source = SourceRecord(name=info.source.name, kind="memory", sha256=info.source.sha256)
            episode.finish(EpisodeInfo(source=source, task=info.task, success=info.success))
        writer.commit(list(splits), splits=splits)


def _heard(recording: Any) -> Iterator[tuple[int, str, Heard]]:
    """(receive time, stream, what was heard) in order of arrival."""
    topics = {f"/sim/{s}/{'pose' if s == 'cube' else 'joint_states'}": s for s in _STREAMS}
    numbers = dict.fromkeys(_STREAMS, 0)
    with open_recording(recording) as source:
        for raw in source.messages(topics):
            stream, message = topics[raw.topic], source.deserialize(raw)
            if stream == "cube":
                place = message.pose.position
                values = np.array([place.x, place.y, place.z])
            else:
                values = np.asarray(message.position, np.float64)
            yield raw.recv_ns, stream, (raw.stamp_ns or 0, numbers[stream], values)
            numbers[stream] += 1


def _frames(heard: Iterator[tuple[int, str, Heard]]) -> Iterator[tuple[int, dict[str, Heard]]]:
    """Frames as they are polled: their time, and what they hold."""
    queues: dict[str, deque[Heard]] = {s: deque(maxlen=_QUEUE) for s in _STREAMS}
    poll_ns = 0
    for recv_ns, stream, what in heard:
        poll_ns = poll_ns or recv_ns
        while recv_ns > poll_ns:
            if (frame := _poll(queues)) is not None:
                yield frame
            poll_ns += _TICK_NS
        queues[stream].append(what)


def _poll(queues: dict[str, deque[Heard]]) -> tuple[int, dict[str, Heard]] | None:
    if not queues["cube"]:
        return None
    frame_ns = queues["cube"][-1][0]
    if any(not queue or queue[-1][0] < frame_ns for queue in queues.values()):
        return None
    taken = {}
    for name, queue in queues.items():
        while queue[0][0] < frame_ns:
            queue.popleft()
        taken[name] = queue.popleft()
    return frame_ns, taken


def _step(first: bool, frame_ns: int, taken: dict[str, Heard], columns: list[str]) -> Timestep:
    def joined(*streams: str) -> NDArray[np.float32]:
        return np.concatenate([taken[s][2] for s in streams]).astype(np.float32)

    return Timestep(
        step_type=StepType.FIRST if first else StepType.MID,
        tick_ns=frame_ns,
        observation={"qpos": joined("puppet_left", "puppet_right"), "cube": joined("cube")},
        action={"action": joined("master_left", "master_right")},
        skew_ns=np.array([taken[c][0] - frame_ns for c in columns], np.int64),
        reason=np.full(len(columns), Reason.OK, np.uint8),
        index=np.array([taken[c][1] for c in columns], np.int64),
    )
