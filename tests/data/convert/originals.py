"""Small datasets as the original programs write them, made with their own libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import h5py
import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from imagecodecs.numcodecs import Jpeg2k
from numpy.typing import NDArray

Dialect = Literal["plain", "compressed", "mobile", "agilex"]
CAMERAS = ("cam_high", "cam_low", "cam_left_wrist")  # as aloha lists them: not in HDF5's order
H, W = 32, 48


def picture(t: int, camera: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth, so that JPEG and video keep it; red, green and blue differ."""
    y, x = np.mgrid[0:H, 0:W]
    red, green = 4 * x + t, 20 + 3 * y + 5 * seed
    return np.stack([red, green, np.full_like(x, 60 * camera + t)], -1).astype(np.uint8)


def aloha_file(
    path: Path, dialect: Dialect = "plain", steps: int = 5, *, seed: int = 0, sim: bool = False
) -> dict[str, NDArray[Any]]:
    """One episode as record_episodes.py (act, act-plus-plus, cobot_magic) saves it.

    Returns:
        What it holds by path in the file; pictures as they were before they were compressed.
    """
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {
        "/observations/qpos": rng.normal(size=(steps, 14)),
        "/observations/qvel": rng.normal(size=(steps, 14)),
        "/action": rng.normal(size=(steps, 14)),
    }
    if dialect != "plain":
        data["/observations/effort"] = rng.normal(size=(steps, 14))
    if dialect in ("mobile", "agilex"):
        data["/base_action"] = rng.normal(size=(steps, 2))
    for i, camera in enumerate(CAMERAS):
        frames = np.stack([picture(t, i, seed) for t in range(steps)])
        data[f"/observations/images/{camera}"] = frames
        if dialect == "agilex":
            depth = rng.integers(0, 2**16, (steps, H, W), np.uint16)
            data[f"/observations/images_depth/{camera}"] = depth
    compress = dialect in ("compressed", "mobile")
    lengths = []
    with h5py.File(path, "w", rdcc_nbytes=1024**2 * 2) as root:
        root.attrs["sim"] = sim
        root.attrs["compress"] = compress
        for name, values in data.items():
            if values.ndim == 4 and compress:
                files = [cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, 50])[1] for f in values]
                lengths.append([len(file) for file in files])
                padded = np.zeros((steps, max(map(len, files))), np.uint8)
                for row, file in zip(padded, files, strict=True):
                    row[: len(file)] = file
                root.create_dataset(name, data=padded, chunks=(1, padded.shape[1]))
            elif values.ndim > 2:
                root.create_dataset(name, data=values, chunks=(1, *values.shape[1:]))
            else:
                root.create_dataset(name, values.shape, "f4")  # no dtype given, says the original
                root[name][...] = values
                data[name] = values.astype(np.float32)
        if compress:
            root.create_dataset("compress_len", (len(CAMERAS), steps), "f4")
            root["/compress_len"][...] = lengths
    return data


def aloha_folder(
    folder: Path, dialect: Dialect = "plain", lengths: tuple[int, ...] = (5, 3)
) -> list[dict[str, NDArray[Any]]]:
    """Episodes of these lengths, each with other numbers."""
    folder.mkdir()
    return [
        aloha_file(folder / f"episode_{i}.hdf5", dialect, steps, seed=i)
        for i, steps in enumerate(lengths)
    ]


def as_act_plus_plus_loads(path: Path, camera: str, t: int) -> NDArray[np.uint8]:
    """What `EpisodicDataset` of act-plus-plus gives to the network for one picture."""
    with h5py.File(path, "r") as root:
        image = root[f"/observations/images/{camera}"][t]
        compress = root.attrs.get("compress", False)
    return np.asarray(cv2.imdecode(image, 1) if compress else image, np.uint8)


