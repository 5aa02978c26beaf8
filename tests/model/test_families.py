"""Families of policies: what each must do, and that a further one is a file and a line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from act_data.errors import InputError, StoreError
from act_model import recipe
from act_model.checkpoint import load, load_trainer, load_weights
from act_model.config import LossConfig, NetworkConfig, TrainConfig
from act_model.evaluate import evaluate
from act_model.families import (
    FAMILIES,
    Family,
    NetworkInput,
    Objective,
    Prediction,
    Size,
    family_of,
)
from act_model.families.diffusion import DIFFUSION
from act_model.families.diffusion.network import Denoiser
from act_model.networks import NETWORKS, DiffusionConfig
from act_model.policy import Policy
from act_model.recipe import TrainRequest
from act_model.train import TrainResult, train
from tests.model import small_policy
from tests.model.memory_dataset import MemoryDataset, dataset_of, schema_of

K = 5
TINY = {**small_policy.TINY, "linear": {}}


class LinearConfig(NetworkConfig):
    policy: Literal["linear"] = "linear"


class Linear(nn.Module):
    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        self.shape = (config.chunk_size, config.action_dim)
        self.map = nn.Linear(config.state_dim, config.chunk_size * config.action_dim)

    def forward(self, state_BS: Tensor) -> Tensor:
        actions_BKA: Tensor = self.map(state_BS).unflatten(1, self.shape)
        return actions_BKA


def linear_objective(
    net: Linear, seen: NetworkInput, actions_BKA: Tensor, is_pad_BK: Tensor, config: LossConfig
) -> Objective:
    error_BKA = (net(seen.state) - actions_BKA)[~is_pad_BK]
    loss = error_BKA.square().mean()
    return Objective(total=loss, masked=loss, parts={"squared": loss})


LINEAR = Family(
    name="linear",
    config=LinearConfig,
    build=Linear,
    objective=linear_objective,
    predict=lambda net, seen: Prediction(actions_BKA=net(seen.state)),
    sizes={"only": Size(model={}, lr=0.25, lr_backbone=0.125)},
    train={"normalise": "unit"},
)


@pytest.fixture(autouse=True)
def _linear_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setitem(FAMILIES, "linear", LINEAR)
    monkeypatch.setitem(NETWORKS, "linear", LINEAR.config)


@pytest.fixture
def dataset() -> MemoryDataset:
    return dataset_of(12, 9, 7, val=1, schema=schema_of(cameras={"top": (32, 48)}))


def run(
    out: Path, dataset: MemoryDataset, policy: str, *, resume: bool = False, **changes: object
) -> TrainResult:
    config = {"steps": 4, "batch_size": 2, "val_every": 2, "val_starts": 2, "lr": 1e-3}
    return train(
        dataset,
        out=out,
        config=TrainConfig.model_validate({**config, **FAMILIES[policy].train, **changes}),
        model={**TINY[policy], "policy": policy, "chunk_size": K},
        resume=resume,
    )


@pytest.mark.parametrize("policy", [*TINY])
def test_a_family_is_trained_kept_loaded_evaluated_and_deployed(
    policy: str, dataset: MemoryDataset, tmp_path: Path
) -> None:
    result = run(tmp_path / "run", dataset, policy)
    assert json.loads((result.last / "config.json").read_text())["model"]["policy"] == policy
    loaded = Policy.load(result.checkpoint, "cpu")
    assert loaded.family is FAMILIES[policy]
    report = evaluate(loaded, dataset, starts=2)  # replays through the deploy loop, too
    rollout = report.replays[0].rollout
    assert (rollout.ticks, rollout.compared_ticks, rollout.rejected_chunks) == (7, 7, 0)
    assert report.held_out is True
    # The same grid and the same network as in the run's last validation: the same error.
    error = evaluate(Policy.load(result.last, "cpu"), dataset, starts=2).horizons[0].mean
    assert np.mean(error) == pytest.approx(result.metrics["l1@1"], rel=1e-5)


@pytest.mark.parametrize("policy", [*TINY])
def test_a_family_predicts_the_same_for_an_observation_whoever_else_is_in_the_batch(
    policy: str, dataset: MemoryDataset, tmp_path: Path
) -> None:
    loaded = Policy.load(run(tmp_path / "run", dataset, policy, steps=2).last, "cpu")
    seen = [
        {f: dataset.read(f, 0, t, t + 1)[0] for f in ("qpos", "images/top")} for t in (0, 5)
    ]  # fmt: skip
    alone = [loaded.predict(observation) for observation in seen]
    assert np.array_equal(loaded.predict(seen[0]), alone[0])  # after another one, too
    inputs = [loaded.inputs(observation) for observation in seen]
    both = NetworkInput(
        images=torch.cat([i.images for i in inputs]),
        state=torch.cat([i.state for i in inputs]),
        depth=None,
    )
    together, _ = loaded._predict(both)
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
    assert not np.allclose(alone[0], alone[1], atol=1e-4)


@pytest.mark.parametrize("policy", [*TINY])
def test_a_family_resumes_at_the_same_bits(
    policy: str, dataset: MemoryDataset, tmp_path: Path
) -> None:
    whole = run(tmp_path / "whole", dataset, policy, ema=0.9)
    run(tmp_path / "parts", dataset, policy, ema=0.9, steps=2)
    parts = run(tmp_path / "parts", dataset, policy, ema=0.9, resume=True)
    for a, b in (
        (load_weights(load(whole.last)), load_weights(load(parts.last))),
        (load_trainer(load(whole.last)).moments, load_trainer(load(parts.last)).moments),
    ):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert whole.metrics == parts.metrics


def test_the_kept_weights_are_the_average_and_training_goes_on_from_the_raw_ones(
    dataset: MemoryDataset, tmp_path: Path
) -> None:
    """Two steps: the warmed-up decay is 2/11, then 3/12."""
    raw = [run(tmp_path / f"{n}", dataset, "linear", steps=n).last for n in (1, 2)]
    one, two = (load_weights(load(last))["map.weight"] for last in raw)
    first = run(tmp_path / "ema-1", dataset, "linear", steps=1, ema=0.9).last
    kept = load(run(tmp_path / "ema-2", dataset, "linear", steps=2, ema=0.9).last)
    start = (load_weights(load(first))["map.weight"] - 9 / 11 * one) * 11 / 2
    average = (start * 2 / 11 + one * 9 / 11) * 3 / 12 + two * 9 / 12
    torch.testing.assert_close(load_weights(kept)["map.weight"], average, atol=1e-6, rtol=0)
    assert torch.equal(load_trainer(kept).moments["map.weight/raw"], two)


def test_the_size_and_the_defaults_are_the_familys(dataset: MemoryDataset) -> None:
    def config(**asked: object) -> TrainConfig:
        request = TrainRequest.model_validate({"dataset": "ds", **asked})
        file = recipe.ConfigFile({}, {})
        return recipe._train_config(request, file, dataset, *recipe._family(request, file))

    linear = config(policy="linear")
    assert (linear.lr, linear.lr_backbone, linear.normalise) == (0.25, 0.125, "unit")
    diffusion = config(policy="diffusion", size="small")
    assert (diffusion.lr, diffusion.normalise, diffusion.ema) == (2e-4, "symmetric", 0.999)
    assert (config().lr, config().normalise, config().ema) == (1e-5, "mean_std", 0)
    with pytest.raises(InputError, match="policy 'linear' has no size 'tiny'"):
        config(policy="linear", size="tiny")
    with pytest.raises(InputError, match="no policy 'gpt'") as caught:
        config(policy="gpt")
    assert "act, diffusion, linear" in caught.value.hint


def test_a_checkpoint_of_an_unknown_family_is_told(
    dataset: MemoryDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = run(tmp_path / "run", dataset, "linear", steps=2).last
    monkeypatch.delitem(FAMILIES, "linear")
    monkeypatch.delitem(NETWORKS, "linear")
    with pytest.raises(StoreError, match="no policy 'linear'; there are act, diffusion"):
        Policy.load(last, "cpu")


# --- diffusion --------------------------------------------------------------------------------


def denoiser(**fields: object) -> Denoiser:
    torch.manual_seed(0)
    config = {"state_dim": 3, "action_dim": 2, "chunk_size": K, **TINY["diffusion"], **fields}
    return Denoiser(DiffusionConfig.model_validate(config))


def observed(batch: int, seed: int = 0, cameras: int = 0) -> NetworkInput:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, cameras, 3, 32, 32, generator=generator)
    return NetworkInput(images=images, state=torch.randn(batch, 3, generator=generator), depth=None)


@pytest.mark.parametrize("predict", ["actions", "noise"])
def test_a_network_that_knows_the_actions_is_walked_to_them(predict: str) -> None:
    """DDIM with an oracle in the network's place ends at the oracle's actions."""
    net = denoiser(predict=predict, levels=100, steps=10)
    truth_BKA = torch.rand(3, K, 2, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    alphas = net.schedule._scheduler.alphas_cumprod

    def oracle(noisy_BKA: Tensor, levels_B: Tensor) -> Tensor:
        share = alphas[levels_B][:, None, None]
        noise_BKA = (noisy_BKA - share.sqrt() * truth_BKA) / (1 - share).sqrt()
        return net.schedule.target(truth_BKA, noise_BKA)

    walked_BKA = net.schedule.walk(torch.randn(3, K, 2), oracle)
    torch.testing.assert_close(walked_BKA, truth_BKA, atol=1e-3, rtol=0)


def test_padding_has_no_influence_on_the_denoising_loss() -> None:
    net, seen = denoiser(), observed(4)
    is_pad_BK = torch.zeros(4, K, dtype=torch.bool)
    is_pad_BK[1:, 3:] = True
    losses = []
    for fill in (0.0, 7.0, float("nan")):
        actions_BKA = torch.zeros(4, K, 2).masked_fill(is_pad_BK[..., None], fill)
        torch.manual_seed(1)
        objective = DIFFUSION.objective(net, seen, actions_BKA, is_pad_BK, LossConfig())
        losses.append(objective.total.item())
    assert losses[0] > 0
    assert losses[0] == losses[1] == losses[2]


def test_every_weight_of_the_denoiser_receives_gradient() -> None:
    net = denoiser(cameras=("a", "b"), image_size=(32, 32), dropout=0.0)
    objective = DIFFUSION.objective(
        net, observed(4, cameras=2), torch.rand(4, K, 2), torch.zeros(4, K, dtype=torch.bool),
        LossConfig(),
    )  # fmt: skip
    objective.total.backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_swapped_cameras_change_what_the_denoiser_predicts() -> None:
    net = denoiser(cameras=("a", "b"), image_size=(32, 32)).eval()
    seen = observed(1, cameras=2)
    swapped = NetworkInput(images=seen.images.flip(1), state=seen.state, depth=None)
    with torch.inference_mode():
        a, b = (DIFFUSION.predict(net, s).actions_BKA for s in (seen, swapped))
    assert (a - b).abs().max() > 1e-3


def test_depth_is_seen_and_another_noise_seed_is_another_walk() -> None:
    net = denoiser(cameras=("a",), depth=("a",), image_size=(32, 32)).eval()
    seen = observed(1, cameras=1)
    near, far = (
        NetworkInput(images=seen.images, state=seen.state, depth=torch.rand(1, 1, 1, 32, 32) * d)
        for d in (0.5, 5.0)
    )
    other = denoiser(cameras=("a",), depth=("a",), image_size=(32, 32), noise_seed=1).eval()
    with torch.inference_mode():
        a, b = (DIFFUSION.predict(net, s).actions_BKA for s in (near, far))
        c = DIFFUSION.predict(other, near).actions_BKA
    assert (a - b).abs().max() > 1e-4
    assert (a - c).abs().max() > 1e-4


def test_it_learns_two_ways_and_takes_one_of_them() -> None:
    """Half of the demonstrations go left, half right: a regression would go through the middle."""
    net = denoiser(hidden_dim=32, feedforward_dim=64, dropout=0.0, levels=50, steps=10)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    side_B11 = torch.tensor([-0.8, 0.8]).repeat(16)[:, None, None]
    actions_BKA = side_B11.expand(-1, K, 2)
    seen = NetworkInput(images=torch.empty(32, 0), state=torch.zeros(32, 3), depth=None)
    for _ in range(250):
        objective = DIFFUSION.objective(
            net, seen, actions_BKA, torch.zeros(32, K, dtype=torch.bool), LossConfig()
        )
        optimizer.zero_grad()
        objective.total.backward()
        optimizer.step()
    ends = []
    for seed in range(12):
        net.config = net.config.model_copy(update={"noise_seed": seed})
        one = NetworkInput(images=torch.empty(1, 0), state=torch.zeros(1, 3), depth=None)
        with torch.inference_mode():
            ends.append(DIFFUSION.predict(net.eval(), one).actions_BKA[0])
    assert max(float((end.abs() - 0.8).abs().max()) for end in ends) < 0.25  # whole chunks
    assert {bool(end[0, 0] > 0) for end in ends} == {True, False}  # and both are there


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"heads": 3}, "is not a multiple of heads 3", id="heads"),
        pytest.param({"steps": 21}, "steps 21 is more than levels 20", id="steps"),
        pytest.param({"cameras": ("a", "a")}, "names one twice", id="camera-twice"),
        pytest.param({"depth": ("b",)}, r"depth \['b'\] is not among the cameras", id="depth"),
    ],
)
def test_a_contradiction_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        denoiser(**fields)


def test_without_diffusers_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers.schedulers.scheduling_ddim", None)
    with pytest.raises(InputError, match="needs diffusers") as caught:
        denoiser()
    assert "act-toolkit[diffusion]" in caught.value.hint


def test_a_name_that_is_no_family_is_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="no policy 'x'"):
        family_of("x")


def test_every_family_has_its_configuration_where_a_checkpoint_is_read_without_torch() -> None:
    assert {name: family.config for name, family in FAMILIES.items()} == NETWORKS


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: g++")
def test_a_compiled_run_takes_the_same_steps_and_keeps_the_same_checkpoint(
    dataset: MemoryDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest network: compiling ACT's takes half a minute, and it draws its style inside,
    where compiled code draws other numbers."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    graphs = {}
    for compiled in (False, True):
        counters.clear()
        run(tmp_path / str(compiled), dataset, "linear", compile=compiled, ema=0.9)
        graphs[compiled] = counters["stats"]["unique_graphs"]
    assert graphs[False] == 0 < graphs[True]
    one, other = (
        list(map(json.loads, (tmp_path / str(each) / "metrics.jsonl").read_text().splitlines()))
        for each in graphs
    )
    for name in ("loss", "grad_norm", "l1"):
        numbers = [line[name] for line in one if name in line]
        assert numbers == pytest.approx([line[name] for line in other if name in line], rel=1e-5)
    plain, compiled_too = (load_weights(load(tmp_path / str(each) / "last")) for each in graphs)
    assert plain.keys() == compiled_too.keys()
    for name, weights in plain.items():
        torch.testing.assert_close(weights, compiled_too[name], rtol=1e-4, atol=1e-5)
