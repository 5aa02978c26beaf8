from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from act_data.errors import ActError, ConflictError, DataError, InputError, NotFoundError
from act_data.stats import compute
from act_model.checkpoint import load, load_trainer, load_weights
from act_model.config import AugmentConfig, LossConfig, TrainConfig
from act_model.dataset import EpisodeChunks
from act_model.families import act as act_family
from act_model.families.act import ACT
from act_model.nn import ActCvae
from act_model.train import StepReport, TrainResult, train
from act_model.transforms import Transform
from act_model.validate import validate
from tests.model.memory_dataset import MemoryDataset, dataset_of, episode_of, schema_of

ROOT = Path(__file__).parent.parent.parent
NO_CAMERA = schema_of(cameras={})
TINY: Mapping[str, object] = {
    "chunk_size": 5,
    "hidden_dim": 16,
    "heads": 2,
    "feedforward_dim": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "style_layers": 1,
    "latent_dim": 4,
}
CONFIG = TrainConfig(steps=12, batch_size=4, lr=1e-3, val_every=4, val_starts=3)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def blind(*lengths: int, val: int = 0, seed: int = 0) -> MemoryDataset:
    """A dataset without cameras: a training step on it takes 3 ms."""
    return dataset_of(*lengths, val=val, schema=NO_CAMERA, seed=seed)


def run(
    out: Path,
    dataset: MemoryDataset | None = None,
    *,
    resume: bool = False,
    model: Mapping[str, object] = TINY,
    **changes: object,
) -> TrainResult:
    config = TrainConfig.model_validate({**CONFIG.model_dump(), **changes})
    return train(
        dataset or blind(12, 9, 7, val=1), out=out, config=config, model=model, resume=resume
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_weights(load(folder))


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines(out: Path, kind: str) -> list[dict[str, float]]:
    text = (out / "metrics.jsonl").read_text()
    return [entry for line in text.splitlines() if (entry := json.loads(line))["kind"] == kind]


# --- it learns --------------------------------------------------------------------------------


def test_an_overfitted_policy_follows_its_demonstration_within_two_percent(
    tmp_path: Path,
) -> None:
    """With pictures and z = 0, over whole chunks, each joint against its own range.

    A batch is the whole episode, so nothing but the style noise moves the loss from step to step:
    for seeds 0 to 3 the worst joint ended between 0.8 % and 1.5 %.
    """
    dataset = dataset_of(24, schema=schema_of(cameras={"top": (16, 24)}))
    model = {**TINY, "hidden_dim": 64, "heads": 4, "feedforward_dim": 128, "dropout": 0.0}
    result = run(
        tmp_path / "run", dataset, model=model,
        steps=100, batch_size=24, lr=5e-4, lr_backbone=5e-5, weight_decay=0, val_every=1000,
    )  # fmt: skip
    trained = load(result.last)
    net = ActCvae(trained.model)
    net.load_state_dict(load_weights(trained))
    chunks = EpisodeChunks(
        dataset, [0], config=trained.train, chunk_size=5, cameras=trained.model.cameras
    )
    error = validate(
        ACT,
        net,
        Transform(trained.model, trained.contract, trained.stats, trained.train),
        chunks,
        range(len(chunks)),
        names=trained.contract.action[0].names,
        device=torch.device("cpu"),
    )
    spread = np.ptp(dataset.read("action", 0), axis=0)
    shares = {
        name: value / width
        for (name, value), width in zip(error.by_action.items(), spread, strict=True)
    }
    assert len(shares) == 3
    assert max(shares.values()) < 0.02, shares


# --- the same again ---------------------------------------------------------------------------


def test_two_runs_of_one_seed_give_the_same_bits_and_another_seed_does_not(
    tmp_path: Path,
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / name, seed=seed)
    a, b, c = (weights(tmp_path / name / "last") for name in "abc")
    assert same(a, b)
    assert not same(a, c)
    assert lines(tmp_path / "a", "val")[-1]["l1"] == lines(tmp_path / "b", "val")[-1]["l1"]


def test_threads_that_read_ahead_change_no_bit(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b", workers=2)
    assert same(weights(tmp_path / "a" / "last"), weights(tmp_path / "b" / "last"))


def test_a_run_in_two_sittings_ends_at_the_same_bits(tmp_path: Path) -> None:
    """With everything that draws: dropout, style noise, augmentation, the order of samples."""
    schema = schema_of(cameras={"top": (16, 24)}, depth={"top": (16, 24)})
    dataset = dataset_of(7, 6, 5, val=1, schema=schema)
    model = {**TINY, "depth": ("top",)}
    config = {"augment": AugmentConfig(), "val_every": 10, "batch_size": 2}
    whole = run(tmp_path / "whole", dataset, steps=3, model=model, **config)
    run(tmp_path / "parts", dataset, steps=1, model=model, **config)
    parts = run(tmp_path / "parts", dataset, steps=3, model=model, resume=True, **config)
    assert same(weights(whole.last), weights(parts.last))
    assert same(load_trainer(load(whole.last)).moments, load_trainer(load(parts.last)).moments)
    assert whole.metrics == parts.metrics


TIMES = ("time", "samples_per_s", "data_wait", "s/")
KILLED_RUN = """
    import sys, torch
    from pathlib import Path
    from act_model.train import train
    from tests.model.test_train import CONFIG, TINY, blind

    torch.set_num_threads(1)
    print("ready", flush=True)
    train(
        blind(12, 9, 7, val=1), out=Path(sys.argv[1]), model=TINY,
        config=CONFIG.model_copy(update={"steps": 100_000}),
        on_step=lambda report: print(report.step, flush=True),
    )
"""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED_RUN), str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "10":
            break
    time.sleep(0.02)  # anywhere: in a step, in a validation, in a save
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL

    reached = load(tmp_path / "run" / "last").step
    assert reached >= 8
    steps = reached + 6
    killed = run(tmp_path / "run", steps=steps, resume=True)
    whole = run(tmp_path / "whole", steps=steps)
    assert same(weights(killed.last), weights(whole.last))
    assert same(load_trainer(load(killed.last)).moments, load_trainer(load(whole.last)).moments)
    for kind in ("train", "val"):
        timeless = [
            [
                {k: v for k, v in entry.items() if not k.startswith(TIMES)}
                for entry in lines(out, kind)
                if kind == "train" or entry["step"] % 4 == 0
            ]
            for out in (tmp_path / "run", tmp_path / "whole")
        ]
        assert timeless[0] == timeless[1]
    assert [entry["step"] for entry in lines(tmp_path / "run", "train")] == [*range(1, steps + 1)]


def test_ctrl_c_ends_the_step_at_hand_and_saves_it(tmp_path: Path) -> None:
    def press(report: StepReport) -> None:
        if report.step == 6:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    dataset = blind(12, 9, 7, val=1)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, out=tmp_path / "run", config=CONFIG, model=TINY, on_step=press)
    assert signal.getsignal(signal.SIGINT) == before
    assert load(tmp_path / "run" / "last").step == 7
    run(tmp_path / "run", resume=True)
    run(tmp_path / "whole")
    assert same(weights(tmp_path / "run" / "last"), weights(tmp_path / "whole" / "last"))


