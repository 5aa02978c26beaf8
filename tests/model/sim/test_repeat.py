"""What `make demo` rests on: the same seed gives the same weights and the same successes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from act_model.recipe import TrainRequest, train
from act_model.sim.records import Trial
from act_model.sim.rollouts import SimRequest, evaluate_in_sim
from tests.model.sim.conftest import ingested

CONFIG = Path(__file__).parents[3] / "examples" / "sim_state.yaml"


def learned(dataset: Path, out: Path, seed: int) -> tuple[str, list[Trial], list[float | None]]:
    """Digest of the weights, and what came of them in closed loop."""
    report = train(
        TrainRequest(dataset=str(dataset), out=out, config=CONFIG, size="tiny", steps=3, seed=seed)
    )
    folder = Path(report.checkpoint)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    found = evaluate_in_sim(
        SimRequest(
            checkpoint=folder,
            task="transfer_cube",
            episodes=2,
            ticks=25,
            chunks=("ensemble",),
        )
    )
    return digest, [r.trial for r in found.conditions[0].rollouts], [report.best_l1]


def test_the_same_seed_twice_gives_the_same_weights_and_the_same_successes(
    tmp_path: Path,
) -> None:
    dataset = ingested(tmp_path)
    first, again = (learned(dataset, tmp_path / n, seed=0) for n in ("first", "again"))
    assert first == again
    other = learned(dataset, tmp_path / "other", seed=1)
    assert other[0] != first[0], "and another seed others"
