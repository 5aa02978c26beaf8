"""The real LeRobotDataset; runs in the environment that has it, and only there.

python lerobot_loader.py make FOLDER RAW STEPS     # RAW: (STEPS, 3, 480, 640, 3) uint8
python lerobot_loader.py sample|loader FOLDER STEPS SAMPLES [uint8]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.peers import cost

CAMERAS = [f"observation.images.cam{n}" for n in range(3)]
FPS = 30


def make(folder: Path, raw: Path, steps: int) -> None:
    vector = {"dtype": "float32", "shape": (14,), "names": [f"joint{n}" for n in range(14)]}
    video = {
        "dtype": "video", "shape": (480, 640, 3), "names": ["height", "width", "channel"],
    }  # fmt: skip
    features = {"observation.state": vector, "action": vector, **dict.fromkeys(CAMERAS, video)}
    dataset = LeRobotDataset.create("bench/act", fps=FPS, features=features, root=folder)
    frames = np.memmap(raw, np.uint8, "r", shape=(steps, 3, 480, 640, 3))
    numbers = np.random.default_rng(0).normal(size=(steps, 2, 14)).astype(np.float32)
    for t in range(steps):
        pictures = dict(zip(CAMERAS, np.asarray(frames[t]), strict=True))
        state, action = numbers[t]
        dataset.add_frame({"observation.state": state, "action": action, "task": "x", **pictures})
    dataset.save_episode()
    dataset.finalize()


def main() -> None:
    what, folder, *rest = sys.argv[1:]
    if what == "make":
        make(Path(folder), Path(rest[0]), int(rest[1]))
        return
    steps, samples = int(rest[0]), int(rest[1])
    dataset = LeRobotDataset(
        "bench/act",
        root=folder,
        delta_timestamps={"action": [n / FPS for n in range(cost.CHUNK)]},
        return_uint8="uint8" in rest,
    )

    def read(picks: Sequence[int]) -> list[Any]:
        return [dataset[t] for t in picks]

    def load(picks: Sequence[int]) -> Iterable[Any]:
        return torch.utils.data.DataLoader(
            dataset, batch_size=cost.BATCH, sampler=picks, num_workers=cost.WORKERS
        )

    torch.set_num_threads(1)
    found = (
        cost.of_reading(read, steps, samples)
        if what == "sample"
        else cost.of_loading(load, steps, samples)
    )
    cost.tell(found)


if __name__ == "__main__":
    main()