def test_a_finished_run_is_resumed_to_where_it_is(tmp_path: Path) -> None:
    done = run(tmp_path / "run")
    again = run(tmp_path / "run", resume=True)
    # No step was taken, so nothing was waited for.
    assert again.data_wait is None
    assert dataclasses.replace(again, notes=done.notes, data_wait=done.data_wait) == done


# --- what is kept -----------------------------------------------------------------------------


def test_metrics_tell_every_step_and_every_validation(tmp_path: Path) -> None:
    result = run(tmp_path / "run", steps=10)
    train_lines, val_lines = lines(tmp_path / "run", "train"), lines(tmp_path / "run", "val")
    assert [entry["step"] for entry in train_lines] == list(range(1, 11))
    assert [entry["step"] for entry in val_lines] == [4, 8, 10]
    first = train_lines[0]
    assert first["loss"] == pytest.approx(first["reconstruction"] + 10 * first["kl"], rel=1e-5)
    assert (first["lr"], first["lr_backbone"]) == (1e-3, 1e-5)
    assert first["samples_per_s"] > 0
    assert abs(first["time"] - time.time()) < 3600
    assert set(val_lines[0]) == {
        "kind", "step", "time", "l1", "l1@1", "l1@5",
        "l1/command/joint0", "l1/command/joint1", "l1/command/joint2",
        "l1@1/arms", "l1@5/arms", "seam/arms",
    }  # fmt: skip
    assert result.metrics["l1"] == val_lines[-1]["l1"]


