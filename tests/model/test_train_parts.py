"""A step is the same in one piece, in parts, in several processes, and after any kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from act_data.errors import InputError
from act_model.checkpoint import load, load_trainer, load_weights
from act_model.config import TrainConfig
from act_model.ranks import Ranks
from act_model.step import rate_factor
from act_model.train import TrainResult, train
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.small_policy import TINY
from tests.model.torchrun_run import run as run_parts

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def blind_run(out: Path, *, resume: bool = False, val: int = 1, **changes: object) -> TrainResult:
    config = {"steps": 12, "batch_size": 4, "lr": 1e-3, "val_every": 4, "val_starts": 3}
    return train(
        dataset_of(12, 9, 7, val=val, schema=schema_of(cameras={})),
        out=out,
        config=TrainConfig.model_validate({**config, **changes}),
        model={**TINY["act"], "chunk_size": 5},
        resume=resume,
    )


def seen_run(out: Path, *, steps: int = 4, resume: bool = False, **changes: object) -> TrainResult:
    """With pictures: convolutions, the only weights that know an order of channels."""
    config = {"steps": steps, "batch_size": 2, "lr": 1e-3, "val_every": 2, "val_starts": 2}
    return train(
        dataset_of(8, 6, val=1, schema=schema_of(cameras={"top": (16, 24)})),
        out=out,
        config=TrainConfig.model_validate({**config, **changes}),
        model={**TINY["act"], "chunk_size": 4},
        resume=resume,
    )


def all_of(folder: Path) -> dict[str, torch.Tensor]:
    """Weights and the optimiser's tensors."""
    kept = load(folder)
    return {**load_weights(kept), **load_trainer(kept).moments}


def assert_same(a: Path, b: Path) -> None:
    ours, theirs = all_of(a), all_of(b)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def assert_close(a: Path, b: Path) -> None:
    ours, theirs = load_weights(load(a)), load_weights(load(b))
    assert max(float((ours[n] - theirs[n]).abs().max()) for n in ours) <= 1e-6


def lines(out: Path, kind: str) -> list[dict[str, float]]:
    text = (out / "metrics.jsonl").read_text()
    return [entry for line in text.splitlines() if (entry := json.loads(line))["kind"] == kind]


# --- kills ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["act", "diffusion"])
def test_a_run_that_is_killed_at_five_random_steps_ends_at_the_same_bits(
    policy: str, tmp_path: Path
) -> None:
    """With average, warm-up, cosine, augmentation, dropout and threads that read ahead.

    A kill throws away what came after the last checkpoint, so a run may be killed twice at a step.
    """
    steps = 20
    kills = np.sort(np.random.default_rng(len(policy)).integers(1, steps, 5))
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.killed_runs", tmp_path, policy, str(steps)]
        + [str(kill) for kill in kills],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "whole" / "last", tmp_path / "killed" / "last")
    assert_same_best = [load_weights(load(tmp_path / run / "best")) for run in ("whole", "killed")]
    assert all(torch.equal(assert_same_best[0][n], w) for n, w in assert_same_best[1].items())
    val = [[{**e, "time": 0} for e in lines(tmp_path / r, "val")] for r in ("whole", "killed")]
    assert val[0] == val[1]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"precision": "bf16"}, id="bf16"),
        pytest.param({"precision": "fp16"}, id="fp16"),
        pytest.param({"channels_last": True}, id="channels-last"),
        pytest.param({"parts": 2, "ema": 0.9, "channels_last": True}, id="parts-ema"),
    ],
)
def test_a_run_in_two_sittings_ends_at_the_same_bits(
    changes: dict[str, object], tmp_path: Path
) -> None:
    seen_run(tmp_path / "whole", **changes)
    seen_run(tmp_path / "parts", steps=2, **changes)
    seen_run(tmp_path / "parts", resume=True, **changes)
    assert_same(tmp_path / "whole" / "last", tmp_path / "parts" / "last")
    assert (
        load_trainer(load(tmp_path / "whole" / "last")).record
        == load_trainer(load(tmp_path / "parts" / "last")).record
    )


# --- parts and processes ----------------------------------------------------------------------


