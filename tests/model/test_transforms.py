from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import InputError
from act_data.stats import compute
from act_model.checkpoint import contract_of
from act_model.config import AugmentConfig, ModelConfig, TrainConfig
from act_model.transforms import IMAGENET_MEAN, IMAGENET_STD, Draw, Transform, augment, draw
from tests.model.memory_dataset import dataset_of, schema_of

STILL = Draw(top=0, left=0, angle_deg=0, brightness=1, contrast=1, saturation=1, order=(0, 1, 2))


def transform_of(
    cameras: tuple[str, ...] = ("top",),
    size: tuple[int, int] = (32, 48),
    depth: tuple[str, ...] = (),
    **config: object,
) -> Transform:
    train = TrainConfig.model_validate(config)
    dataset = dataset_of(
        12,
        8,
        schema=schema_of(
            cameras=dict.fromkeys(cameras, (32, 48)), depth=dict.fromkeys(depth, (32, 48))
        ),
    )
    contract = contract_of(dataset.schema, train, 4)
    model = ModelConfig(
        state_dim=3, action_dim=3, cameras=cameras, depth=depth, image_size=size, chunk_size=4
    )
    return Transform(model, contract, compute(dataset, "train"), train)


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_a_picture_of_the_right_size_is_only_scaled() -> None:
    image = pictures(2, 1, 32, 48, 3)
    out = transform_of().images(image)
    expected = image.permute(0, 1, 4, 2, 3).float() / 255
    for c, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        assert torch.allclose(out[:, :, c], (expected[:, :, c] - mean) / std, atol=1e-6)


def test_red_stays_red_and_up_stays_up() -> None:
    image = torch.zeros(1, 1, 32, 48, 3, dtype=torch.uint8)
    image[..., :16, :, 0] = 255
    out = transform_of(size=(16, 24)).images(image)[0, 0]
    red, green = out[0], out[1]
    assert (red[:7] > 2).all()
    assert (red[9:] < -2).all()
    assert green.max() < 0


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 6),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    seed=st.integers(0, 99),
)
def test_the_bits_of_a_sample_do_not_depend_on_its_batch(
    batch: int, height: int, width: int, size: tuple[int, int], seed: int
) -> None:
    """Deployment sees one sample at a time, training B: the same picture is the same input."""
    transform = transform_of(cameras=("top", "wrist"), size=size)
    images = pictures(batch, 2, height, width, 3, seed=seed)
    together = transform.images(images)
    for b in range(batch):
        assert torch.equal(transform.images(images[b : b + 1])[0], together[b])
        assert torch.equal(transform.images(list(images[b : b + 1].unbind(1)))[0], together[b])


def test_the_bits_of_a_sample_do_not_depend_on_its_memory_layout() -> None:
    transform = transform_of(size=(20, 31))
    images = pictures(3, 1, 32, 48, 3)
    planes = images.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2)
    assert torch.equal(transform.images(images), transform.images(planes))


def test_cameras_of_different_sizes_meet_at_the_network() -> None:
    images = [pictures(2, 32, 48, 3), pictures(2, 24, 20, 3)]
    assert transform_of(cameras=("top", "wrist"), size=(16, 24)).images(images).shape == (
        2,
        2,
        3,
        16,
        24,
    )


def test_depth_is_metres_and_nothing_measured_stays_nothing() -> None:
    transform = transform_of(depth=("top",), size=(16, 24))
    depth = torch.full((2, 32, 48), 1500, dtype=torch.int32).to(torch.uint16)
    depth[:, :, 24:] = 0
    out = transform.depth([depth])
    assert out is not None
    assert out.shape == (2, 1, 1, 16, 24)
    assert out.unique().tolist() == [0.0, 1.5]
    assert transform.depth(()) is None


@pytest.mark.parametrize("kind", ["mean_std", "unit", "symmetric"])
def test_unaction_undoes_action(kind: str) -> None:
    transform = transform_of(normalise=kind)
    actions = torch.from_numpy(np.random.default_rng(0).uniform(-3, 3, (64, 4, 3))).float()
    back = transform.unaction(transform.action(actions))
    assert (back - actions).abs().max() < 4 * torch.finfo(torch.float32).eps * 6


def test_the_training_actions_are_normalised_to_zero_mean_and_unit_deviation() -> None:
    transform = transform_of()
    dataset = dataset_of(12, 8)
    actions = np.concatenate([dataset.read("action", e) for e in (0, 1)])
    scaled = transform.action(torch.from_numpy(actions))
    assert torch.allclose(scaled.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(3), atol=1e-5)


