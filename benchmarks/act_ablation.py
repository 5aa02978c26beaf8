"""Which of ACT's mended defects matter: each is put back alone, and the robot is let loose.

    python benchmarks/act_ablation.py --work ablation/ --jobs 2    # 5 seeds of every row
    python benchmarks/act_ablation.py --quick                      # a few steps, for the tests

The task (`ablation/world.py`) gives every defect a chance to do harm. Demonstrations are written
with the store, trained on with the trainer, and rolled out in closed loop with the policy and the
action queue of a deployment. A seed decides demonstrations, weights, batches and the scenes of the
rollout, for all rows alike: rows are compared seed by seed.

Results are lines of `results.jsonl` in the work folder; a second call does what is missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from act_data.records import DatasetSchema, EpisodeInfo, Feature, SourceRecord  # noqa: E402
from act_data.store import open_dataset, open_writer  # noqa: E402
from act_data.types import Role, StepType, Timestep  # noqa: E402
from act_model.chunking import ActionQueue  # noqa: E402
from act_model.config import ModelConfig, TrainConfig  # noqa: E402
from act_model.dataset import Batch, EpisodeChunks  # noqa: E402
from act_model.families import NetworkInput  # noqa: E402
from act_model.nn import act_loss  # noqa: E402
from act_model.policy import Policy  # noqa: E402
from act_model.train import StepReport, train  # noqa: E402
from act_model.training_data import chunks_of  # noqa: E402
from benchmarks.ablation.defects import Defect, with_defects  # noqa: E402
from benchmarks.ablation.vision import BACKBONE, offer  # noqa: E402
from benchmarks.ablation.world import (  # noqa: E402
    CAMERAS,
    LIMIT_TICKS,
    SIDE_PX,
    TICK_S,
    World,
    demonstration,
    scene_of,
)

EXECUTE = 8  # actions of a chunk, until the next is asked for
BASE_VELOCITY = 2  # its place in the state
FIRST_SEED = 1  # with 0 the task was made
MENDED = "everything mended"
Pick = Literal["z = 0", "posterior", "last"]

# Student's t, 97.5 %, by degrees of freedom.
T975 = (0.0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True, kw_only=True)
class Amount:
    demos: int = 80
    held_out: int = 10
    steps: int = 800
    batch_size: int = 24
    validations: int = 10
    episodes: int = 100
    chunk: int = 16
    hidden: int = 48


QUICK = Amount(demos=5, held_out=1, steps=4, batch_size=4, validations=2, episodes=2, hidden=16)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to train, and which of its checkpoints is rolled out.

    Attributes:
        model: Fields of the network that differ from those of `MENDED`; `train`: of the run.
        pick: The checkpoint of the smallest error on held-out episodes at z = 0, or of the
            smallest loss that sees their actions (one random start each), or the last one.
        vq_prior: Of the rollout alone.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    defects: tuple[Defect, ...] = ()
    train: Mapping[str, Any] = field(default_factory=dict)
    pick: Pick = "z = 0"
    vq_prior: str = "argmax"


ORIGINAL_DECODER = {"decoder_layers": 1, "decoder_start": "zeros"}
ROWS: dict[str, Row] = {
    MENDED: Row(),
    "untrained: 1 step": Row(train={"steps": 1, "val_every": 1, "warmup": 0}),
    "decoder: 1 layer": Row(model={"decoder_layers": 1}),
    "decoder: 2 layers": Row(model={"decoder_layers": 2}),
    "decoder: 7 layers, all used": Row(model={"decoder_layers": 7}),
    # Seven layers of which the first is used are one layer, and six that nothing reads.
    "decoder: the first of 7, as published": Row(model=ORIGINAL_DECODER),
    "decoder: starts from zeros": Row(model={"decoder_start": "zeros"}),
    "tokens: actions never read each other": Row(defects=("actions apart",)),
    "cameras: no code": Row(defects=("no camera code",)),
    "cameras: no code, a backbone each": Row(
        model={"backbone_per_camera": True}, defects=("no camera code",)
    ),
    "padding: mean over it": Row(defects=("mean over padding",)),
    "base: velocity never hidden": Row(model={"state_dropout": 0.0}),
    "latent: none": Row(model={"latent": "none"}),
    "latent: VQ, likeliest of the prior": Row(model={"latent": "vq"}),
    "latent: VQ, drawn from the prior": Row(model={"latent": "vq"}, vq_prior="sample"),
    "checkpoint: smallest posterior loss": Row(pick="posterior"),
    "checkpoint: the last": Row(pick="last"),
    "everything as published": Row(
        model={**ORIGINAL_DECODER, "state_dropout": 0.0},
        defects=("no camera code", "mean over padding"),
        pick="posterior",
    ),
}
# Alternatives from cheap to dear (in computation, then in what has to be set up).
CHOICES = {
    "decoder_layers": (
        "decoder: 1 layer",
        "decoder: 2 layers",
        MENDED,
        "decoder: 7 layers, all used",
    ),
    "decoder_start": ("decoder: starts from zeros", MENDED),
    "latent": (
        "latent: none",
        MENDED,
        "latent: VQ, likeliest of the prior",
        "latent: VQ, drawn from the prior",
    ),
    "state_dropout": ("base: velocity never hidden", MENDED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("act_ablation"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each [1]")
    parser.add_argument("--only", action="append", choices=list(ROWS), help="this row; repeatable")
    parser.add_argument("--quick", action="store_true", help="a few steps of every row, one seed")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    names = options.only or list(ROWS)
    if options.quick:
        with TemporaryDirectory() as scratch:
            results = measured(Path(scratch), QUICK, names, seeds=1, jobs=0)
    else:
        results = measured(options.work, Amount(), names, options.seeds, options.jobs)
    rows = table(results)
    if options.json:
        print(json.dumps({"rows": rows, "choices": choices(results)}))
        return
    show(rows)
    for what, winner in choices(results).items():
        print(f"{what}: {winner}")


# --- running ------------------------------------------------------------------------------------


def measured(
    work: Path, amount: Amount, names: Sequence[str], seeds: int, jobs: int
) -> list[dict[str, Any]]:
    """What is in `results.jsonl` about `names`, after what was missing there has been done."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / "results.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if any(line["amount"] != asdict(amount) for line in done):
        sys.exit(f"{file} holds results of other amounts: name another --work")
    have = {(line["row"], line["seed"]) for line in done}
    tasks = [
        (work, amount, seed, tuple(n for n in group if (n, seed) not in have))
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)  # seed by seed: an interrupted run has whole pairs
        for group in by_training(names)
    ]
    tasks = [task for task in tasks if task[3]]
    for _, _, seed, _ in tasks:
        demonstrations(work, amount, seed)
    with file.open("a", encoding="utf-8") as out:
        for lines in each(tasks, jobs):
            for line in lines:
                out.write(json.dumps(line) + "\n")
                done.append(line)
            out.flush()
    return [line for line in done if line["row"] in names and line["seed"] < FIRST_SEED + seeds]


