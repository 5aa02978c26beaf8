"""The ablation of ACT: its world can be solved, its defects are what they say, its rule is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from act_model.config import LossConfig, ModelConfig
from act_model.families import FAMILIES, NetworkInput
from act_model.families.act import ACT
from benchmarks.ablation.defects import with_defects
from benchmarks.ablation.rows import CHOICES, MENDED, QUICK
from benchmarks.ablation.verdict import choices
from benchmarks.ablation.world import demonstration, scene_of
from benchmarks.act_ablation import measured

SMALL = ModelConfig(
    state_dim=3, action_dim=2, cameras=("left", "right"), image_size=(32, 32), chunk_size=4,
    hidden_dim=16, heads=2, feedforward_dim=16, encoder_layers=1, decoder_layers=2,
    style_layers=1, latent_dim=2, dropout=0.0,
)  # fmt: skip


@pytest.mark.parametrize("left", [True, False], ids=["left-of-the-post", "right-of-it"])
def test_demonstrations_reach_the_object_on_both_sides_and_never_hit_the_post(left: bool) -> None:
    sides = set()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        scene = scene_of(rng)
        sides.add(bool(scene.object[1] > 0))
        worlds = [world for world, _ in demonstration(scene, rng, left=left)]
        assert worlds[-1].succeeded
    assert sides == {True, False}


def test_the_recorded_command_of_the_base_is_the_velocity_that_the_state_shows() -> None:
    rng = np.random.default_rng(0)
    for world, action in demonstration(scene_of(rng), rng, left=True):
        np.testing.assert_array_equal(world.observe()["base_vel"], action["base_action"])


def test_without_a_camera_code_two_swapped_cameras_change_nothing() -> None:
    moved = {}
    images = torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    state = torch.zeros(1, 3)
    for defects in ((), ("no camera code",)):
        torch.manual_seed(0)
        with with_defects(*defects):
            net = FAMILIES["act"].build(SMALL).eval()
        with torch.no_grad():
            here, swapped = (net(x, state).actions_BKA for x in (images, images.flip(1)))
        moved[defects] = float((here - swapped).abs().max())
    assert moved[("no camera code",)] < 1e-5 < 1e-3 < moved[()]
    assert FAMILIES["act"] is ACT


def test_actions_apart_do_not_depend_on_the_query_of_another() -> None:
    torch.manual_seed(0)
    with with_defects("actions apart"):
        net = FAMILIES["act"].build(SMALL).eval()
    images, state = torch.zeros(1, 2, 3, 32, 32), torch.zeros(1, 3)
    with torch.no_grad():
        before = net(images, state).actions_BKA
        net.queries_KD[0] += 1
        after = net(images, state).actions_BKA
    torch.testing.assert_close(after[:, 1:], before[:, 1:])
    assert float((after[:, 0] - before[:, 0]).abs().max()) > 1e-3


def test_a_mean_over_padding_is_the_loss_times_the_share_of_valid_actions() -> None:
    torch.manual_seed(0)
    net = ACT.build(SMALL).eval()
    seen = NetworkInput(images=torch.zeros(2, 2, 3, 32, 32), state=torch.zeros(2, 3), depth=None)
    actions, is_pad = torch.randn(2, 4, 2), torch.tensor([[False] * 4, [False, True, True, True]])
    ours = ACT.objective(net, seen, actions, is_pad, LossConfig())
    with with_defects("mean over padding"):
        theirs = FAMILIES["act"].objective(net, seen, actions, is_pad, LossConfig())
    torch.testing.assert_close(theirs.masked, ours.masked * 5 / 8)
    torch.testing.assert_close(theirs.total, ours.total - ours.masked * 3 / 8)


@pytest.mark.parametrize(
    ("one_layer", "chosen"),
    [
        pytest.param([0.81, 0.92, 0.83], "decoder: 1 layer", id="as-good-within-the-interval"),
        pytest.param([0.71, 0.72, 0.70], "decoder: 2 layers", id="worse-in-every-seed"),
    ],
)
def test_the_default_is_the_cheapest_that_is_not_worse_than_the_best(
    one_layer: list[float], chosen: str
) -> None:
    success = {
        "decoder: 1 layer": one_layer,
        "decoder: the first of 7, as published": [0.60, 0.61, 0.62],
        "decoder: 2 layers": [0.84, 0.90, 0.85],
        MENDED: [0.85, 0.90, 0.86],
        "decoder: starts from zeros": [0.85, 0.90, 0.85],
        "decoder: 7 layers, all used": [0.80, 0.80, 0.80],
    }
    assert set(success) == set(CHOICES["decoder"])
    results = [
        {"row": row, "seed": seed, "success": share}
        for row, shares in success.items()
        for seed, share in enumerate(shares)
    ]
    assert choices(results) == {"decoder": chosen}


def test_an_ablation_that_was_interrupted_does_only_what_is_missing(tmp_path: Path) -> None:
    rows = ["untrained: 1 step", "latent: VQ, likeliest of the prior"]
    (first,) = measured(tmp_path, QUICK, rows[:1], seeds=1, jobs=0)
    both = measured(tmp_path, QUICK, [*rows, "latent: VQ, drawn from the prior"], seeds=1, jobs=0)
    assert both[0] == first  # its training time included
    assert [line["row"] for line in both[1:]] == [rows[1], "latent: VQ, drawn from the prior"]
    assert both[1]["train_s"] == both[2]["train_s"]  # one training
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 3
