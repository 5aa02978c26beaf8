"""Pictures to feature maps: ResNets with frozen batch norm, or a plugin; the door to torchvision.

Shape suffixes: B batch, N cameras, C channels, H height, W width, h and w the same after the
network's stride of 32 (rounded up).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from act_data.errors import InputError, NotFoundError, StoreError
from act_model.nn.frozen_norm import NormedConv, join_norms
from act_model.nn.resnet import resnet
from act_model.nn.unfilled import to_be_filled

STRIDE = 32
CHANNELS: Mapping[str, int] = {"resnet18": 512, "resnet34": 512, "resnet50": 2048}
PLUGINS = "act_model.backbones"  # group of entry points

_PLUGIN = "plugin:"

_SHOWN = 4  # names printed per kind of difference


class PluginBackbone(Protocol):
    """What an entry point of the group `act_model.backbones` gives back when it is called.

    A torch module. It is called without arguments, once per network, or once per camera.

    Attributes:
        channels: C of its feature map.
    """

    channels: int

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W), ImageNet-normalised, to (B, C, ceil(H / 32), ceil(W / 32))."""


class CameraBackbone(nn.Module):
    """The last feature map of a ResNet, or of a plugin, for every camera.

    Batch norm is frozen: its four tensors are buffers, so a batch of 8 robot frames never
    estimates them. They come from `load_backbone_weights`, and before that from synthetic
    pictures (see `_standardise`). All convolutions are trained.

    Attributes:
        name: As in ModelConfig.
        channels: C of the feature map.
        nets: One shared network, or one per camera; a ResNet has torchvision's names.

    Raises:
        NotFoundError: No installed package has a plugin of that name.
    """

    def __init__(self, name: str, cameras: int, *, per_camera: bool) -> None:
        super().__init__()
        self.name = name
        nets = [
            plugin(name) if name.startswith(_PLUGIN) else _resnet(name)
            for _ in range(cameras if per_camera else 1)
        ]
        self.channels = CHANNELS.get(name) or cast(PluginBackbone, nets[0]).channels
        # Convolutions on a CPU are a tenth faster when the channels lie side by side.
        self.nets = nn.ModuleList(nets).to(memory_format=torch.channels_last)

    def forward(self, images_BNCHW: Tensor) -> Tensor:
        """(B, N, 3, H, W), ImageNet-normalised, to (B, N, C, ceil(H / 32), ceil(W / 32))."""
        if len(self.nets) == 1:  # one call for all cameras
            features = self._features(self.nets[0], images_BNCHW.flatten(0, 1))
            return features.view(*images_BNCHW.shape[:2], *features.shape[1:])
        return torch.stack(
            [self._features(net, images_BNCHW[:, n]) for n, net in enumerate(self.nets)], dim=1
        )

    def _features(self, net: nn.Module, images_BCHW: Tensor) -> Tensor:
        features: Tensor = net(images_BCHW.contiguous(memory_format=torch.channels_last))
        wanted = (self.channels, *(-(-side // STRIDE) for side in images_BCHW.shape[-2:]))
        if features.shape[1:] != wanted:
            raise InputError(
                f"backbone {self.name!r} gave features {tuple(features.shape[1:])} for pictures "
                f"{tuple(images_BCHW.shape[1:])}, expected {wanted}",
                hint=f"A plugin gives back its `channels`, and one cell per {STRIDE} pixels.",
            )
        return features


def plugin(name: str) -> nn.Module:
    """The network that an installed package offers as "plugin:NAME".

    Only entry points are looked at: a checkpoint names its backbone, and a file must not be able
    to choose which module of this machine is imported.

    Raises:
        NotFoundError: There is none; says which there are.
        InputError: What it makes is no torch module with `channels`.
    """
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=PLUGINS)}
    entry = found.get(name.removeprefix(_PLUGIN))
    if entry is None:
        raise NotFoundError(
            f"no installed package offers a backbone {name!r}",
            hint=f"Entry points of the group {PLUGINS}: {', '.join(sorted(found)) or 'none'}.",
        )
    net = entry.load()()
    if not isinstance(net, nn.Module) or not isinstance(getattr(net, "channels", None), int):
        raise InputError(
            f"backbone {name!r} ({entry.value}) is {type(net).__name__}, not a torch module with "
            "an integer `channels`",
            hint="See PluginBackbone in act_model.nn.backbone.",
        )
    return net


def load_backbone_weights(backbone: CameraBackbone | None, weights: str) -> None:
    """Fill the ResNets with trained weights from this machine; nothing is ever downloaded.

    Args:
        backbone: Every ResNet in it gets the same weights. None (a model without cameras)
            has nothing to fill.
        weights: "none" leaves it as it is, "imagenet" reads torchvision's local cache
            (IMAGENET1K_V1, what ACT was published with), anything else is the path of a
            safetensors file with torchvision's names; `fc.*` is ignored.

    Raises:
        NotFoundError: The file is not on this machine; the hint says how to get it.
        StoreError: The file is damaged, or not safetensors.
        InputError: Names or shapes are not those of this ResNet.
    """
    if backbone is None or weights == "none":
        return
    if weights == "imagenet":
        path, tensors = _read_imagenet(backbone.name)
    else:
        path = Path(weights)
        tensors = _read_safetensors(path)
    tensors = {name: t for name, t in tensors.items() if not name.startswith("fc.")}
    tensors = {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
    _check_fit(path, backbone, tensors)
    for net in backbone.nets:
        net.load_state_dict(tensors)


def imagenet_at_hand(name: str) -> bool:
    """Whether torchvision's cache on this machine has the ImageNet weights of `name`."""
    return name in CHANNELS and _imagenet_file(name).is_file()


def _resnet(name: str) -> nn.Sequential:
    """A ResNet up to `layer4`, whose norms are computed by their convolutions."""
    net = resnet(name)
    join_norms(net)
    if not to_be_filled():
        _standardise(net)
    return net


@torch.no_grad()
def _standardise(net: nn.Sequential) -> None:
    """Give each frozen batch norm the moments of its input on synthetic pictures.

    torchvision leaves mean 0 and variance 1, right only under trained weights: a random ResNet-18
    then maps different scenes to features of cosine 0.99, a random ResNet-34 to a scale of 60
    (decision 0002). The mean is taken per channel, the variance over all channels of a layer: a
    channel's own would blow up those that happen to be quiet on these pictures.

    The pictures are noise of four scales (the power of natural pictures falls with frequency) at
    several contrasts and tints, in units of normalised pixels. They are always the same, and no
    random number is drawn from the caller's stream.
    """

    def measure(conv: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(conv, NormedConv)
        variance, mean = torch.var_mean(conv.convolved(inputs[0]), dim=(0, 2, 3))
        conv.norm.running_mean.copy_(mean)
        conv.norm.running_var.copy_(variance.mean().expand_as(variance))

    rng = torch.Generator("cpu").manual_seed(0)

    def noise(cells: int) -> Tensor:
        return torch.randn(8, 3, cells, cells, generator=rng, device="cpu")

    pictures = sum(
        functional.interpolate(noise(cells), size=(128, 128), mode="bilinear") / 2
        for cells in (2, 8, 32, 128)
    )
    contrasts = torch.linspace(0.5, 2, 8, device="cpu")
    pictures = pictures * contrasts[:, None, None, None] + noise(1)
    weight = next(net.parameters())
    hooks = [
        module.register_forward_pre_hook(measure)  # runs before its norm: one pass is enough
        for module in net.modules()
        if isinstance(module, NormedConv)
    ]
    net(pictures.to(weight))
    for hook in hooks:
        hook.remove()


def _imagenet_file(name: str) -> Path:
    from torchvision import models

    url: str = models.get_model_weights(name)["IMAGENET1K_V1"].url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _read_imagenet(name: str) -> tuple[Path, dict[str, Tensor]]:
    path = _imagenet_file(name)
    if not path.is_file():
        raise NotFoundError(
            f"ImageNet weights of {name} are not on this machine: {str(path)!r} does not exist",
            hint=f"On a machine with internet, run torchvision.models.{name}"
            "(weights='IMAGENET1K_V1') once and copy the file it stores to that path; or give "
            "the path of a safetensors file; or start from random weights with 'none'.",
        )
    # The file name carries the first digits of the file's sha256.
    expected = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise StoreError(
            f"{path} is damaged: its sha256 starts with {found[: len(expected)]!r}, "
            f"its name says {expected!r}",
            hint="Delete it and get it again.",
        )
    # torchvision publishes no safetensors; weights_only reads tensors and runs no code.
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return path, tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise NotFoundError(
            f"backbone weights {str(path)!r} do not exist",
            hint="Give the path of a safetensors file, or one of 'none', 'imagenet'.",
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as e:
        raise StoreError(
            f"{path} cannot be read as safetensors: {e}",
            hint="Save the state dict with safetensors.torch.save_file; pickles are not read.",
        ) from e


def _check_fit(path: Path, backbone: CameraBackbone, tensors: Mapping[str, Tensor]) -> None:
    expected = {name: tuple(t.shape) for name, t in backbone.nets[0].state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    differences = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    }
    lines = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' if names[_SHOWN:] else ''}"
        for kind, names in differences.items()
        if names
    ]
    if lines:
        raise InputError(
            f"{path} does not hold the weights of a {backbone.name}: {'; '.join(lines)}",
            hint="Its names must be torchvision's (conv1.weight, bn1.running_mean, ...) and "
            "its size that of `backbone`.",
        )