def test_the_best_checkpoint_is_that_of_the_smallest_error(tmp_path: Path) -> None:
    result = run(tmp_path / "run", steps=24, lr=3e-2)  # so large that it gets worse again
    errors = {entry["step"]: entry["l1"] for entry in lines(tmp_path / "run", "val")}
    assert result.best is not None
    assert result.best_l1 == min(errors.values()) == errors[result.best_step or 0]
    assert result.checkpoint == result.best
    assert load(result.best).step == result.best_step
    assert load(result.best).metrics["l1"] == result.best_l1
    assert load(result.last).step == 24


def test_a_checkpoint_says_what_it_was_trained_on(tmp_path: Path) -> None:
    dataset = blind(12, 9, 7, val=1)
    result = run(tmp_path / "run", dataset)
    kept = load(result.last)
    assert kept.dataset.content_hash == dataset.version.content_hash
    assert (kept.dataset.train, kept.dataset.val) == (("episode-0", "episode-1"), ("episode-2",))
    assert kept.stats == compute(dataset, "train")
    assert kept.stats.episodes == 2
    assert kept.contract.action[0].name == "action"
    assert result.samples == 21


def test_without_held_out_episodes_the_result_says_so(tmp_path: Path) -> None:
    result = run(tmp_path / "run", blind(12))
    assert result.best is None
    assert result.best_l1 is None
    assert result.metrics == {}
    assert result.checkpoint == result.last == tmp_path / "run" / "last"
    assert "No episode was held out" in result.notes[0]
    assert lines(tmp_path / "run", "val") == []


def test_each_step_is_reported(tmp_path: Path) -> None:
    seen: list[StepReport] = []
    train(blind(12, 9, val=1), out=tmp_path / "run", config=CONFIG, model=TINY, on_step=seen.append)
    assert [report.step for report in seen] == list(range(1, 13))
    assert [r.step for r in seen if r.validation] == [r.step for r in seen if r.saved] == [4, 8, 12]
    assert seen[3].saved == (tmp_path / "run" / "best", tmp_path / "run" / "last")


# --- validation -------------------------------------------------------------------------------


def test_the_validation_error_is_the_distance_in_the_robots_units(tmp_path: Path) -> None:
    """A network that predicts the mean action: the error follows from the data alone."""
    dataset = blind(12, 7, val=1)
    kept = load(run(tmp_path / "run", dataset, steps=1).last)
    net = ActCvae(kept.model)
    with torch.no_grad():
        net.action_head.weight.zero_()
        net.action_head.bias.zero_()
    chunks = EpisodeChunks(dataset, [1], config=kept.train, chunk_size=5)
    error = validate(
        ACT,
        net,
        Transform(kept.model, kept.contract, kept.stats, kept.train),
        chunks,
        range(7),
        names="xyz",
        device=torch.device("cpu"),
    )
    truth = dataset.read("action", 1).astype(np.float64)
    mean = np.array(kept.stats.features["action"].mean)
    rows = [t + k for t in range(7) for k in range(5) if t + k < 7]
    by_action = np.abs(truth[rows] - mean).mean(axis=0)
    assert list(error.by_action.values()) == pytest.approx(by_action.tolist(), rel=1e-5)
    assert error.l1 == pytest.approx(by_action.mean(), rel=1e-5)
    assert error.by_horizon[1] == pytest.approx(np.abs(truth - mean).mean(), rel=1e-5)
    assert error.by_horizon[5] == pytest.approx(np.abs(truth[4:] - mean).mean(), rel=1e-5)
    assert error.starts == 7


def test_validation_is_repeatable_and_leaves_the_random_stream_alone(tmp_path: Path) -> None:
    dataset = blind(12, 9, val=1)
    kept = load(run(tmp_path / "run", dataset).last)
    net = ActCvae(kept.model)  # dropout 0.1 and a gaussian style: both must be off
    chunks = EpisodeChunks(dataset, [1], config=kept.train, chunk_size=5)
    transform = Transform(kept.model, kept.contract, kept.stats, kept.train)

    def once() -> object:
        return validate(
            ACT, net, transform, chunks, chunks.grid(4), names="xyz", device=torch.device("cpu")
        )

    state = torch.get_rng_state()
    assert once() == once()
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training


# --- refusals ---------------------------------------------------------------------------------


