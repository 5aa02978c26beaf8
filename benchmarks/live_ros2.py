"""Live ROS 2 under the load of a two-armed robot: our subscriber beside rclpy's own.

    python benchmarks/live_ros2.py                 # a minute for each
    python benchmarks/live_ros2.py --seconds 10 --depth 200
    python benchmarks/live_ros2.py --quick --json

3 cameras 640x480 rgb8 at 30 Hz, 4 JointState at 200 Hz, Odometry at 50 Hz, 83 MB/s, published by
two rclpy processes with a history of --depth messages. Every subscriber is a process of its own,
one after the other, and hears publishers of its own, on loopback. Each message is accounted for
by the number in its frame_id.

ours       the product's subscriber; a thread takes the messages out, as a recording does
rclpy      create_subscription with depth 10 on a SingleThreadedExecutor: decoded
events     raw on rclpy's EventsExecutor, with the history of ours, Fast DDS as it is
foxglove   the product's websocket client; the load comes from a foxglove server instead

Latency is from the stamp, taken just before publish(), to the moment at which the whole message is
there (rclpy: at which the callback begins). `counted` is what ours said itself that it missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

LOAD = Path(__file__).resolve().parent / "ros2_load"
CAMERAS = {f"/camera_{place}/color/image_raw": ("Image", 30) for place in "flr"}
ARMS = [f"/{arm}/joint_{side}" for arm in ("puppet", "master") for side in ("left", "right")]
STATES = {**dict.fromkeys(ARMS, ("JointState", 200)), "/odom": ("Odometry", 50)}
TOPICS = CAMERAS | STATES
CONTENDERS = ("ours", "rclpy", "events", "foxglove")
DRAIN_S = 1.5
DOMAINS = 39  # those above are the tests'

Samples = Mapping[str, list[tuple[int, int]]]  # by topic: number, latency in us


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of message: what became of it, and how late it was in ms."""

    published: int
    received: int
    missing: int
    twice: int
    counted: int
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
    parser.add_argument("--depth", type=int, default=10, help="of the publishers' history [10]")
    parser.add_argument("--best-effort", action="store_true", help="publishers offer no more")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="these subscribers")
    parser.add_argument("--quick", action="store_true", help="2 s each")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    lacking = [name for name in ("rclpy", "foxglove", "websockets") if find_spec(name) is None]
    if lacking:
        reason = f"not installed (pip install '.[dev]', x86-64 Linux): {', '.join(lacking)}"
        print(json.dumps({"skipped": reason}) if options.json else reason)
        return 0
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % DOMAINS))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    seconds = 2.0 if options.quick else options.seconds
    qos = [str(options.depth), "best_effort" if options.best_effort else "reliable"]
    rows = []
    for name in options.only or CONTENDERS:
        rows.append(measured(name, seconds, qos))
        if not options.json:
            print_row(rows[-1])
    if options.json:
        print(json.dumps({"qos": qos, "rows": [asdict(row) for row in rows]}))
    return 0


def measured(name: str, seconds: float, qos: Sequence[str]) -> Row:
    """Publish for `seconds` to the subscriber called `name`."""
    if name == "foxglove":
        publishers = [started("serve_foxglove.py", str(seconds), json.dumps(TOPICS))]
        how = f"ws://127.0.0.1:{line(publishers[0]).strip()}"
    else:
        how = name
        publishers = [
            started("publish.py", node, str(seconds), *qos, json.dumps(topics))
            for node, topics in (("cameras", CAMERAS), ("states", STATES))
        ]
    hearing = started("hear.py", how, qos[1], json.dumps(TOPICS))
    for process in (hearing, *publishers):
        line(process)
    for publisher in publishers:
        assert publisher.stdin is not None
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
    said = [json.loads(line(publisher)) for publisher in publishers]
    time.sleep(DRAIN_S)
    heard = json.loads(hearing.communicate()[0])
    for publisher in publishers:
        publisher.communicate()
    sent = {topic: count for part in said for topic, count in part["sent"].items()}
    kinds = {
        kind: summary(kind, sent, heard["samples"], heard["missing"])
        for kind in ("Image", "JointState", "Odometry")
    }
    return Row(
        name=name,
        seconds=seconds,
        cpu_s=heard["cpu_s"],
        cpu_percent=100 * heard["cpu_s"] / seconds,
        late_ms=max(part["latest_ms"] for part in said),
        images=kinds["Image"],
        joints=kinds["JointState"],
        odometry=kinds["Odometry"],
    )


def started(program: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(LOAD / program), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    found = process.stdout.readline()
    if not found:
        sys.exit(f"a process ended: {process.args!r}")
    return found


def summary(
    kind: str, sent: Mapping[str, int], samples: Samples, counted: Mapping[str, int]
) -> Kind:
    """What became of all messages of one kind, numbered from 0."""
    topics = [topic for topic, (of, _) in TOPICS.items() if of == kind]
    numbers = {topic: [number for number, _ in samples[topic]] for topic in topics}
    late_ms = np.array([us / 1e3 for topic in topics for _, us in samples[topic]] or [np.nan])
    return Kind(
        published=sum(sent[topic] for topic in topics),
        received=sum(len(n) for n in numbers.values()),
        missing=sum(len(set(range(sent[t])) - set(n)) for t, n in numbers.items()),
        twice=sum(len(n) - len(set(n)) for n in numbers.values()),
        counted=sum(counted.get(topic, 0) for topic in topics),
        p50_ms=float(np.percentile(late_ms, 50)),
        p99_ms=float(np.percentile(late_ms, 99)),
        max_ms=float(late_ms.max()),
    )


def print_row(row: Row) -> None:
    def cell(kind: Kind) -> str:
        arrived = f"{kind.received - kind.twice}/{kind.published}"
        late = f"{kind.p50_ms:7.2f} /{kind.p99_ms:7.1f} /{kind.max_ms:7.1f}"
        return f"{arrived:>13} (counted {kind.counted}) {late}"

    print(
        f"{row.name:9} CPU {row.cpu_percent:5.1f} %  images{cell(row.images)}  "
        f"joints{cell(row.joints)}  odometry{cell(row.odometry)}  latest {row.late_ms:.0f} ms",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
