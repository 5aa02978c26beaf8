"""Opening a dataset of many short episodes: does anything grow with their number but the numbers?

    python benchmarks/many_episodes.py           # 100, 1,000 and 10,000 episodes; minutes to write
    python benchmarks/many_episodes.py --quick
    python benchmarks/many_episodes.py --json

Episodes of 50 steps: a 64x64 JPEG camera, qpos (14), action (14). Each size is opened in a process
of its own: open the dataset, index every step as a training sample, read the first batch of 8. The
low-dimensional arrays lie in memory by design; what memory grows beyond them is the question.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
STEPS = 50
SHARD_FRAMES = 64  # an episode is one shard


def write(path: Path, episodes: int) -> None:
    """A dataset; every step differs, one picture serves all."""
    import numpy as np

    from act_data.records import DatasetSchema, EpisodeInfo, Feature, SourceRecord
    from act_data.store import jpeg, open_writer
    from act_data.types import EncodedImage, Role, StepType, Timestep

    features = (
        Feature(name="qpos", role=Role.OBSERVATION, dtype="float32", shape=(14,)),
        Feature(
            name="images/top", role=Role.OBSERVATION, dtype="uint8", shape=(64, 64, 3), codec="jpeg"
        ),
        Feature(name="action", role=Role.ACTION, dtype="float32", shape=(14,)),
        Feature(name="timestamp", role=Role.SYNC, dtype="int64", shape=()),
    )
    schema = DatasetSchema(robot="bench", fps=30.0, features=features)
    rng = np.random.default_rng(0)
    picture = jpeg.encode(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), 95)
    image = EncodedImage(data=picture, shape=(64, 64, 3))
    nothing = np.zeros(0, dtype=np.int64)
    with open_writer(path, schema, shard_frames=SHARD_FRAMES) as writer:
        for number in range(episodes):
            episode = writer.episode(f"e{number:05d}")
            values = rng.normal(size=(STEPS, 2, 14)).astype(np.float32)
            for t in range(STEPS):
                episode.record(
                    Timestep(
                        step_type=StepType.FIRST if t == 0 else StepType.MID,
                        tick_ns=t * 33_333_333,
                        observation={"qpos": values[t, 0], "images/top": image},
                        action={"action": values[t, 1]},
                        skew_ns=nothing,
                        reason=nothing.astype(np.uint8),
                        index=nothing,
                    )
                )
            source = SourceRecord(name=f"{number}", kind="memory", sha256=f"{number:064x}")
            episode.finish(EpisodeInfo(source=source))
        writer.commit(list(writer.durable))


def measure(path: Path) -> dict[str, float]:
    """CPU seconds and peak memory from an imported interpreter to the first batch."""
    from act_data.store import open_dataset
    from act_model.config import TrainConfig
    from act_model.dataset import EpisodeChunks

    def now() -> float:
        return time.process_time()

    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = now()
    reader = open_dataset(path)
    opened = now()
    chunks = EpisodeChunks(
        reader,
        range(len(reader.episodes)),
        config=TrainConfig(state=("qpos",), action=("action",), batch_size=8, workers=0),
        chunk_size=20,
        cameras=("top",),
    )
    indexed = now()
    batch = next(chunks.batches())
    read = now()
    assert batch.images[0].shape == (8, 64, 64, 3)
    rows = sum(entry.length for entry in reader.episodes)
    return {
        "open_ms": 1e3 * (opened - began),
        "index_ms": 1e3 * (indexed - opened),
        "first_batch_ms": 1e3 * (read - indexed),
        "grown_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mib,
        "low_dim_mib": rows * 2 * 14 * 4 / 2**20,
        "open_files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208  # a count is all
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10, 20 and 40 episodes")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", metavar="PATH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(Path(options.only))))
        return
    sizes = (10, 20, 40) if options.quick else (100, 1_000, 10_000)
    rows: list[dict[str, Any]] = []
    for episodes in sizes:
        with TemporaryDirectory() as scratch:
            path = Path(scratch, "ds.zarr")
            began = time.perf_counter()
            write(path, episodes)
            write_s = time.perf_counter() - began
            command = [sys.executable, str(HERE), "--only", str(path)]
            environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
            tries = [
                json.loads(subprocess.check_output(command, text=True, env=environment))
                for _ in range(1 if options.quick else 3)
            ]
            best = {key: min(each[key] for each in tries) for key in tries[0]}
            rows.append({"episodes": episodes, "write_s": write_s, **best})
    if options.json:
        print(json.dumps({"steps": STEPS, "rows": rows}))
        return
    print(
        f"{'episodes':>9}{'open ms':>9}{'index ms':>10}{'per episode us':>16}{'first batch ms':>16}"
        f"{'memory MiB':>12}{'of it low-dim':>15}{'open files':>12}{'written in s':>14}"
    )
    for row in rows:
        each = 1e3 * (row["open_ms"] + row["index_ms"]) / row["episodes"]
        print(
            f"{row['episodes']:>9}{row['open_ms']:>9.1f}{row['index_ms']:>10.1f}{each:>16.0f}"
            f"{row['first_batch_ms']:>16.1f}{row['grown_mib']:>12.1f}{row['low_dim_mib']:>15.1f}"
            f"{row['open_files']:>12}{row['write_s']:>14.1f}"
        )


if __name__ == "__main__":
    main()