def lerobot_v21(root: Path, lengths: tuple[int, ...] = (5, 3), *, seed: int = 0) -> list[Any]:
    """A dataset as lerobot 0.1 to 0.3 recorded it: files per episode, documents of JSON lines.

    Returns:
        State and action of each episode.
    """
    rng = np.random.default_rng(seed)
    key = "observation.images.top"
    features: dict[str, Any] = {
        "observation.state": {
            "dtype": "float32", "shape": [6], "names": {"motors": list("abcdef")},
        },
        "action": {"dtype": "float32", "shape": [6], "names": list("ABCDEF")},
        key: {"dtype": "video", "shape": [H, W, 3], "names": ["height", "width", "channels"],
              "info": {"video.codec": "h264", "video.is_depth_map": False}},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **{n: {"dtype": "int64", "shape": [1], "names": None}
           for n in ("frame_index", "episode_index", "index", "task_index")},
    }  # fmt: skip
    info = {
        "codebase_version": "v2.1", "robot_type": "so100", "total_episodes": len(lengths),
        "total_frames": sum(lengths), "total_tasks": 2, "total_videos": len(lengths),
        "total_chunks": 1, "chunks_size": 1000, "fps": 30, "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
        "features": features,
    }  # fmt: skip
    for folder in ("meta", "data/chunk-000", f"videos/chunk-000/{key}"):
        (root / folder).mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info, indent=4))
    tasks = [{"task_index": i, "task": t} for i, t in enumerate(("pick", "place"))]
    (root / "meta" / "tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    made, first, lines = [], 0, ""
    for e, length in enumerate(lengths):
        arrays = rng.normal(size=(2, length, 6)).astype(np.float32)
        made.append(arrays)
        steps = np.arange(length)
        table = {
            "observation.state": list(arrays[0]),
            "action": list(arrays[1]),
            "next.done": steps == length - 1,
            "timestamp": (steps / 30).astype(np.float32),
            "frame_index": steps, "episode_index": np.full(length, e),
            "index": first + steps, "task_index": np.full(length, e % 2),
        }  # fmt: skip
        pq.write_table(pa.table(table), root / f"data/chunk-000/episode_{e:06d}.parquet")
        with av.open(str(root / f"videos/chunk-000/{key}/episode_{e:06d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"g": "2", "crf": "18"})
            stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
            for t in range(length):
                frame = av.VideoFrame.from_ndarray(picture(t, 1, e), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        task = ("pick", "place")[e % 2]
        lines += json.dumps({"episode_index": e, "tasks": [task], "length": length}) + "\n"
        first += length
    (root / "meta" / "episodes.jsonl").write_text(lines)
    return made


def robomimic_file(path: Path, lengths: tuple[int, ...] = (5, 3, 4), *, seed: int = 0) -> list[Any]:
    """A file as robomimic's scripts leave it: observations extracted, compressed, split.

    Returns:
        Position, camera and actions of each demonstration.
    """
    rng = np.random.default_rng(seed)
    made = []
    with h5py.File(path, "w") as root:
        data = root.create_group("data")
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "env_type": 1,
             "env_kwargs": {"control_freq": 20, "robots": ["Panda"]}}
        )  # fmt: skip
        for n, length in enumerate(lengths):
            demo = data.create_group(f"demo_{n + 8}")  # 8, 9, 10: not in the order of letters
            demo.attrs["num_samples"] = length
            demo.attrs["model_file"] = "<mujoco/>"
            position = rng.normal(size=(length, 3))
            camera = rng.integers(0, 256, (length, 20, 24, 3), np.uint8)
            actions = rng.uniform(-1, 1, (length, 7))
            demo.create_dataset("actions", data=actions)
            demo.create_dataset("states", data=rng.normal(size=(length, 32)))
            demo.create_dataset("rewards", data=np.zeros(length))
            demo.create_dataset("dones", data=np.zeros(length, np.int64))
            for group in ("obs", "next_obs"):
                for key, values in {"robot0_eef_pos": position, "agentview_image": camera}.items():
                    demo.create_dataset(f"{group}/{key}", data=values, compression="gzip")
            made.append((position, camera, actions))
        names = [f"demo_{n + 8}".encode() for n in range(len(lengths))]
        root["mask/train"] = np.array(names[1:], "S")
        root["mask/valid"] = np.array(names[:1], "S")
        root["mask/20_percent"] = np.array(names[:1], "S")
    return made


def replay_buffer(
    root: Path, lengths: tuple[int, ...] = (5, 3, 4), codec: str = "blosc", *, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """A buffer as `ReplayBuffer.save_to_path` writes it, file by file: zarr 2 runs no more here.

    Returns:
        Its arrays.
    """
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    smooth = np.stack([picture(t, 0) for t in range(count)])
    arrays = {
        "img": smooth.astype(np.float32) if codec == "blosc" else smooth,
        "state": rng.normal(size=(count, 5)).astype(np.float32),
        "action": rng.normal(size=(count, 2)),
        "keypoint": rng.normal(size=(count, 9, 2)).astype(np.float32),
        "n_contacts": rng.integers(0, 3, (count, 1)).astype(np.float32),
    }
    compressors: dict[str, Any] = {
        "blosc": numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE),
        "zstd": numcodecs.Zstd(level=3),
        "zlib": numcodecs.Zlib(),
        "lz4": numcodecs.LZ4(),
        "none": None,
        "jpeg2k": Jpeg2k(level=50),
    }
    for name, values in arrays.items():
        compressor = compressors["blosc" if codec == "jpeg2k" and name != "img" else codec]
        chunks = (1, *values.shape[1:]) if name == "img" else (4, *values.shape[1:])
        zarr2_array(root / "data" / name, values, chunks, compressor)
    zarr2_array(root / "meta" / "episode_ends", np.cumsum(lengths), (len(lengths),), None)
    for group in (root, root / "data", root / "meta"):
        (group / ".zgroup").write_text('{"zarr_format": 2}')
    return arrays


def zarr2_array(
    folder: Path, values: NDArray[Any], chunks: tuple[int, ...], compressor: Any
) -> None:
    """One zarr v2 array, chunks padded with zeros (zarr v2 specification)."""
    folder.mkdir(parents=True)
    document = {
        "zarr_format": 2, "shape": values.shape, "chunks": chunks, "dtype": values.dtype.str,
        "compressor": compressor and compressor.get_config(), "fill_value": 0, "order": "C",
        "filters": None,
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(document))
    for place in np.ndindex(*(-(-n // c) for n, c in zip(values.shape, chunks, strict=True))):
        chunk = np.zeros(chunks, values.dtype)
        part = values[tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, chunks, strict=True))]
        chunk[tuple(slice(0, n) for n in part.shape)] = part
        data = compressor.encode(chunk) if compressor else chunk.tobytes()
        (folder / ".".join(map(str, place))).write_bytes(data)
