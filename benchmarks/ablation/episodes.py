"""Demonstrations of the small world as a dataset, and a policy let loose in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from act_data.records import DatasetSchema, EpisodeInfo, Feature, SourceRecord
from act_data.store import open_writer
from act_data.types import Role, StepType, Timestep
from act_model.chunking import ActionQueue
from act_model.dataset import Batch
from act_model.policy import Policy
from benchmarks.ablation.rows import Amount
from benchmarks.ablation.world import (
    CAMERAS,
    HELD_TICKS,
    LIMIT_TICKS,
    SIDE_PX,
    TICK_S,
    World,
    demonstration,
    scene_of,
)

EXECUTE = 8  # actions of a chunk, until the next is asked for


def dataset(path: Path, amount: Amount, seed: int) -> None:
    """Write that of `seed` to `path`, unless it is there."""
    if path.exists():
        return
    rng = np.random.default_rng((seed, 0))
    none = np.zeros(0, np.int64)
    uids = [f"demo-{number}" for number in range(amount.demos)]
    made = path.with_suffix(".making.zarr")
    shutil.rmtree(made, ignore_errors=True)
    with open_writer(made, _schema()) as writer:
        for number, uid in enumerate(uids):
            episode = writer.episode(uid)
            steps = demonstration(scene_of(rng), rng, left=number % 3 != 2)
            for tick, (world, action) in enumerate(steps):
                episode.record(
                    Timestep(
                        step_type=StepType.FIRST if tick == 0 else StepType.MID,
                        tick_ns=tick * round(TICK_S * 1e9),
                        observation=world.observe(),
                        action=action,
                        skew_ns=none,
                        reason=none.astype(np.uint8),
                        index=none,
                    )
                )
            source = SourceRecord(name=uid, kind="memory", sha256="0" * 64)
            episode.finish(EpisodeInfo(source=source))
        held_out = set(uids[-amount.held_out :])
        writer.commit(uids, splits={u: "val" if u in held_out else "train" for u in uids})
    made.rename(path)


def rolled_out(policy: Policy, amount: Amount, seed: int) -> dict[str, float]:
    """Shares of fresh scenes, by how they ended.

    All episodes go on together, so that one prediction serves many of them.
    """
    torch.manual_seed(seed)  # a prior may draw
    rngs = [np.random.default_rng((seed, 1, i)) for i in range(amount.episodes)]
    worlds = [World(scene_of(rng), rng) for rng in rngs]
    queues = [ActionQueue(amount.chunk, 3, execute=EXECUTE) for _ in worlds]
    running = list(range(len(worlds)))
    for tick in range(LIMIT_TICKS):
        asking = [i for i in running if queues[i].wants(tick)]
        if asking:
            chunks = policy.predict_batch(_seen(policy, [worlds[i] for i in asking], amount))
            for i, chunk in zip(asking, chunks, strict=True):
                queues[i].add(tick, chunk)
        for i in running:
            action = queues[i].next(tick)
            assert action is not None
            worlds[i].act(action[:2].astype(np.float64), float(action[2]))
        running = [i for i in running if worlds[i].held < HELD_TICKS and not worlds[i].collided]
    return {
        "success": _share(world.succeeded for world in worlds),
        "collided": _share(world.collided for world in worlds),
        "not_there": _share(abs(w.to_go) > 0.1 and not w.collided for w in worlds),
        "wrong_side": _share(
            w.tool[1] * w.scene.object[1] < 0 and abs(w.tool[1]) > 0.1 for w in worlds
        ),
    }


def _share(those: Iterable[object]) -> float:
    return float(np.mean([bool(each) for each in those]))


def _seen(policy: Policy, worlds: Sequence[World], amount: Amount) -> Batch:
    seen = [world.observe() for world in worlds]

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([observation[name] for observation in seen]))

    return Batch(
        images=tuple(stacked(f"images/{camera.name}") for camera in policy.contract.cameras),
        depth=(),
        state=torch.cat([stacked(vector.name) for vector in policy.contract.state], dim=1),
        actions=torch.zeros(len(seen), amount.chunk, 3),
        is_pad=torch.zeros(len(seen), amount.chunk, dtype=torch.bool),
    )


def _schema() -> DatasetSchema:
    def vector(name: str, role: Role, unit: str, *names: str) -> Feature:
        shape = (len(names),)
        return Feature(name=name, role=role, dtype="float32", shape=shape, unit=unit, names=names)

    def camera(name: str) -> Feature:
        shape = (SIDE_PX, SIDE_PX, 3)
        return Feature(
            name=f"images/{name}", role=Role.OBSERVATION, dtype="uint8", shape=shape, codec="raw"
        )

    return DatasetSchema(
        robot="ablation",
        fps=1 / TICK_S,
        features=(
            vector("qpos", Role.OBSERVATION, "m", "tool/ahead", "tool/left"),
            vector("base_vel", Role.OBSERVATION, "m/s", "base/linear"),
            *(camera(name) for name in CAMERAS),
            vector("action", Role.ACTION, "m", "tool/ahead", "tool/left"),
            vector("base_action", Role.ACTION, "m/s", "base/linear"),
            Feature(name="timestamp", role=Role.SYNC, dtype="int64", shape=(), unit="ns"),
        ),
    )
