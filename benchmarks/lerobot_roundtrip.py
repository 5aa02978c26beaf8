"""Datasets that we export, in real lerobot; datasets that real lerobot records, in ours.

    python benchmarks/lerobot_roundtrip.py            # builds an environment with lerobot, once
    python benchmarks/lerobot_roundtrip.py --quick    # our half only: no download, no lerobot
    python benchmarks/lerobot_roundtrip.py --json

lerobot needs Python 3.12 and other versions of nearly everything, so it lives in an environment of
its own (5 GB; `--venv` names its folder, `--python` the interpreter to build it with). There:

exported  every item of a dataset in videos and one in PNG files is loaded with `delta_timestamps`;
          state, action, stamps, padding, frames and statistics are compared with what went in
recorded  a dataset is recorded with lerobot's own API, read by `act-data convert`, and every number
          and frame compared
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
LEROBOT = "0.6.1"
FPS = 25
HORIZON = 8
SIZE = (96, 128)


# --- inside the environment of lerobot: nothing of ours is imported ----------------------------


def inside(folder: Path) -> None:
    """Compare the exports in `folder` with `truth.npz`, then record a dataset beside them."""
    import numpy as np

    truth = np.load(folder / "truth.npz")
    rows = [_load(folder / name, truth) for name in ("video", "image")]
    _record(folder / "recorded", truth)
    (folder / "found.json").write_text(json.dumps(rows))


def _load(root: Path, truth: Any) -> dict[str, Any]:
    import numpy as np
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = [i / FPS for i in range(HORIZON)]
    camera = "observation.images.top"
    dataset = LeRobotDataset(
        f"local/{root.name}",
        root=root,
        delta_timestamps={"action": deltas, camera: [-1 / FPS, 0.0]},
        video_backend="pyav",
    )
    ends = np.cumsum(truth["lengths"])
    worst, exact, padded = 0.0, True, 0
    for i in range(len(dataset)):
        item = dataset[i]
        end = int(ends[np.searchsorted(ends, i, side="right")])
        first = end - int(truth["lengths"][np.searchsorted(ends, i, side="right")])
        rows = np.minimum(i + np.arange(HORIZON), end - 1)
        exact &= bool(np.array_equal(item["action"].numpy(), truth["action"][rows]))
        exact &= bool(np.array_equal(item["observation.state"].numpy(), truth["state"][i]))
        exact &= int(item["sync.timestamp_ns"]) == int(truth["stamps"][i])
        pad = i + np.arange(HORIZON) >= end
        exact &= bool(np.array_equal(item["action_is_pad"].numpy(), pad))
        exact &= item["task"] == "reach"
        padded += int(pad.sum())
        frames = item[camera]  # the one before, and this one
        before = max(i - 1, first)
        want = torch.from_numpy(truth["decoded_" + root.name][[before, i]]).permute(0, 3, 1, 2)
        worst = max(worst, float((frames * 255 - want).abs().max()))
    stats = dataset.meta.stats
    numbers = {"observation.state": "state", "action": "action"}
    off = max(
        float(np.abs(stats[key][number] - getattr(np, number)(truth[name].astype(float), 0)).max())
        for key, name in numbers.items()
        for number in ("min", "max", "mean", "std")
    )
    return {
        "name": root.name,
        "items": len(dataset),
        "episodes": dataset.num_episodes,
        "numbers_exact": exact,
        "padded": padded,
        "frame_levels_off": round(worst, 3),
        "stats_off": off,
    }


def _record(root: Path, truth: Any) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = {"names": None}
    dataset = LeRobotDataset.create(
        repo_id="local/recorded",
        root=root,
        fps=FPS,
        features={
            "observation.state": {"dtype": "float32", "shape": (14,), **names},
            "action": {"dtype": "float32", "shape": (14,), **names},
            "observation.images.top": {
                "dtype": "video", "shape": (*SIZE, 3), "names": ["height", "width", "channels"],
            },
        },
        use_videos=True,
    )  # fmt: skip
    row = 0
    for length in truth["lengths"]:
        for _ in range(length):
            dataset.add_frame(
                {
                    "observation.state": truth["state"][row],
                    "action": truth["action"][row],
                    "observation.images.top": truth["frames"][row],
                    "task": "reach",
                }
            )
            row += 1
        dataset.save_episode()
    dataset.finalize()


# --- our side ---------------------------------------------------------------------------------


def make(folder: Path, lengths: list[int]) -> None:
    """A dataset with true stamps, its exports, and what must come out of them."""
    import numpy as np

    from act_data.convert import ConvertSettings, convert
    from act_data.records import DatasetSchema, EpisodeInfo, Feature, SourceRecord, SyncColumn
    from act_data.store import open_dataset, open_writer
    from act_data.types import Role, StepType, Timestep

    vector: Any = {"dtype": "float32", "shape": (14,), "unit": "rad", "columns": ("arm",)}
    sync: Any = {"role": Role.SYNC, "dtype": "int64"}
    schema = DatasetSchema(
        robot="bench",
        fps=FPS,
        features=(
            Feature(name="qpos", role=Role.OBSERVATION, **vector),
            Feature(name="images/top", role=Role.OBSERVATION, dtype="uint8", shape=(*SIZE, 3),
                    codec="zstd"),
            Feature(name="action", role=Role.ACTION, **vector),
            Feature(name="timestamp", shape=(), unit="ns", **sync),
            Feature(name="sync_skew", shape=(1,), unit="ns", **sync),
            Feature(name="sync_reason", role=Role.SYNC, dtype="uint8", shape=(1,)),
            Feature(name="sync_index", shape=(1,), **sync),
        ),
        columns=(SyncColumn(name="arm", stream="arm", role=Role.OBSERVATION),),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    count = sum(lengths)
    state, action = rng.normal(size=(2, count, 14)).astype(np.float32)
    stamps = 10**18 + np.arange(count) * 40_000_000 + rng.integers(-(10**6), 10**6, count)
    frames = np.stack([scene(t) for t in range(count)])
    row = 0
    with open_writer(folder / "ds.zarr", schema) as writer:
        for n, length in enumerate(lengths):
            episode = writer.episode(f"ep-{n}")
            for t in range(length):
                episode.record(
                    Timestep(
                        step_type=StepType.MID if t else StepType.FIRST,
                        tick_ns=int(stamps[row]),
                        observation={"qpos": state[row], "images/top": frames[row]},
                        action={"action": action[row]},
                        skew_ns=np.array([-1_000_000 * t]),
                        reason=np.zeros(1, np.uint8),
                        index=np.array([t]),
                    )
                )
                row += 1
            source = SourceRecord(name=f"bag{n}", kind="memory", sha256=f"{n:064x}")
            episode.finish(EpisodeInfo(source=source, task="reach"))
        uids = [f"ep-{n}" for n in range(len(lengths))]
        writer.commit(uids, splits=dict.fromkeys(uids, "train"))
    decoded = {}
    for kind in ("video", "image"):
        settings = ConvertSettings(target_format="lerobot", pictures=kind)
        convert(folder / "ds.zarr", folder / kind, settings)
        back = folder / f"{kind}.zarr"
        convert(folder / kind, back, ConvertSettings(codec="zstd"))
        reader = open_dataset(back)
        decoded[f"decoded_{kind}"] = np.concatenate(
            [reader.read("images/top", n) for n in range(len(lengths))]
        )
    arrays: dict[str, Any] = {
        "state": state, "action": action, "stamps": stamps, "frames": frames,
        "lengths": np.array(lengths), **decoded,
    }  # fmt: skip
    np.savez(folder / "truth.npz", **arrays)


def scene(t: int) -> Any:
    """A textured picture that pans: what a video can keep, and where every frame differs."""
    import numpy as np

    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    x = x + 2 * t
    red, green = 128 + 100 * np.sin(x / 9), 128 + 100 * np.sin(y / 7 + x / 40)
    return np.stack([red, green, (x * 3 + y) % 256], -1).astype(np.uint8)


def ours(folder: Path) -> list[dict[str, Any]]:
    """What our own import makes of the exports, and of what lerobot recorded."""
    import numpy as np

    from act_data.convert import ConvertSettings, convert
    from act_data.store import open_dataset

    truth = np.load(folder / "truth.npz")
    names = ["video", "image"]
    if (folder / "recorded").is_dir():
        convert(folder / "recorded", folder / "recorded.zarr", ConvertSettings(codec="zstd"))
        names.append("recorded")
    rows = []
    for name in names:
        reader = open_dataset(folder / f"{name}.zarr")
        every = range(len(reader.episodes))
        whole = {
            array: np.concatenate([reader.read(array, n) for n in every])
            for array in ("qpos", "action", "images/top", "timestamp")
        }
        error = np.abs(whole["images/top"].astype(int) - truth["frames"]).mean(axis=(1, 2, 3))
        stamps = name == "recorded" or bool((whole["timestamp"] == truth["stamps"]).all())
        rows.append(
            {
                "name": f"{name} -> ours",
                "items": len(whole["qpos"]),
                "episodes": len(every),
                "numbers_exact": stamps
                and bool((whole["qpos"] == truth["state"]).all())
                and bool((whole["action"] == truth["action"]).all()),
                "worst_frame_mean_error": round(float(error.max()), 3),
            }
        )
    return rows


# --- the environment --------------------------------------------------------------------------


def interpreter(venv: Path, python: str) -> Path:
    """The Python of an environment with lerobot, which is built if it is not there."""
    program = venv / "bin" / "python"
    if not program.exists() or subprocess.run([program, "-c", "import lerobot"]).returncode:
        print(f"building {venv} with lerobot {LEROBOT} (5 GB, once)", file=sys.stderr)
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(venv)], check=True)
        uv = Path(sys.executable).with_name("uv")
        pip = [str(uv), "pip", "install", "--python", str(program)]
        if not uv.exists():
            pip = [str(program), "-m", "pip", "install"]
        subprocess.run([*pip, "-q", f"lerobot[dataset]=={LEROBOT}"], check=True)
    return program


def main() -> None:
    import platformdirs

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Our half only.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--python", default="python3.12", help="To build the environment with.")
    cache = Path(platformdirs.user_cache_dir("act-toolkit")) / f"lerobot-{LEROBOT}"
    parser.add_argument("--venv", type=Path, default=cache)
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ACT_REGISTRY"] = str(folder / "registry.db")
        make(folder, [7, 5, 9] if args.quick else [60, 37, 81, 50])
        rows: list[dict[str, Any]] = []
        if not args.quick:
            program = interpreter(args.venv, args.python)
            offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "PYTHONPATH": ""}
            subprocess.run(
                [program, str(HERE), "--inside", str(folder)],
                env={**os.environ, **offline},
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
            )
            found = json.loads((folder / "found.json").read_text())
            rows += [{**row, "name": f"{row['name']} -> lerobot"} for row in found]
        rows += ours(folder)
    result = {"lerobot": None if args.quick else LEROBOT, "rows": rows}
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"lerobot {result['lerobot'] or '(left out: --quick)'}")
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]))
    else:
        main()
