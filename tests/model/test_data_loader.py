"""Batches through torch's DataLoader, whose workers are processes."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from act_model.config import TrainConfig
from act_model.dataset import Batch, EpisodeChunks, as_it_is
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.test_dataset import chunks_of, equal, on_disk

DEPTH = schema_of(depth={"top": (8, 9)})
PICKS = [n % 15 for n in range(64)]


def loader_of(chunks: EpisodeChunks, how: str, workers: int = 2) -> DataLoader[Batch]:
    return DataLoader(
        chunks,
        batch_size=4,
        sampler=PICKS,
        num_workers=workers,
        multiprocessing_context=how,
        collate_fn=as_it_is,
    )


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_worker_processes_give_the_batches_that_threads_give(tmp_path: Path, how: str) -> None:
    stored = on_disk(
        tmp_path / "ds.zarr", dataset_of(9, 6, schema=schema_of(depth={"top": (8, 9)}))
    )
    chunks = chunks_of(stored, config=TrainConfig(batch_size=4))
    kept = list(loader_of(chunks, how))  # all of them, so that none may use the memory of another
    assert len(kept) == len(PICKS) // 4
    for n, batch in enumerate(kept):
        assert equal(batch, chunks.__getitems__(PICKS[4 * n : 4 * n + 4]))


def test_a_picture_of_a_batch_that_is_gone_stays_as_it_was() -> None:
    chunks = chunks_of(dataset_of(9, 6))
    pictures = [batch.images[0][3] for batch in loader_of(chunks, "fork")]
    for n, picture in enumerate(pictures):
        assert torch.equal(picture, chunks[PICKS[4 * n + 3]].images[0])


def test_workers_use_the_memory_of_batches_that_are_gone_again() -> None:
    chunks = chunks_of(dataset_of(9, 6))
    seen: set[str] = set()
    for batch in loader_of(chunks, "fork", workers=1):
        seen |= shared_memory()
        del batch
        gc.collect()
    # At most two read ahead, one in our hands and one that is being made; each has two pictures.
    assert 1 <= len(seen) <= 2 * 4


def test_a_batch_of_other_tensors_arrives_untouched() -> None:
    class Doubled(EpisodeChunks):
        def __getitems__(self, indices: list[int]) -> Batch:  # type: ignore[override]
            batch = super().__getitems__(indices)
            return Batch(
                images=tuple(torch.full_like(image, 255) for image in batch.images),
                depth=(),
                state=batch.state,
                actions=batch.actions,
                is_pad=batch.is_pad,
            )

    chunks = Doubled(
        dataset_of(9, 6), [0, 1], config=TrainConfig(batch_size=4), chunk_size=5, cameras=["top"]
    )
    for batch in loader_of(chunks, "fork", workers=1):
        assert bool((batch.images[0] == 255).all())


def shared_memory() -> set[str]:
    """Inodes of torch's shared memory that this process looks at."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if re.search(r"/torch_\d+", line)}
