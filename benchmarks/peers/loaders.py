"""The same samples read by everybody: three cameras 640x480, qpos, 100 actions from step t on.

`make` writes them once in every format; each contender then reads from its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.make_bag import HEIGHT, WIDTH, ring
from benchmarks.peers.cost import BATCH, CHUNK, WORKERS, Load, Read

CAMERAS = ("cam0", "cam1", "cam2")
SHAPE = (HEIGHT, WIDTH, 3)
JOINTS = 14
QUALITY = 95


def make(folder: Path, steps: int) -> None:
    """One episode of `steps` steps in every format but LeRobot's."""
    rings = [ring(seed) for seed in range(len(CAMERAS))]
    frames = [[pictures[t % len(pictures)] for pictures in rings] for t in range(steps)]
    numbers = np.random.default_rng(0).normal(size=(steps, 2, JOINTS)).astype(np.float32)
    np.save(folder / "numbers.npy", numbers)
    with (folder / "raw").open("wb") as raw:
        for pictures in frames:
            for picture in pictures:
                raw.write(picture.data)
    write_dataset(folder / "ds.zarr", frames, numbers)
    write_dataset(folder / "raw.zarr", frames, numbers, codec="raw")
    _write_aloha(folder / "aloha.hdf5", frames, numbers)


def write_dataset(
    path: Path, frames: Sequence[Sequence[Any]], numbers: NDArray[np.float32], codec: str = "jpeg"
) -> None:
    """An act-zarr dataset of one episode; `frames` are pictures or `EncodedImage`s."""
    from act_data.records import DatasetSchema, EpisodeInfo, Feature, SourceRecord
    from act_data.store import open_writer
    from act_data.types import Role, StepType, Timestep

    names = [f"images/{camera}" for camera in CAMERAS[: len(frames[0])]]
    vector = {"dtype": "float32", "shape": (JOINTS,)}
    picture = {"role": Role.OBSERVATION, "dtype": "uint8", "shape": SHAPE, "codec": codec}
    features = (
        Feature.model_validate({"name": "qpos", "role": Role.OBSERVATION, **vector}),
        *(Feature.model_validate({"name": name, **picture}) for name in names),
        Feature.model_validate({"name": "action", "role": Role.ACTION, **vector}),
        Feature(name="timestamp", role=Role.SYNC, dtype="int64", shape=()),
    )
    schema = DatasetSchema(robot="bench", fps=30.0, features=features)
    none = np.zeros(0, np.int64)
    with open_writer(path, schema) as writer:
        episode = writer.episode("bench")
        for t, (pictures, (qpos, action)) in enumerate(zip(frames, numbers, strict=True)):
            episode.record(
                Timestep(
                    step_type=StepType.FIRST if t == 0 else StepType.MID,
                    tick_ns=t * 33_333_333,
                    observation={"qpos": qpos, **dict(zip(names, pictures, strict=True))},
                    action={"action": action},
                    skew_ns=none,
                    reason=none.astype(np.uint8),
                    index=none,
                )
            )
        episode.finish(EpisodeInfo(source=SourceRecord(name="b", kind="memory", sha256="0" * 64)))
        writer.commit(["bench"])


def _write_aloha(
    path: Path, frames: Sequence[Sequence[NDArray[np.uint8]]], numbers: NDArray[np.float32]
) -> None:
    """As record_episodes.py of ALOHA does: raw pictures, a chunk of HDF5 for each."""
    with h5py.File(path, "w", rdcc_nbytes=1024**2 * 2) as root:
        root.attrs["sim"] = False
        root["observations/qpos"], root["action"] = numbers[:, 0], numbers[:, 1]
        for n, camera in enumerate(CAMERAS):
            images = root.create_dataset(
                f"observations/images/{camera}", (len(frames), *SHAPE), "uint8", chunks=(1, *SHAPE)
            )
            for t, pictures in enumerate(frames):
                images[t] = pictures[n]


# --- one sample after the other -----------------------------------------------------------------


def pread(folder: Path) -> Read:
    """The pictures' bytes, into memory that is there: what the machine can do."""
    file = os.open(folder / "raw", os.O_RDONLY)
    buffer = np.empty((BATCH, len(CAMERAS), *SHAPE), np.uint8)

    def read(picks: Sequence[int]) -> None:
        for place, t in zip(buffer, picks, strict=False):
            os.preadv(file, [place.data], t * place.nbytes)

    return read


def floor(folder: Path) -> Read:
    """JPEG files in memory decoded into memory that is there: what the decoder can do."""
    dataset = _open(folder)
    files = [
        [dataset.encoded(f"images/{camera}", 0, t).data for camera in CAMERAS]
        for t in range(dataset.episodes[0].length)
    ]
    buffer = np.empty((BATCH, len(CAMERAS), *SHAPE), np.uint8)

    def read(picks: Sequence[int]) -> None:
        for place, t in zip(buffer, picks, strict=False):
            for picture, file in zip(place, files[t], strict=True):
                simplejpeg.decode_jpeg(file, colorspace="RGB", buffer=picture)

    return read


def ours(folder: Path) -> Read:
    """Whole batches as training gets them."""
    chunks = _chunks(folder, workers=0)
    return lambda picks: chunks.__getitems__(picks)


def zarr_python(folder: Path) -> Read:
    """The same dataset by zarr's own reader."""
    import zarr

    group: Any = zarr.open(folder / "ds.zarr", mode="r")
    images = [group[f"data/images/{camera}"] for camera in CAMERAS]
    qpos, action = group["data/qpos"], group["data/action"]

    def read(picks: Sequence[int]) -> list[Any]:
        return [
            ([array[t] for array in images], qpos[t], action[t : t + CHUNK]) for t in picks
        ]  # fmt: skip

    return read


