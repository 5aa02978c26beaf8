from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from act_data.errors import InputError
from act_model.config import LossConfig, ModelConfig
from act_model.nn import ActCvae, ActOutput, act_loss

Configure = Callable[..., ModelConfig]
Batch = dict[str, Tensor]

PUBLISHED = {"state_dim": 14, "action_dim": 14, "cameras": ("top",)}  # one camera, chunk 100


def batch_for(config: ModelConfig, rows: int = 2, dtype: torch.dtype = torch.float32) -> Batch:
    """Random pictures, states and actions; the last row ends two steps early."""
    steps = torch.arange(config.chunk_size).expand(rows, -1)
    batch = {
        "images_BNCHW": torch.randn(rows, len(config.cameras), 3, *config.image_size),
        "state_BS": torch.randn(rows, config.state_dim),
        "actions_BKA": torch.randn(rows, config.chunk_size, config.action_dim),
    }
    if config.depth:
        batch["depth_BM1HW"] = torch.rand(rows, len(config.depth), 1, *config.image_size)
    batch = {name: t.to(dtype) for name, t in batch.items()}
    batch["is_pad_BK"] = (steps >= config.chunk_size - 2) & (torch.arange(rows) == rows - 1)[
        :, None
    ]
    return batch


def without_actions(batch: Batch) -> Batch:
    return {name: t for name, t in batch.items() if name not in ("actions_BKA", "is_pad_BK")}


def make(config: ModelConfig, seed: int = 0) -> tuple[ActCvae, Batch]:
    torch.manual_seed(seed)
    return ActCvae(config), batch_for(config)


def difference(a: ActOutput, b: ActOutput) -> float:
    return (a.actions_BKA - b.actions_BKA).abs().max().item()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"cameras": ("top",)}, id="one-camera"),
        pytest.param({"cameras": ("left", "right")}, id="shared-backbone"),
        pytest.param(
            {"cameras": ("left", "right"), "backbone_per_camera": True}, id="backbone-per-camera"
        ),
        pytest.param({"cameras": ("left", "right"), "position": "learned"}, id="learned-position"),
        pytest.param({"cameras": ("top",), "latent": "vq"}, id="vq"),
        pytest.param({"cameras": (), "latent": "vq"}, id="vq-state-only"),
        pytest.param({"cameras": ("top",), "max_prefix": 3}, id="prefix"),
        pytest.param({"cameras": ("top",), "state_dropout": 0.5}, id="state-dropout"),
        pytest.param(
            {"cameras": ("top",), "depth": ("top",), "depth_stem": "agilex"}, id="agilex-depth"
        ),
        pytest.param({"cameras": ("top",), "latent": "none"}, id="no-latent"),
        pytest.param({"cameras": ("left", "right"), "depth": ("right",)}, id="depth"),
        pytest.param({"cameras": ("top",), "is_pad_head": True}, id="is-pad-head"),
        pytest.param({"cameras": (), "decoder_layers": 1}, id="state-only-one-decoder-layer"),
        pytest.param({"cameras": ("top",), "backbone": "resnet50"}, id="resnet50"),
    ],
)
def test_every_parameter_gets_gradient(tiny: Configure, settings: dict[str, Any]) -> None:
    """In the original 39.7 % of them get none."""
    assert without_gradient(tiny(**settings)) == []


def test_from_zeros_the_first_self_attention_learns_nothing(tiny: Configure) -> None:
    """Why the original's start is not the default, and the proof that the test above can fail."""
    dead = without_gradient(tiny(cameras=("top",), decoder_start="zeros"))
    first = "decoder.layers.0.self_attention."
    assert {first + name for name in ("query.weight", "query.bias", "key.weight")} <= set(dead)