def test_no_constant_of_the_transform_is_saved_with_weights() -> None:
    assert transform_of().state_dict() == {}
    assert list(transform_of().parameters()) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param(torch.zeros(1, 1, 32, 48, 3), "torch.float32", id="floats"),
        pytest.param(
            torch.zeros(1, 1, 3, 32, 48, dtype=torch.uint8), r"\(1, 3, 32, 48\)", id="planes-first"
        ),
        pytest.param(
            torch.zeros(1, 2, 32, 48, 3, dtype=torch.uint8), "2 pictures", id="one-camera-too-many"
        ),
    ],
)
def test_a_wrong_picture_is_refused(image: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        transform_of().images(image)


def test_another_robots_sizes_are_refused() -> None:
    dataset = dataset_of(8)
    train = TrainConfig()
    contract = contract_of(dataset.schema, train, 4)
    model = ModelConfig(state_dim=3, action_dim=7, chunk_size=4)
    with pytest.raises(InputError, match="action has 7 dimensions, the contract's 3"):
        Transform(model, contract, compute(dataset), train)


def test_statistics_that_lack_an_array_are_refused() -> None:
    dataset = dataset_of(8)
    stats = compute(dataset)
    stats = stats.model_copy(update={"features": {"qpos": stats.features["qpos"]}})
    contract = contract_of(dataset.schema, TrainConfig(), 4)
    with pytest.raises(InputError, match="lack 'action'") as e:
        Transform(ModelConfig(state_dim=3, action_dim=3), contract, stats, TrainConfig())
    assert e.value.hint == "They have: qpos."


# --- augmentation -----------------------------------------------------------------------------


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_augmentation_is_a_function_of_the_generator() -> None:
    transform = transform_of(augment={})
    images = pictures(3, 1, 32, 48, 3)
    first = transform.images(images, transform.draws(3, generator(1)))
    again = transform.images(images, transform.draws(3, generator(1)))
    other = transform.images(images, transform.draws(3, generator(2)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_cameras_of_a_sample_share_a_draw_and_samples_do_not() -> None:
    transform = transform_of(cameras=("left", "right"), augment={})
    image = pictures(1, 1, 32, 48, 3).expand(2, 2, -1, -1, -1)
    out = transform.images(image, transform.draws(2, generator(0)))
    assert torch.equal(out[0, 0], out[0, 1])
    assert not torch.equal(out[0, 0], out[1, 0])


def test_without_draws_nothing_is_augmented() -> None:
    plain, augmenting = transform_of(), transform_of(augment={})
    images = pictures(2, 1, 32, 48, 3)
    assert torch.equal(plain.images(images), augmenting.images(images))
    assert plain.draws(2, generator(0)) == ()


def test_draws_stay_in_the_ranges_of_the_configuration() -> None:
    config = AugmentConfig()
    draws = draw(config, 2000, generator(0))
    for name, low, high in (
        ("angle_deg", -5.0, 5.0),
        ("brightness", 0.7, 1.3),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.5, 1.5),
        ("top", 0.0, 1.0),
        ("left", 0.0, 1.0),
    ):
        values = np.array([getattr(d, name) for d in draws])
        assert low <= values.min() < low + 0.05 * (high - low), name
        assert high - 0.05 * (high - low) < values.max() <= high, name
    assert len({d.order for d in draws}) == 6


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"brightness": 1.3}, "brightness"),
        ({"contrast": 1.4}, "contrast"),
        ({"saturation": 0.5}, "saturation"),
        ({"angle_deg": 5.0}, "rotation"),
    ],
)
def test_each_part_of_the_augmentation_changes_the_picture(
    change: dict[str, float], name: str
) -> None:
    pixels = pictures(1, 1, 32, 48, 3).permute(0, 1, 4, 2, 3).float() / 255
    still = augment(pixels, [STILL], crop=1.0)
    assert torch.equal(still, pixels)
    changed = augment(
        pixels, [Draw(**{**{f: getattr(STILL, f) for f in STILL.__slots__}, **change})], crop=1.0
    )
    assert (changed - still).abs().max() > 0.02, name
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_the_crop_moves_with_the_draw_and_keeps_the_size() -> None:
    ramp = torch.linspace(0, 1, 40).expand(1, 1, 3, 40, 40)
    corner = Draw(**{**{f: getattr(STILL, f) for f in STILL.__slots__}, "left": 0.999})
    left, right = (augment(ramp, [d], crop=0.9) for d in (STILL, corner))
    assert left.shape == ramp.shape
    # Four of forty columns are cut away: all at the right for left = 0, all at the left for 1.
    assert torch.allclose(right[..., 20] - left[..., 20], torch.tensor(4 / 39), atol=1e-3)


def test_depth_is_cropped_and_rotated_with_its_picture_and_never_mixed() -> None:
    transform = transform_of(depth=("top",), augment={})
    depth = torch.full((1, 32, 48), 800, dtype=torch.int32).to(torch.uint16)
    depth[:, :16] = 0
    out = transform.depth([depth], transform.draws(1, generator(3)))
    assert out is not None
    assert set(out.unique().tolist()) <= {0.0, float(np.float32(0.8))}
    assert not torch.equal(out, transform.depth([depth]))
