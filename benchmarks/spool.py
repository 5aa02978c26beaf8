"""The recorder's file beside plain writes, and what compression would cost and save.

The load is that of a robot: 3 cameras 640x480 rgb8 at 30 Hz whose pictures have sensor noise
(sigma 2), 4 JointState at 200 Hz, Odometry at 50 Hz; 83 MB a second.

    plain    the payloads alone, appended to a file
    spool    what `act-data record` writes: not compressed, forced to the disk every second
    none, lz4, zstd    mcap's writer with its own settings, for the two compressions of MCAP

And once at the robot's own pace: how long a single write held the writing thread up, with the disk
being forced meanwhile.

    python benchmarks/spool.py
    python benchmarks/spool.py --quick    # a second of the robot
    python benchmarks/spool.py --json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType, Writer

from act_data.sources.live import Arrival, Spool
from act_data.sources.storage import Channel

CAMERAS = [f"/camera_{place}/color/image_raw" for place in "flr"]
ARMS = [f"/{arm}/joint_{side}" for arm in ("puppet", "master") for side in ("left", "right")]
RATES = {**dict.fromkeys(CAMERAS, 30), **dict.fromkeys(ARMS, 200), "/odom": 50}
TYPES = {**dict.fromkeys(CAMERAS, "sensor_msgs/msg/Image"),
         **dict.fromkeys(ARMS, "sensor_msgs/msg/JointState"),
         "/odom": "nav_msgs/msg/Odometry"}  # fmt: skip
CHANNELS = [Channel(id=0, topic=topic, type=type_, encoding="cdr", definition=None, count=0)
            for topic, type_ in TYPES.items()]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One way to write, over the whole load."""

    name: str
    cpu_s: float
    mb_per_cpu_s: float
    share_of_a_core: float
    size_ratio: float


def load(seconds: float) -> list[Arrival]:
    """The robot's messages in order of their times; few different payloads, so that it fits."""
    rng = np.random.default_rng(0)
    scene = np.add.outer(np.linspace(0, 90, 480), np.linspace(0, 90, 640 * 3))
    pictures = [
        (scene + rng.normal(40, 2, scene.shape)).clip(0, 255).astype(np.uint8).tobytes()
        for _ in range(6)
    ]
    small = rng.bytes(320)
    due = sorted(
        (round(i * 1e9 / rate) + n, topic)
        for n, (topic, rate) in enumerate(RATES.items())
        for i in range(round(rate * seconds))
    )
    return [
        Arrival(ns + 1, topic, pictures[i % 6] if topic in CAMERAS else small)
        for i, (ns, topic) in enumerate(due)
    ]


def plain(arrivals: list[Arrival], path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for arrival in arrivals:
            file.write(arrival.payload)


def spooled(arrivals: list[Arrival], path: Path) -> None:
    spool = Spool(path, CHANNELS, {})
    for arrival in arrivals:
        spool.write(arrival)
    spool.finish({})


def with_mcap(compression: CompressionType) -> Callable[[list[Arrival], Path], None]:
    def write(arrivals: list[Arrival], path: Path) -> None:
        with path.open("wb") as file:
            writer = Writer(file, compression=compression)
            writer.start("ros2")
            ids = {
                topic: writer.register_channel(
                    topic, "cdr", writer.register_schema(type_, "ros2msg", b"")
                )
                for topic, type_ in TYPES.items()
            }
            for arrival in arrivals:
                time_ns = arrival.recv_ns
                writer.add_message(ids[arrival.topic], time_ns, bytes(arrival.payload), time_ns)
            writer.finish()  # type: ignore[no-untyped-call]  # of mcap

    return write


WAYS = {
    "plain": plain,
    "spool": spooled,
    "none": with_mcap(CompressionType.NONE),
    "lz4": with_mcap(CompressionType.LZ4),
    "zstd": with_mcap(CompressionType.ZSTD),
}


def rows(arrivals: list[Arrival], seconds: float, rounds: int, folder: Path) -> Iterator[Row]:
    """The least CPU of several rounds, in turns."""
    size = sum(len(a.payload) for a in arrivals)
    best: dict[str, tuple[float, int]] = {}
    for _ in range(rounds):
        for name, write in WAYS.items():
            path = folder / f"{name}.mcap"
            began = time.process_time()
            write(arrivals, path)
            used = time.process_time() - began
            if name not in best or used < best[name][0]:
                best[name] = used, path.stat().st_size
            path.unlink()
    for name, (cpu_s, written) in best.items():
        yield Row(name, cpu_s, size / 1e6 / cpu_s, cpu_s / seconds, size / written)


def stalls_ms(arrivals: list[Arrival], folder: Path) -> dict[str, float]:
    """How long single writes take at the robot's pace, in ms, and how far behind they ever are."""
    spool = Spool(folder / "paced.mcap", CHANNELS, {})
    took: list[float] = []
    behind = 0.0
    began = time.monotonic()
    for arrival in arrivals:
        due = began + arrival.recv_ns / 1e9
        time.sleep(max(0.0, due - time.monotonic()))
        start = time.monotonic()
        behind = max(behind, start - due)
        spool.write(arrival)
        took.append((time.monotonic() - start) * 1e3)
    spool.discard()
    p50, p99 = np.percentile(took, [50, 99])
    return {"p50": p50, "p99": p99, "max": max(took), "behind_max": behind * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds, rounds = (1.0, 1) if arguments.quick else (10.0, 3)
    arrivals = load(seconds)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        found = list(rows(arrivals, seconds, rounds, Path(folder)))
        stalls = stalls_ms(arrivals, Path(folder))
    if arguments.json:
        json.dump({"rows": [asdict(row) for row in found], "stalls_ms": stalls}, sys.stdout)
        return
    print("way      CPU s   MB per CPU s   share of a core   payload / file")
    for row in found:
        print(f"{row.name:<6}{row.cpu_s:8.2f}{row.mb_per_cpu_s:15.0f}{row.share_of_a_core:18.3f}"
              f"{row.size_ratio:17.2f}")  # fmt: skip
    print("one write at the robot's pace, ms: "
          + ", ".join(f"{name} {value:.1f}" for name, value in stalls.items()))  # fmt: skip


if __name__ == "__main__":
    main()