def by_training(names: Sequence[str]) -> list[list[str]]:
    """Rows that roll out one and the same training, together."""
    groups: dict[str, list[str]] = {}
    for name in names:
        row = ROWS[name]
        groups.setdefault(repr((row.model, row.train, row.defects)), []).append(name)
    return list(groups.values())


def each(
    tasks: Sequence[tuple[Path, Amount, int, tuple[str, ...]]], jobs: int
) -> Iterator[list[dict[str, Any]]]:
    if not jobs:
        for task in tasks:
            yield run(*task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for number, lines in enumerate(pool.map(run, *zip(*tasks, strict=True)) if tasks else ()):
            for line in lines:
                print(
                    f"{number + 1}/{len(tasks)} seed {line['seed']} {line['row']}: "
                    f"{line['success']:.0%}, {line['train_s']:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
            yield lines


def run(work: Path, amount: Amount, seed: int, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Train what the rows `names` have in common, and roll out the checkpoint of each."""
    torch.set_num_threads(1)
    offer(work / "backbone")
    os.environ["ACT_REGISTRY"] = str(work / "registry.db")
    row = ROWS[names[0]]
    reader = open_dataset(work / f"seed-{seed}.zarr")
    config = TrainConfig.model_validate({**training(amount, seed), **row.train})
    with TemporaryDirectory(dir=work) as scratch:
        out = Path(scratch, "run")
        chooser = Chooser(out, chunks_for(reader, config, amount), seed)
        began = time.process_time()
        with with_defects(*row.defects):
            train(
                reader,
                out=out,
                config=config,
                model={**network(amount), **row.model},
                on_step=chooser.on_step,
            )
        took = time.process_time() - began
        return [
            {
                "row": name,
                "seed": seed,
                "amount": asdict(amount),
                "l1": chooser.l1[ROWS[name].pick],
                "step": chooser.step[ROWS[name].pick],
                "train_s": took,
                **rolled_out(chooser.folder(ROWS[name].pick), ROWS[name], amount, seed),
            }
            for name in names
        ]


def network(amount: Amount) -> dict[str, Any]:
    """That of `MENDED`."""
    return {
        "chunk_size": amount.chunk,
        "backbone": BACKBONE,
        "hidden_dim": amount.hidden,
        "heads": 4,
        "feedforward_dim": 2 * amount.hidden,
        "encoder_layers": 2,
        "decoder_layers": 4,
        "style_layers": 1,
        "latent_dim": 8,
        "vq_classes": 4,
        "vq_codes": 4,
        "dropout": 0.0,
        "state_dropout": 0.5,
        "state_dropout_dims": (BASE_VELOCITY,),
    }


def training(amount: Amount, seed: int) -> dict[str, Any]:
    """That of every row but for what it changes."""
    return {
        "state": ("qpos", "base_vel"),
        "action": ("action", "base_action"),
        "steps": amount.steps,
        "batch_size": amount.batch_size,
        "lr": 1e-3,
        "lr_backbone": 1e-3,
        "warmup": amount.steps // 20,
        "schedule": "cosine",
        "val_every": amount.steps // amount.validations,
        "seed": seed,
        "device": "cpu",
    }


def chunks_for(reader: Any, config: TrainConfig, amount: Amount) -> EpisodeChunks:
    shapes = {"state_dim": 3, "action_dim": 3, "cameras": CAMERAS}
    model = ModelConfig(**shapes, image_size=(SIDE_PX, SIDE_PX), chunk_size=amount.chunk)
    return chunks_of(reader, "val", config, model)


class Chooser:
    """Keeps, beside the trainer's `best` and `last`, the checkpoint that the original would keep.

    That is the one of the smallest validation loss with a style drawn from an encoder that sees the
    held-out actions, at one new random start per held-out episode.
    """

    def __init__(self, out: Path, held_out: EpisodeChunks, seed: int) -> None:
        self.l1: dict[Pick, float] = {}
        self.step: dict[Pick, int] = {}
        self._out, self._chunks, self._seed = out, held_out, seed
        self._smallest: dict[Pick, float] = {}

    def folder(self, pick: Pick) -> Path:
        return self._out / {"z = 0": "best", "posterior": "posterior", "last": "last"}[pick]

    def on_step(self, report: StepReport) -> None:
        if report.validation is None:
            return
        state = torch.get_rng_state()
        l1 = report.validation.l1
        posterior = self._posterior_loss(report.step)
        if self._better("posterior", posterior, l1, report.step):
            shutil.rmtree(self.folder("posterior"), ignore_errors=True)
            shutil.copytree(self.folder("last"), self.folder("posterior"))
        self._better("z = 0", l1, l1, report.step)
        self.l1["last"], self.step["last"] = l1, report.step
        torch.set_rng_state(state)

    def _better(self, pick: Pick, value: float, l1: float, step: int) -> bool:
        if value >= self._smallest.get(pick, np.inf):
            return False
        self._smallest[pick], self.l1[pick], self.step[pick] = value, l1, step
        return True

    def _posterior_loss(self, step: int) -> float:
        rng = np.random.default_rng((self._seed, step))
        torch.manual_seed(int(rng.integers(2**31)))
        policy = Policy.load(self._out / "last", "cpu")
        episodes: dict[int, list[int]] = {}
        for index in range(len(self._chunks)):
            episodes.setdefault(self._chunks.place(index)[0], []).append(index)
        starts = np.array([rng.choice(indices) for indices in episodes.values()])
        batch = self._chunks.__getitems__(starts)
        net, transform = policy.network.train(), policy.transform  # in training a style is drawn
        net.config = net.config.model_copy(update={"state_dropout": 0.0})  # type: ignore[union-attr, operator]
        seen = NetworkInput(
            images=transform.images(batch.images), state=transform.state(batch.state), depth=None
        )
        actions_BKA = transform.action(batch.actions)
        with torch.no_grad():
            output = net(seen.images, seen.state, actions_BKA, batch.is_pad)
            loss = act_loss(output, actions_BKA, batch.is_pad, policy.checkpoint.train.loss)
        return float(loss.total)


# --- the robot ----------------------------------------------------------------------------------


def rolled_out(folder: Path, row: Row, amount: Amount, seed: int) -> dict[str, float]:
    """Shares of fresh scenes, and how they end. All scenes are at the same tick, for speed."""
    policy = Policy.load(folder, "cpu")
    if row.vq_prior != "argmax":
        assert isinstance(policy.checkpoint.model, ModelConfig)
        policy.network.config = policy.checkpoint.model.model_copy(
            update={"vq_prior": row.vq_prior}
        )
    torch.manual_seed(seed)
    rngs = [np.random.default_rng((seed, 1, i)) for i in range(amount.episodes)]
    worlds = [World(scene_of(rng), rng) for rng in rngs]
    queues = [ActionQueue(amount.chunk, 3, execute=EXECUTE) for _ in worlds]
    running = list(range(len(worlds)))
    for tick in range(LIMIT_TICKS):
        if not running:
            break
        asking = [i for i in running if queues[i].wants(tick)]
        if asking:
            chunks = policy.predict_batch(seen_by(policy, [worlds[i] for i in asking], amount))
            for i, chunk in zip(asking, chunks, strict=True):
                queues[i].add(tick, chunk)
        for i in running:
            action = queues[i].next(tick)
            assert action is not None
            worlds[i].act(action[:2].astype(np.float64), float(action[2]))
        running = [i for i in running if worlds[i].held < 3 and not worlds[i].collided]
    return {
        "success": mean(world.succeeded for world in worlds),
        "collided": mean(world.collided for world in worlds),
        "not_there": mean(abs(world.to_go) > 0.1 and not world.collided for world in worlds),
        "wrong_side": mean(
            world.tool[1] * world.scene.object[1] < 0 and abs(world.tool[1]) > 0.1
            for world in worlds
        ),
    }


def seen_by(policy: Policy, worlds: Sequence[World], amount: Amount) -> Batch:
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


def demonstrations(work: Path, amount: Amount, seed: int) -> None:
    """The dataset of `seed`, unless it is there."""
    path = work / f"seed-{seed}.zarr"
    if path.exists():
        return
    rng = np.random.default_rng((seed, 0))
    none = np.zeros(0, np.int64)
    uids = [f"demo-{number}" for number in range(amount.demos)]
    made = path.with_suffix(".making.zarr")
    shutil.rmtree(made, ignore_errors=True)
    with open_writer(made, schema()) as writer:
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


def schema() -> DatasetSchema:
    def vector(name: str, role: Role, unit: str, names: tuple[str, ...]) -> Feature:
        shape = (len(names),)
        return Feature(name=name, role=role, dtype="float32", shape=shape, unit=unit, names=names)

    return DatasetSchema(
        robot="ablation",
        fps=1 / TICK_S,
        features=(
            vector("qpos", Role.OBSERVATION, "m", ("tool/ahead", "tool/left")),
            vector("base_vel", Role.OBSERVATION, "m/s", ("base/linear",)),
            *(
                Feature(
                    name=f"images/{camera}",
                    role=Role.OBSERVATION,
                    dtype="uint8",
                    shape=(SIDE_PX, SIDE_PX, 3),
                    codec="raw",
                )
                for camera in CAMERAS
            ),
            vector("action", Role.ACTION, "m", ("tool/ahead", "tool/left")),
            vector("base_action", Role.ACTION, "m/s", ("base/linear",)),
            Feature(name="timestamp", role=Role.SYNC, dtype="int64", shape=(), unit="ns"),
        ),
    )


# --- what it says -------------------------------------------------------------------------------


def table(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds; differences to `MENDED` by seed, with their 95 % interval."""
    rows = []
    for name in ROWS:
        mine = by_seed(results, name)
        if not mine:
            continue
        row: dict[str, Any] = {"name": name, "seeds": len(mine)}
        for what in ("success", "l1", "collided", "not_there", "wrong_side", "step", "train_s"):
            row[what], row[f"{what}_pm"] = interval([line[what] for line in mine.values()])
        for what in ("success", "l1"):
            row[f"{what}_change"], row[f"{what}_change_pm"] = compared(results, name, MENDED, what)
        rows.append(row)
    return rows


def choices(results: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Of every default: the cheapest row that is not worse than the best one beyond the interval.

    That interval is the 95 % one of their difference in success, seed by seed.
    """
    found = {}
    for what, names in CHOICES.items():
        there = [name for name in names if by_seed(results, name)]
        if len(there) < len(names):
            continue
        success = {n: mean(r["success"] for r in by_seed(results, n).values()) for n in names}
        best = max(names, key=lambda name: success[name])
        for name in names:
            change, within = compared(results, name, best, "success")
            if name == best or change + within >= 0:
                found[what] = name
                break
    return found


def compared(
    results: Sequence[dict[str, Any]], name: str, other: str, what: str
) -> tuple[float, float]:
    mine, theirs = by_seed(results, name), by_seed(results, other)
    both = sorted(mine.keys() & theirs.keys())
    return interval([mine[seed][what] - theirs[seed][what] for seed in both])


def by_seed(results: Sequence[dict[str, Any]], name: str) -> dict[int, dict[str, Any]]:
    return {line["seed"]: line for line in results if line["row"] == name}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student; 0 where a single value has none."""
    if len(values) < 2:
        return mean(values), 0.0
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean(values), T975[min(len(values) - 1, len(T975) - 1)] * spread


def mean(values: Any) -> float:
    numbers: NDArray[np.float64] = np.array(list(values), np.float64)
    return float(numbers.mean()) if len(numbers) else float("nan")


def show(rows: Sequence[dict[str, Any]]) -> None:
    print(
        f"{'row':40}{'seeds':>6}{'success %':>13}{'change':>13}{'error x1000':>15}{'change':>15}"
        f"{'hit post':>10}{'not there':>11}{'wrong side':>12}{'s':>6}"
    )
    for row in rows:
        print(
            f"{row['name']:40}{row['seeds']:6}"
            f"{100 * row['success']:8.1f} ±{100 * row['success_pm']:4.1f}"
            f"{100 * row['success_change']:+8.1f} ±{100 * row['success_change_pm']:4.1f}"
            f"{1e3 * row['l1']:9.2f} ±{1e3 * row['l1_pm']:5.2f}"
            f"{1e3 * row['l1_change']:+9.2f} ±{1e3 * row['l1_change_pm']:5.2f}"
            f"{row['collided']:10.0%}{row['not_there']:11.0%}{row['wrong_side']:12.0%}"
            f"{row['train_s']:6.0f}"
        )


if __name__ == "__main__":
    main()
