"""Live ROS 1 under the load of a two-armed robot: our subscriber beside rospy and `rosbag record`.

    python benchmarks/live_ros1.py                 # a minute for each
    python benchmarks/live_ros1.py --seconds 10
    python benchmarks/live_ros1.py --quick --json

3 cameras 640x480 rgb8 at 30 Hz, 4 JointState at 200 Hz, Odometry at 50 Hz, 83 MB/s, published by
two rospy processes. Every subscriber is a process of its own, one after the other, and hears
publishers of its own. Each message is accounted for by its `header.seq`.

ours       the product's subscriber; a thread takes the messages out, as a recording does
selector   the same with one thread and epoll for all connections
rospy      rospy.Subscriber with its defaults; the callback notes the time
any        rospy.AnyMsg with buff_size=2**24: nothing is decoded, large reads
slow       rospy, and 50 ms of work in the callback of each picture
record     `rosbag record`, C++, without compression; bz2: with --bz2 (at most 10 s: they write)

busy: the main thread of the process computes in Python all the time. switch: it does, and has set
sys.setswitchinterval to 0.5 ms. Its own CPU is not counted. Latency is from the stamp, taken just
before publish(), to the moment at which the whole message is there (rospy: at which the callback
begins).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))

from benchmarks.make_bag import ring  # noqa: E402

DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"
LOAD = HERE.parent / "ros1_load"
DEBIAN_PYTHON, MASTER, RECORD = "/usr/bin/python3", "/usr/bin/rosmaster", "/usr/lib/rosbag/record"
CAMERAS = {f"/camera_{place}/color/image_raw": ("Image", 30) for place in "flr"}
ARMS = [f"/{arm}/joint_{side}" for arm in ("puppet", "master") for side in ("left", "right")]
STATES = {**dict.fromkeys(ARMS, ("JointState", 200)), "/odom": ("Odometry", 50)}
TOPICS = CAMERAS | STATES
WRITERS_S = 10.0
DRAIN_S = 1.5
PATIENCE_S = 30.0

CONTENDERS: dict[str, Sequence[str]] = {
    "ours": ["hear_ours.py", "ours", "quiet"],
    "selector": ["hear_ours.py", "selector", "quiet"],
    "rospy": ["hear_rospy.py", "rospy", "quiet"],
    "any": ["hear_rospy.py", "any", "quiet"],
    "record": [RECORD],
    "record bz2": [RECORD, "--bz2"],
    "ours busy": ["hear_ours.py", "ours", "busy"],
    "ours switch": ["hear_ours.py", "ours", "switch"],
    "selector busy": ["hear_ours.py", "selector", "busy"],
    "rospy busy": ["hear_rospy.py", "rospy", "busy"],
    "any busy": ["hear_rospy.py", "any", "busy"],
    "slow": ["hear_rospy.py", "slow", "quiet"],
}
QUICK = ("ours", "rospy", "record")

Samples = Mapping[str, list[tuple[int, int]]]  # by topic: header.seq, latency in us


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of message: what became of it, and how late it was in ms."""

    published: int
    received: int
    missing: int
    twice: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One subscriber. `late_ms` is how late the latest message was published."""

    name: str
    seconds: float
    cpu_s: float
    cpu_percent: float
    late_ms: float
    images: Kind
    joints: Kind
    odometry: Kind


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each subscriber [60]")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="these subscribers")
    parser.add_argument("--quick", action="store_true", help="three of them, 1 s each")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    lacking = [p for p in (MASTER, RECORD) if not Path(p).exists()]
    if lacking:
        reason = f"Debian's ROS 1 is not installed (`make system`): no {', '.join(lacking)}"
        print(json.dumps({"skipped": reason}) if options.json else reason)
        return 0
    names = options.only or (QUICK if options.quick else CONTENDERS)
    seconds = 1.0 if options.quick else options.seconds
    rows = []
    with TemporaryDirectory() as scratch, ros_master(Path(scratch)):
        frames = [frame.tobytes() for camera in range(len(CAMERAS)) for frame in ring(camera, 4)]
        Path(scratch, "frames").write_bytes(b"".join(frames))
        for name in names:
            rows.append(measured(name, seconds, Path(scratch)))
            if not options.json:
                print_row(rows[-1])
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    return 0


@contextmanager
def ros_master(logs: Path) -> Iterator[None]:
    """A master of our own on a free port of the loopback interface, in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    os.environ.update(ROS_MASTER_URI=uri, ROS_IP="127.0.0.1", ROS_LOG_DIR=str(logs))
    master = started(MASTER, "--core", "-p", str(port))
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > deadline:
                sys.exit("the ROS master does not answer")
            time.sleep(0.05)
        yield
    finally:
        master.terminate()
        master.wait(PATIENCE_S)


