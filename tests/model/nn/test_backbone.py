from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from act_data.errors import InputError, NotFoundError, StoreError
from act_model.nn.backbone import (
    CHANNELS,
    CameraBackbone,
    imagenet_at_hand,
    load_backbone_weights,
)


@pytest.fixture(scope="module")
def shared() -> CameraBackbone:
    torch.manual_seed(0)
    return CameraBackbone("resnet18", 2, per_camera=False)


def trained_weights() -> dict[str, Tensor]:
    """As torchvision would publish them: with a classifier and batch norm's counters."""
    torch.manual_seed(7)
    net = CameraBackbone("resnet18", 1, per_camera=False).nets[0]
    weights = {name: (t + 0.25).contiguous() for name, t in net.state_dict().items()}
    weights["bn1.num_batches_tracked"] = torch.tensor(3)
    return weights | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def scenes() -> Tensor:
    """(4, 3, 96, 128): the same background, a red square in four places."""
    rng = torch.Generator().manual_seed(1)
    background = functional.interpolate(torch.rand(1, 3, 6, 8, generator=rng), size=(96, 128))
    pictures = background.repeat(4, 1, 1, 1)
    for i, (y, x) in enumerate([(20, 20), (60, 20), (20, 90), (60, 90)]):
        pictures[i, :, y : y + 12, x : x + 12] = torch.tensor([1.0, 0.1, 0.1])[:, None, None]
    return (pictures - 0.45) / 0.225


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (33, 1)], ids=str)
def test_the_stride_is_32_rounded_up(shared: CameraBackbone, size: tuple[int, int]) -> None:
    features = shared(torch.zeros(3, 2, 3, *size))
    assert features.shape == (3, 2, 512, -(-size[0] // 32), -(-size[1] // 32))


def test_all_cameras_in_one_call_see_what_each_sees_alone(shared: CameraBackbone) -> None:
    torch.manual_seed(1)
    images = torch.randn(2, 2, 3, 64, 64)
    together = shared(images)
    for n in range(2):
        alone = shared(images[:, n : n + 1])[:, 0]
        torch.testing.assert_close(together[:, n], alone, atol=1e-5, rtol=1e-4)


def test_one_backbone_per_camera_gives_each_its_own_weights() -> None:
    torch.manual_seed(2)
    backbone = CameraBackbone("resnet18", 2, per_camera=True)
    image = torch.randn(1, 1, 3, 64, 64)
    features = backbone(image.expand(-1, 2, -1, -1, -1))
    assert (features[:, 0] - features[:, 1]).abs().max() > 0.1
    torch.testing.assert_close(features[:, 1], backbone.nets[1](image[:, 0]))


@pytest.mark.parametrize("name", CHANNELS)
def test_random_features_have_a_sane_scale_and_tell_scenes_apart(name: str) -> None:
    """With torchvision's frozen statistics: ResNet-34 at scale 60, cosines above 0.99."""
    torch.manual_seed(0)
    with torch.inference_mode():
        features = CameraBackbone(name, 1, per_camera=False)(scenes()[:, None])
    assert features.shape[2] == CHANNELS[name]
    assert 0.5 < features.square().mean().sqrt() < 2
    unit = functional.normalize(features.flatten(1), dim=1)
    cosine = (unit @ unit.T)[~torch.eye(4, dtype=torch.bool)]
    assert cosine.mean() < 0.95


def test_folding_the_norms_into_the_convolutions_changes_nothing() -> None:
    """Beside torchvision's own ResNet with its frozen norms, weights and norms copied."""
    from torchvision.models import resnet18
    from torchvision.ops import FrozenBatchNorm2d

    torch.manual_seed(5)
    theirs = resnet18(weights=None, norm_layer=FrozenBatchNorm2d)
    ours = CameraBackbone("resnet18", 1, per_camera=False)
    missing = theirs.load_state_dict(ours.nets[0].state_dict(), strict=False)
    assert set(missing.missing_keys) == {"fc.weight", "fc.bias"}
    trunk = torch.nn.Sequential(*list(theirs.children())[:-2]).double()
    ours.double()
    images = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    expected = trunk(images)
    torch.testing.assert_close(ours(images[:, None])[:, 0], expected)
    expected.sum().backward()
    ours(images[:, None]).sum().backward()
    first = ours.nets[0].get_submodule("conv1").weight.grad
    torch.testing.assert_close(first, theirs.conv1.weight.grad)


class Thirds(torch.nn.Module):
    """A backbone that a test installs: three channels, one cell per 32 pixels."""

    channels = 3

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return functional.avg_pool2d(images_BCHW, 32, ceil_mode=True)


def offer(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = importlib.metadata.EntryPoint("thirds", value, "act_model.backbones")
    offered = importlib.metadata.EntryPoints([entry])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: offered)


def test_an_installed_package_can_offer_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, f"{__name__}:Thirds")
    backbone = CameraBackbone("plugin:thirds", 2, per_camera=True)
    images = torch.randn(1, 2, 3, 65, 64)
    assert backbone.channels == 3
    assert backbone(images).shape == (1, 2, 3, 3, 2)
    torch.testing.assert_close(
        backbone(images)[:, 1, :, 0, 0], images[:, 1, :, :32, :32].mean((2, 3))
    )


def test_a_backbone_that_no_package_offers_is_not_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A checkpoint names its backbone: a module's path must not be enough to run it."""
    offer(monkeypatch, f"{__name__}:Thirds")
    with pytest.raises(NotFoundError, match=r"'plugin:os\.system'") as error:
        CameraBackbone("plugin:os.system", 1, per_camera=False)
    assert "thirds" in error.value.hint


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("builtins:dict", "is dict, not a torch module", id="no-module"),
        pytest.param("torch.nn:Identity", "is Identity, not a torch module", id="no-channels"),
    ],
)
def test_a_plugin_that_is_no_backbone_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    offer(monkeypatch, value)
    with pytest.raises(InputError, match=message):
        CameraBackbone("plugin:thirds", 1, per_camera=False)