def test_a_resume_with_other_settings_names_each_of_them(tmp_path: Path) -> None:
    run(tmp_path / "run", steps=4)
    with pytest.raises(ConflictError) as e:
        run(tmp_path / "run", resume=True, lr=2e-3, model={**TINY, "latent_dim": 8})
    assert "train.lr was 0.001, is 0.002" in str(e.value)
    assert "model.latent_dim was 4, is 8" in str(e.value)
    assert "train.seed" not in str(e.value)


def test_a_resume_on_other_data_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "run", steps=4)
    with pytest.raises(ConflictError, match=r"dataset\.content_hash was '.*', is"):
        run(tmp_path / "run", blind(12, 9, 7, val=1, seed=5), resume=True)


def test_a_resume_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no run to resume"):
        run(tmp_path / "run", resume=True)


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path / "run", steps=4)
    before = weights(tmp_path / "run" / "last")
    with pytest.raises(ConflictError, match="it holds best, last"):
        run(tmp_path / "run", steps=8)
    assert same(weights(tmp_path / "run" / "last"), before)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be the folder of a run"):
        run(tmp_path / "file")


def test_a_run_that_died_before_its_first_checkpoint_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "run" / "last.new").mkdir(parents=True)
    (tmp_path / "run" / "metrics.jsonl").write_text('{"kind": "train", "step": 1}\n{"kin')
    run(tmp_path / "run", steps=2)
    assert [entry["step"] for entry in lines(tmp_path / "run", "train")] == [1, 2]


def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = act_family.act_loss, 0

    def seventh(*args: object) -> object:
        nonlocal calls
        calls += 1
        losses = real(*args)  # type: ignore[arg-type]
        nan = losses.total * math.nan
        # Two more come before the first step: they tell how much memory a step will take.
        return dataclasses.replace(losses, total=nan) if calls == 2 + 7 else losses

    monkeypatch.setattr(act_family, "act_loss", seventh)
    with pytest.raises(ActError, match=r"loss is nan at step 7; .*last, of step 4"):
        run(tmp_path / "run")
    assert all(torch.isfinite(w).all() for w in weights(tmp_path / "run" / "last").values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"device": "gpu7"}, "no device 'gpu7'", id="device"),
        pytest.param({"state": ("qvel",)}, "no array 'qvel'", id="state"),
        pytest.param({"state": ("qpos", "qpos")}, "names one twice", id="state-twice"),
        pytest.param(
            {"model": {**TINY, "is_pad_head": True}}, "weight of the loss is 0", id="dead-head"
        ),
        pytest.param(
            {"loss": LossConfig(is_pad_weight=1)}, "is_pad_head of the model is False", id="no-head"
        ),
        pytest.param({"model": {"hidden": 4}}, "hidden = 4", id="unknown-field"),
        pytest.param({"model": {"heads": 0}}, "heads = 0", id="field-out-of-range"),
        pytest.param({"model": {**TINY, "cameras": ("front",)}}, "no cameras front", id="camera"),
        pytest.param(
            {"model": {**TINY, "action_dim": 7}}, "action has 7 dimensions", id="action-size"
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path / "run", **changes)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_no_training_episode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no episode"):
        run(tmp_path / "run", blind(12, val=1))


def test_a_number_that_is_none_in_the_data_is_refused(tmp_path: Path) -> None:
    arrays = episode_of(NO_CAMERA, 8, 0)
    arrays["qpos"] = arrays["qpos"].copy()
    arrays["qpos"][3, 0] = np.nan
    with pytest.raises(DataError, match="'qpos' of episode 0"):
        run(tmp_path / "run", MemoryDataset(NO_CAMERA, [arrays]))


def test_statistics_of_other_data_or_of_held_out_episodes_are_refused(tmp_path: Path) -> None:
    dataset = blind(12, 9, val=1)
    for stats in (compute(blind(6)), compute(dataset, "all")):
        with pytest.raises(ConflictError, match="the statistics are of"):
            train(dataset, out=tmp_path / "run", config=CONFIG, model=TINY, stats=stats)


def test_statistics_saved_with_the_version_are_used(tmp_path: Path) -> None:
    dataset = blind(12)
    stats = compute(dataset, "train").model_copy(update={"dataset": "saved"})
    dataset.save_stats(stats)
    assert load(run(tmp_path / "run", dataset, steps=1).last).stats.dataset == "saved"