def started(*command: str, rospy: bool = False) -> subprocess.Popen[str]:
    """A program beside us; `rospy`: one that needs Debian's packages, whatever Python it runs."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if rospy:
        environment["PYTHONPATH"] = DEBIAN_PACKAGES
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL if command[0] in (MASTER, RECORD) else subprocess.PIPE,
        stderr=subprocess.DEVNULL if command[0] in (MASTER, RECORD) else None,
        text=True,
    )


def measured(name: str, seconds: float, scratch: Path) -> Row:
    """Publish for `seconds` to the subscriber called `name`."""
    program, *words = CONTENDERS[name]
    bag = scratch / "heard.bag"
    if program == RECORD:
        seconds = min(seconds, WRITERS_S)
        hearing = started(RECORD, *words, "-O", str(bag), *TOPICS)
    else:
        rospy = program == "hear_rospy.py"
        python = rospy_python() if rospy else sys.executable
        hearing = started(python, str(LOAD / program), *words, json.dumps(TOPICS), rospy=rospy)
        line(hearing, name)
    publish = [DEBIAN_PYTHON, str(LOAD / "publish.py")]
    parts = [("cameras", CAMERAS, [str(scratch / "frames")]), ("states", STATES, [])]
    publishers = [started(*publish, n, str(seconds), json.dumps(t), *more) for n, t, more in parts]
    for publisher in publishers:
        line(publisher, name)
    for publisher in publishers:
        say(publisher, "go\n")
    said = [json.loads(line(publisher, name)) for publisher in publishers]
    time.sleep(DRAIN_S)
    if program == RECORD:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        hearing.send_signal(signal.SIGINT)
        hearing.wait(10 * PATIENCE_S)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        samples = recorded(bag)
        bag.unlink()
    else:
        heard = json.loads(hearing.communicate()[0])
        cpu_s, samples = heard["cpu_s"], heard["samples"]
    for publisher in publishers:
        publisher.communicate()
    sent = {topic: count for part in said for topic, count in part["sent"].items()}
    return Row(
        name=name,
        seconds=seconds,
        cpu_s=cpu_s,
        cpu_percent=100 * cpu_s / seconds,
        late_ms=max(part["latest_ms"] for part in said),
        images=summary("Image", sent, samples),
        joints=summary("JointState", sent, samples),
        odometry=summary("Odometry", sent, samples),
    )


@cache
def rospy_python() -> str:
    """This Python where rospy runs on it, so that all are compared on the same; else Debian's."""
    with started(sys.executable, "-c", "import rospy, sensor_msgs.msg", rospy=True) as trial:
        trial.communicate()
    return DEBIAN_PYTHON if trial.returncode else sys.executable


def line(process: subprocess.Popen[str], name: str) -> str:
    assert process.stdout is not None
    found = process.stdout.readline()
    if not found:
        sys.exit(f"{name}: a process ended: {process.args!r}")
    return found


def say(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(words)
    process.stdin.flush()


def recorded(bag: Path) -> Samples:
    """Number and latency of each message in a bag, by its receive time."""
    from act_data.sources import find_recordings, open_recording

    (recording,) = find_recordings([bag])
    samples: dict[str, list[tuple[int, int]]] = {topic: [] for topic in TOPICS}
    with open_recording(recording) as source:
        for raw in source.messages(source.topics):
            assert raw.seq is not None
            assert raw.stamp_ns is not None
            samples[raw.topic].append((raw.seq, (raw.recv_ns - raw.stamp_ns) // 1000))
    return samples


def summary(kind: str, sent: Mapping[str, int], samples: Samples) -> Kind:
    """What became of all messages of one kind. rospy numbers them from 1."""
    topics = [topic for topic, (of, _) in TOPICS.items() if of == kind]
    numbers = {topic: [seq for seq, _ in samples[topic]] for topic in topics}
    missing = {t: set(range(1, sent[t] + 1)) - set(n) for t, n in numbers.items()}
    late_ms = np.array([us / 1e3 for topic in topics for _, us in samples[topic]] or [np.nan])
    return Kind(
        published=sum(sent[topic] for topic in topics),
        received=sum(len(n) for n in numbers.values()),
        missing=sum(len(m) for m in missing.values()),
        twice=sum(len(n) - len(set(n)) for n in numbers.values()),
        p50_ms=float(np.percentile(late_ms, 50)),
        p99_ms=float(np.percentile(late_ms, 99)),
        max_ms=float(late_ms.max()),
    )


def print_row(row: Row) -> None:
    def cell(kind: Kind) -> str:
        lost = f"{kind.received}/{kind.published}"
        return f"{lost:>13} {kind.p50_ms:7.2f} /{kind.p99_ms:7.1f} /{kind.max_ms:7.1f}"

    print(
        f"{row.name:14} CPU {row.cpu_percent:5.1f} %  images{cell(row.images)}  "
        f"joints{cell(row.joints)}  latest {row.late_ms:.0f} ms",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