def aloha(folder: Path, *, as_float: bool = True) -> Read:
    """As EpisodicDataset of ACT does: the file is opened for every sample."""
    dataset = Aloha(folder / "aloha.hdf5", as_float=as_float)
    return lambda picks: [dataset[t] for t in picks]


def diffusion_policy(folder: Path) -> Read:
    """As its ReplayBuffer does: JPEG 2000 at level 50 in memory, floats in [0, 1]."""
    import imagecodecs

    rings = [ring(seed) for seed in range(len(CAMERAS))]
    files = [[imagecodecs.jpeg2k_encode(p, level=50) for p in pictures] for pictures in rings]

    def picture(file: bytes | bytearray) -> Tensor:
        return torch.from_numpy(imagecodecs.jpeg2k_decode(file)).permute(2, 0, 1).float() / 255

    def read(picks: Sequence[int]) -> list[Any]:
        return [[picture(camera[t % len(camera)]) for camera in files] for t in picks]

    return read


# --- a loader with two workers ------------------------------------------------------------------


def ours_threads(folder: Path, *, raw: bool = False, as_float: bool = False) -> Load:
    """The loader of `act-model train`: threads that read ahead."""
    chunks = _chunks(folder, workers=WORKERS, raw=raw)

    def load(picks: Sequence[int]) -> Iterable[Any]:
        batches, floats = chunks.batches(), Floats()
        for _ in range(len(picks) // BATCH):
            yield floats(next(batches)) if as_float else next(batches)
        batches.close()

    return load


def ours_processes(folder: Path, *, raw: bool = False, as_float: bool = False) -> Load:
    """The same samples through torch's DataLoader; floats are made in the training process."""
    from act_model.dataset import as_it_is

    chunks = _chunks(folder, workers=0, raw=raw)

    def load(picks: Sequence[int]) -> Iterable[Any]:
        floats = Floats()
        for batch in DataLoader(
            chunks, batch_size=BATCH, sampler=picks, num_workers=WORKERS, collate_fn=as_it_is
        ):
            yield floats(batch) if as_float else batch

    return load


def aloha_loader(folder: Path, *, as_float: bool = True) -> Load:
    dataset = Aloha(folder / "aloha.hdf5", as_float=as_float)
    return lambda picks: DataLoader(
        dataset, batch_size=BATCH, sampler=picks, num_workers=WORKERS
    )  # fmt: skip


class Aloha(Dataset[Any]):
    """Samples as EpisodicDataset gives them: pictures (N, 3, H, W) float32 in [0, 1]."""

    def __init__(self, path: Path, *, as_float: bool) -> None:
        self._path = path
        self._as_float = as_float

    def __getitem__(self, t: int) -> Any:
        with h5py.File(self._path) as root:
            qpos = root["observations/qpos"][t]
            pictures = [root[f"observations/images/{camera}"][t] for camera in CAMERAS]
            actions = root["action"][t : t + CHUNK]
        padded = np.zeros((CHUNK, JOINTS), np.float32)
        padded[: len(actions)] = actions
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        is_pad = torch.arange(CHUNK) >= len(actions)
        shown = images / 255.0 if self._as_float else images
        return shown, torch.from_numpy(qpos), torch.from_numpy(padded), is_pad


READING: dict[str, Callable[[Path], Read]] = {
    "raw pread": pread,
    "decode floor": floor,
    "ours": ours,
    "zarr-python": zarr_python,
    "ALOHA HDF5 uint8": lambda folder: aloha(folder, as_float=False),
    "ALOHA HDF5": aloha,
    "diffusion-policy": diffusion_policy,
}
LOADING: dict[str, Callable[[Path], Load]] = {
    "ours, threads uint8": ours_threads,
    "ours, DataLoader uint8": ours_processes,
    "ours raw, threads uint8": lambda folder: ours_threads(folder, raw=True),
    "ours raw, DataLoader uint8": lambda folder: ours_processes(folder, raw=True),
    "ALOHA HDF5 uint8": lambda folder: aloha_loader(folder, as_float=False),
    "ours, threads": lambda folder: ours_threads(folder, as_float=True),
    "ours, DataLoader": lambda folder: ours_processes(folder, as_float=True),
    "ours raw, threads": lambda folder: ours_threads(folder, raw=True, as_float=True),
    "ours raw, DataLoader": lambda folder: ours_processes(folder, raw=True, as_float=True),
    "ALOHA HDF5": aloha_loader,
}


def _open(folder: Path, *, raw: bool = False) -> Any:
    from act_data.store import open_dataset

    return open_dataset(folder / ("raw.zarr" if raw else "ds.zarr"))


def _chunks(folder: Path, *, workers: int, raw: bool = False) -> Any:
    from act_model.config import TrainConfig
    from act_model.dataset import EpisodeChunks

    config = TrainConfig(batch_size=BATCH, workers=workers)
    dataset = _open(folder, raw=raw)
    return EpisodeChunks(dataset, [0], config=config, chunk_size=CHUNK, cameras=CAMERAS)


class Floats:
    """(B, 3, H, W) float32 in [0, 1] of a batch, laid out in memory as ALOHA's are: channels last.

    The memory is that of the batch before.
    """

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def __call__(self, batch: Any) -> list[Tensor]:
        if not self._kept:
            self._kept = [torch.empty(image.shape) for image in batch.images]
        for kept, image in zip(self._kept, batch.images, strict=True):
            for place, picture in zip(kept, image, strict=True):  # one fits into the cache
                place.copy_(picture).div_(255.0)
        return [kept.permute(0, 3, 1, 2) for kept in self._kept]