def test_a_plugin_with_another_stride_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, f"{__name__}:Thirds")
    monkeypatch.setattr(Thirds, "forward", lambda self, x: functional.avg_pool2d(x, 16))
    backbone = CameraBackbone("plugin:thirds", 1, per_camera=False)
    with pytest.raises(InputError, match=r"gave features \(3, 4, 4\).*expected \(3, 2, 2\)"):
        backbone(torch.zeros(1, 1, 3, 64, 64))


def test_equal_seeds_make_equal_backbones_and_leave_the_stream_alone() -> None:
    def build() -> tuple[dict[str, Tensor], Tensor]:
        torch.manual_seed(3)
        backbone = CameraBackbone("resnet18", 1, per_camera=False)
        return backbone.state_dict(), torch.rand(1)

    (first, after_first), (second, after_second) = build(), build()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(after_first, after_second)


def test_frozen_batch_norm_does_not_depend_on_the_mode_or_the_batch(shared: CameraBackbone) -> None:
    images = torch.randn(2, 2, 3, 64, 64)
    state = {name: t.clone() for name, t in shared.state_dict().items()}
    training = shared.train()(images)
    evaluating = shared.eval()(images)
    assert torch.equal(training, evaluating)
    assert all(torch.equal(t, state[name]) for name, t in shared.state_dict().items())


def test_weights_none_leaves_the_backbone_as_it_is(shared: CameraBackbone) -> None:
    before = shared.nets[0].state_dict()["conv1.weight"].clone()
    load_backbone_weights(shared, "none")
    load_backbone_weights(None, "imagenet")
    assert torch.equal(shared.nets[0].state_dict()["conv1.weight"], before)


def test_a_safetensors_file_fills_every_camera(tmp_path: Path) -> None:
    weights = trained_weights()
    save_file(weights, tmp_path / "r18.safetensors")
    backbone = CameraBackbone("resnet18", 2, per_camera=True)
    load_backbone_weights(backbone, str(tmp_path / "r18.safetensors"))
    for net in backbone.nets:
        state = net.state_dict()
        assert len(state) == len(weights) - 3
        assert all(torch.equal(t, weights[name]) for name, t in state.items())


def test_a_file_with_other_names_or_shapes_is_refused_with_all_differences(
    tmp_path: Path, shared: CameraBackbone
) -> None:
    weights = trained_weights()
    weights["encoder.0"] = weights.pop("layer1.0.conv1.weight")
    weights["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    save_file(weights, tmp_path / "other.safetensors")
    before = shared.nets[0].state_dict()["bn1.bias"].clone()
    with pytest.raises(InputError) as error:
        load_backbone_weights(shared, str(tmp_path / "other.safetensors"))
    message = str(error.value)
    assert "other.safetensors does not hold the weights of a resnet18" in message
    assert "1 missing: layer1.0.conv1.weight" in message
    assert "1 unknown: encoder.0" in message
    assert "conv1.weight (64, 1, 7, 7) instead of (64, 3, 7, 7)" in message
    assert torch.equal(shared.nets[0].state_dict()["bn1.bias"], before)


def test_a_file_that_is_not_there_is_named(shared: CameraBackbone) -> None:
    with pytest.raises(NotFoundError, match=r"'weights/r18\.safetensors' do not exist"):
        load_backbone_weights(shared, "weights/r18.safetensors")


def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, shared: CameraBackbone) -> None:
    (tmp_path / "r18.pth").write_bytes(b"PK\x03\x04 a pickle in a zip")
    with pytest.raises(StoreError, match=r"r18\.pth cannot be read as safetensors") as error:
        load_backbone_weights(shared, str(tmp_path / "r18.pth"))
    assert "pickles are not read" in error.value.hint


def test_missing_imagenet_weights_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: CameraBackbone
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not imagenet_at_hand("resnet18")
    with pytest.raises(NotFoundError, match=r"resnet18-f37072fd\.pth") as error:
        load_backbone_weights(shared, "imagenet")
    assert "IMAGENET1K_V1" in error.value.hint


def test_a_damaged_imagenet_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: CameraBackbone
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    with pytest.raises(StoreError, match="is damaged: its sha256 starts with"):
        load_backbone_weights(shared, "imagenet")


def test_imagenet_weights_come_from_the_local_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published file is not at hand: a file of the same layout stands in, under its hash."""
    weights = trained_weights()
    torch.save(weights, tmp_path / "new.pth")
    digest = hashlib.sha256((tmp_path / "new.pth").read_bytes()).hexdigest()[:8]
    file = tmp_path / "hub" / "checkpoints" / f"resnet18-{digest}.pth"
    file.parent.mkdir(parents=True)
    (tmp_path / "new.pth").rename(file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entry = SimpleNamespace(url=f"https://example.org/models/{file.name}")
    monkeypatch.setattr(
        "torchvision.models.get_model_weights", lambda _name: {"IMAGENET1K_V1": entry}
    )
    backbone = CameraBackbone("resnet18", 1, per_camera=False)
    assert imagenet_at_hand("resnet18")
    load_backbone_weights(backbone, "imagenet")
    assert torch.equal(backbone.nets[0].state_dict()["conv1.weight"], weights["conv1.weight"])


def test_torchvision_is_imported_when_a_backbone_is_built_and_not_before() -> None:
    code = "import sys, act_model.nn; print('torchvision' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