def without_gradient(config: ModelConfig) -> list[str]:
    """Parameters that one step cannot move. In double precision rounding cannot pass for one."""
    model, _ = make(config)
    model.double()
    batch = batch_for(config, dtype=torch.float64)
    torch.manual_seed(1)  # hides the states of one row of the two, and commits actions of both
    # Squares: the signs that are the gradient of an L1 can add up to 0 in a bias.
    weights = LossConfig(kind="l2", is_pad_weight=1.0 if config.is_pad_head else 0.0)
    losses = act_loss(model(**batch), batch["actions_BKA"], batch["is_pad_BK"], weights)
    losses.total.backward()
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-9
    ]


@pytest.mark.parametrize("per_camera", [False, True], ids=["shared", "per-camera"])
def test_swapping_two_cameras_changes_the_actions(tiny: Configure, per_camera: bool) -> None:
    model, batch = make(tiny(cameras=("left", "right"), backbone_per_camera=per_camera))
    model.eval()
    before = model(**batch)
    batch["images_BNCHW"] = batch["images_BNCHW"].flip(1)
    assert difference(model(**batch), before) > 1e-3


def test_without_camera_embeddings_a_swap_would_go_unseen(tiny: Configure) -> None:
    """The original's defect, and the proof that the test above can fail."""
    model, batch = make(tiny(cameras=("left", "right")))
    model.eval()
    torch.nn.init.zeros_(model.camera_ND)
    before = model(**batch)
    batch["images_BNCHW"] = batch["images_BNCHW"].flip(1)
    assert difference(model(**batch), before) < 1e-5


def test_reordering_cameras_with_all_that_is_theirs_changes_nothing(tiny: Configure) -> None:
    settings: dict[str, Any] = {"backbone_per_camera": True, "latent": "none"}
    model, batch = make(tiny(cameras=("a", "b", "c"), depth=("a", "c"), **settings))
    order = [2, 0, 1]
    other = ActCvae(tiny(cameras=("c", "a", "b"), depth=("a", "c"), **settings))
    state = dict(model.state_dict())
    for to, origin in enumerate(order):
        prefix = f"backbone.nets.{origin}."
        for name, t in model.state_dict().items():
            if name.startswith(prefix):
                state[f"backbone.nets.{to}.{name.removeprefix(prefix)}"] = t
    state["camera_ND"] = state["camera_ND"][order]
    other.load_state_dict(state)
    model.eval()
    other.eval()
    before = model(**batch)
    batch["images_BNCHW"] = batch["images_BNCHW"][:, order]
    assert difference(other(**batch), before) < 1e-5


def test_depth_reaches_the_actions_through_its_own_camera(tiny: Configure) -> None:
    model, batch = make(tiny(cameras=("a", "b"), depth=("b", "a")))
    model.eval()
    before = model(**batch)
    batch["depth_BM1HW"] = batch["depth_BM1HW"].flip(1)
    assert difference(model(**batch), before) > 1e-4
    assert model.depth_to_camera_M.tolist() == [1, 0]