def test_a_batch_in_parts_is_the_batch(tmp_path: Path) -> None:
    """The parts hold padding to different shares: a mean of means would be another loss."""
    whole, halves = (run_parts(tmp_path / f"{n}", n, False) for n in (1, 2))
    assert_close(whole.last, halves.last)
    losses = [[e["loss"] for e in lines(tmp_path / n, "train")] for n in ("1", "2")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("parts_alone", "noise"),
    [pytest.param(1, False, id="without-noise"), pytest.param(2, True, id="everything-that-draws")],
)
def test_two_processes_end_where_one_does(parts_alone: int, noise: bool, tmp_path: Path) -> None:
    alone = run_parts(tmp_path / "alone", parts_alone, noise)
    done = torchrun(tmp_path, "2", "noise" if noise else "still")
    assert done.returncode == 0, done.stderr
    assert_close(alone.last, tmp_path / "run" / "last")
    errors = [float((tmp_path / f"rank-{rank}").read_text()) for rank in (0, 1)]
    assert errors[0] == errors[1] == pytest.approx(alone.metrics["l1"], rel=1e-5)
    # One of them wrote: every line of the metrics is there once.
    assert [e["step"] for e in lines(tmp_path / "run", "train")] == [1, 2, 3, 4]


def test_a_process_that_fails_ends_all_of_them(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "2", "still", "fail")
    assert done.returncode != 0
    assert "the first rank fails" in done.stderr
    assert not (tmp_path / "rank-1").exists()


def torchrun(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, "-m", "tests.model.torchrun_run", str(folder), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_parts_that_cannot_be_shared_out_are_refused(tmp_path: Path) -> None:
    assert [list(Ranks(rank, 2).mine(4)) for rank in (0, 1)] == [[0, 1], [2, 3]]
    with pytest.raises(InputError, match="in 3 parts cannot be shared out to 2") as caught:
        Ranks(0, 2).mine(3)
    assert "multiple of 2" in caught.value.hint
    with pytest.raises(InputError, match="batch of 4 samples has no 3 parts of one size"):
        blind_run(tmp_path / "run", parts=3)


# --- rates, precision, ends -------------------------------------------------------------------


def test_the_rates_rise_then_fall_to_nothing(tmp_path: Path) -> None:
    config = TrainConfig(steps=12, warmup=4, schedule="cosine")
    factors = [rate_factor(config, step) for step in range(12)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[8] == pytest.approx(0.5)
    assert 0 < factors[11] < 0.05
    assert [rate_factor(TrainConfig(warmup=2), s) for s in (0, 1, 2, 99)] == [0.5, 1, 1, 1]
    blind_run(tmp_path / "run", warmup=4, schedule="cosine")
    short = TrainConfig(steps=3, warmup=4, schedule="cosine")
    assert [rate_factor(short, step) for step in range(3)] == [0.25, 0.5, 0.75]
    logged = [entry["lr"] for entry in lines(tmp_path / "run", "train")]
    assert logged == pytest.approx([1e-3 * factor for factor in factors])


def test_half_precision_trains_nearly_as_single_does_and_keeps_single_weights(
    tmp_path: Path,
) -> None:
    runs = {kind: seen_run(tmp_path / kind, precision=kind) for kind in ("fp32", "bf16", "fp16")}
    first = {kind: lines(tmp_path / kind, "train")[0]["reconstruction"] for kind in runs}
    for kind in ("bf16", "fp16"):
        assert first[kind] != first["fp32"]  # it really is another arithmetic
        assert first[kind] == pytest.approx(first["fp32"], rel=0.03)
        assert {w.dtype for w in load_weights(load(runs[kind].last)).values()} == {torch.float32}
    assert load_trainer(load(runs["fp16"].last)).record.scale is not None
    assert load_trainer(load(runs["bf16"].last)).record.scale is None


def test_channels_last_changes_the_order_in_memory_and_not_the_numbers(tmp_path: Path) -> None:
    plain, last = (seen_run(tmp_path / str(c), channels_last=c, steps=2) for c in (False, True))
    a, b = load_weights(load(plain.last)), load_weights(load(last.last))
    assert max(float((a[n] - b[n]).abs().max()) for n in a) < 1e-4


def test_a_run_ends_when_validations_get_no_better_and_stays_ended(tmp_path: Path) -> None:
    result = blind_run(tmp_path / "run", steps=400, val_every=2, patience=3, lr=3e-2)
    assert result.best_step is not None
    assert result.steps == result.best_step + 6 < 400
    assert "3 validations in a row were no better" in result.notes[0]
    again = blind_run(
        tmp_path / "run", steps=400, val_every=2, patience=3, lr=3e-2, resume=True
    )  # fmt: skip
    assert again.steps == result.steps


def test_patience_without_held_out_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no episode is held out"):
        blind_run(tmp_path / "run", patience=2, val=0)
    assert not (tmp_path / "run").exists()