def test_depth_is_fused_as_one_convolution_over_both_maps(tiny: Configure) -> None:
    torch.manual_seed(0)
    model = ActCvae(tiny(cameras=("a", "b"), depth=("b",)))
    assert model.backbone is not None
    images, depth = torch.randn(2, 2, 3, 64, 96), torch.rand(2, 1, 1, 64, 96)
    tokens, _ = model._see(model.backbone, images, depth)
    both = torch.cat([model.backbone(images)[:, 1], model.depth_stems(depth)[:, 0]], dim=1)
    weight = torch.cat([model.image_token.weight, model.depth_token.weight], dim=1)
    expected = torch.nn.functional.conv2d(both, weight, model.image_token.bias)
    torch.testing.assert_close(
        tokens[:, 6:], expected.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("latent", ["gaussian", "vq"])
def test_what_stands_under_padding_changes_neither_loss_nor_gradients(
    tiny: Configure, latent: str
) -> None:
    model, batch = make(tiny(latent=latent))

    def step() -> tuple[Tensor, list[Tensor]]:
        torch.manual_seed(1)
        model.zero_grad()
        output = model(**batch)
        total = act_loss(output, batch["actions_BKA"], batch["is_pad_BK"], LossConfig()).total
        total.backward()
        return total.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    clean, clean_gradients = step()
    batch["actions_BKA"] = batch["actions_BKA"].masked_fill(
        batch["is_pad_BK"][..., None], float("nan")
    )
    dirty, gradients = step()
    assert torch.equal(dirty, clean)
    assert all(map(torch.equal, gradients, clean_gradients))


@pytest.mark.parametrize("latent", ["gaussian", "vq", "none"])
def test_evaluation_is_deterministic(tiny: Configure, latent: str) -> None:
    model, batch = make(tiny(latent=latent, dropout=0.3))
    model.eval()
    for inputs in (batch, without_actions(batch)):
        assert torch.equal(model(**inputs).actions_BKA, model(**inputs).actions_BKA)


def test_without_actions_the_style_is_zero(tiny: Configure) -> None:
    model, batch = make(tiny())
    model.eval()
    deployed, informed = model(**without_actions(batch)), model(**batch)
    assert deployed.mu_BZ is None
    with torch.no_grad():
        model.z_token.weight.mul_(-3)  # multiplies z: what is 0 does not notice
    assert torch.equal(model(**without_actions(batch)).actions_BKA, deployed.actions_BKA)
    assert difference(model(**batch), informed) > 1e-3


def test_while_training_the_style_is_drawn_anew_each_time(tiny: Configure) -> None:
    model, batch = make(tiny())
    assert difference(model(**batch), model(**batch)) > 1e-4


def test_every_decoder_layer_shapes_the_actions(tiny: Configure) -> None:
    model, batch = make(tiny(decoder_layers=3))
    model.eval()
    before = model(**batch)
    for layer in model.decoder.layers:
        weight = layer.feed_forward[0].weight
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.mul_(-1)
        assert difference(model(**batch), before) > 1e-3
        with torch.no_grad():
            weight.copy_(kept)
    del model.decoder.layers[-1]
    assert difference(model(**batch), before) > 1e-3


@pytest.mark.parametrize("layers", [1, 2])
def test_actions_of_a_chunk_depend_on_each_other(tiny: Configure, layers: int) -> None:
    model, batch = make(tiny(decoder_layers=layers))
    model.eval()
    before = model(**batch).actions_BKA
    with torch.no_grad():
        model.queries_KD[2] += 1
    changed = (model(**batch).actions_BKA - before).abs().amax(dim=(0, 2))
    assert (changed > 1e-4).all()


def test_a_larger_picture_than_configured_still_works(tiny: Configure) -> None:
    for position in ("sine", "learned"):
        model, batch = make(tiny(cameras=("top",), position=position))
        batch["images_BNCHW"] = torch.randn(2, 1, 3, 100, 130)
        assert model(**batch).actions_BKA.isfinite().all()


def test_it_trains_under_bfloat16_autocast(tiny: Configure) -> None:
    model, batch = make(tiny(cameras=("top",), depth=("top",), dropout=0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch)
        losses = act_loss(output, batch["actions_BKA"], batch["is_pad_BK"], LossConfig())
    losses.total.backward()
    assert losses.total.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_it_compiles_without_a_graph_break(tiny: Configure) -> None:
    config = tiny(latent="vq", is_pad_head=True)
    model, batch = make(config)
    model.eval()
    weights = LossConfig()

    def step(batch: Batch) -> Tensor:
        output = model(**batch)
        return act_loss(output, batch["actions_BKA"], batch["is_pad_BK"], weights).total

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(batch), step(batch))


def test_weights_make_the_round_trip_and_hold_no_computed_tables(tiny: Configure) -> None:
    config = tiny(cameras=("top",))
    model, batch = make(config)
    other, _ = make(config, seed=9)
    other.load_state_dict(model.state_dict())
    model.eval()
    other.eval()
    assert torch.equal(model(**batch).actions_BKA, other(**batch).actions_BKA)
    assert "style.table_TD" not in model.state_dict()


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    """83,923,087 in the original. Ours differs where decision 0002 says, and nowhere else."""
    config = ModelConfig.model_validate(PUBLISHED | {"decoder_layers": 7, "is_pad_head": True})
    with torch.device("meta"):
        model = ActCvae(config)
    key_biases = 512 * (4 + 4 + 2 * 7)
    camera_embedding = 512
    assert count(model) == 83_923_087 - key_biases + camera_embedding


def test_the_default_size_is_the_sum_of_its_parts() -> None:
    d, ff, k, dim, z = 512, 3200, 100, 14, 32
    attention = 4 * d * d + 3 * d
    feed_forward = 2 * d * ff + ff + d
    encoder_layer = attention + feed_forward + 2 * 2 * d
    decoder_layer = 2 * attention + feed_forward + 3 * 2 * d
    resnet18 = 11_166_912
    style = 4 * encoder_layer + d + 2 * (dim * d + d) + (d * 2 * z + 2 * z)
    tokens = (z * d + d) + (dim * d + d) + (d * d + d) + 2 * d + d  # z, state, image; positions
    decoder = decoder_layer + 2 * d + k * d + (d * dim + dim)
    with torch.device("meta"):
        model = ActCvae(ModelConfig.model_validate(PUBLISHED))
    assert count(model) == resnet18 + style + tokens + 4 * encoder_layer + decoder


def test_the_shapes_of_the_notes_run() -> None:
    """4 x 3 cameras x 480 x 640, chunk 32, action 16, full size. About 12 s on one busy core."""
    config = ModelConfig(
        state_dim=16, action_dim=16, cameras=("high", "left", "right"), chunk_size=32
    )
    torch.manual_seed(0)
    with torch.inference_mode():
        model = ActCvae(config).eval()
        output = model(torch.randn(4, 3, 3, 480, 640), torch.randn(4, 16))
    assert output.actions_BKA.shape == (4, 32, 16)
    assert output.actions_BKA.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"hidden_dim": 18, "heads": 4}, "hidden_dim 18 is not a multiple of heads 4"),
        pytest.param({"hidden_dim": 18}, "hidden_dim 18 is not a multiple of 4"),
        pytest.param({"state_dropout_dims": (1, 3)}, r"state_dropout_dims \[3\] are not below"),
        pytest.param({"max_prefix": 5}, "max_prefix 5 leaves nothing of a chunk of 5"),
        pytest.param({"cameras": ("a", "a")}, r"cameras \['a', 'a'\] names one twice"),
        pytest.param(
            {"cameras": ("a",), "depth": ("b",)}, r"depth \['b'\] is not among the cameras \['a'\]"
        ),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    tiny: Configure, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ActCvae(tiny(**settings))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("images_BNCHW", (2, 1, 3, 64, 96), r"images has shape \(2, 1, 3, 64, 96\).*batch, 2, 3"),
        ("state_BS", (2, 4), r"state has shape \(2, 4\), the model expects \(batch, 3\)"),
        ("actions_BKA", (2, 6, 2), r"actions has shape \(2, 6, 2\).*\(batch, 5, 2\)"),
        ("is_pad_BK", (2, 5, 1), r"is_pad has shape \(2, 5, 1\)"),
        ("depth_BM1HW", (2, 1, 1, 32, 96), r"depth has shape.*\(batch, 1, 1, 64, 96\)"),
    ],
)
def test_a_tensor_of_another_shape_is_refused(
    tiny: Configure, name: str, shape: tuple[int, ...], message: str
) -> None:
    model, batch = make(tiny(cameras=("a", "b"), depth=("b",)))
    batch[name] = torch.zeros(shape)
    with pytest.raises(InputError, match=message):
        model(**batch)


def test_missing_depth_is_named(tiny: Configure) -> None:
    model, batch = make(tiny(cameras=("a",), depth=("a",)))
    del batch["depth_BM1HW"]
    with pytest.raises(InputError, match=r"needs depth of \['a'\]"):
        model(**batch)
