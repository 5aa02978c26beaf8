"""ResNets up to their last feature map, under torchvision's names and with its random weights.

torchvision has them, too, but whoever imports it gets `torch._dynamo` as well, which takes three
times as long as torch itself: a robot's policy would wait for that at every start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from act_model.nn.frozen_norm import FrozenNorm

_BLOCKS: Mapping[str, Sequence[int]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
}
_WIDTHS = (64, 128, 256, 512)


def resnet(name: str) -> nn.Sequential:
    """The one called `name`, from (B, 3, H, W) to (B, C, ceil(H / 32), ceil(W / 32)).

    He et al., "Deep Residual Learning for Image Recognition", 2016; of ResNet-50 the variant that
    strides in its 3x3 convolutions. Every batch norm is a FrozenNorm.
    """
    block = Bottleneck if name == "resnet50" else BasicBlock
    channels = 64
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False))
    net.add_module("bn1", FrozenNorm(channels))
    # torchvision has the ReLU first. The largest of what is above 0 is the same either way, and
    # behind the pooling there is a quarter of the numbers.
    net.add_module("maxpool", nn.MaxPool2d(3, stride=2, padding=1))
    net.add_module("relu", nn.ReLU(inplace=True))
    for number, (width, count) in enumerate(zip(_WIDTHS, _BLOCKS[name], strict=True), 1):
        layer = nn.Sequential()
        for i in range(count):
            layer.append(block(channels, width, stride=2 if number > 1 and i == 0 else 1))
            channels = width * block.expansion
        net.add_module(f"layer{number}", layer)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way around them."""

    expansion = 1

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = FrozenNorm(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = FrozenNorm(width)
        self.downsample = _around(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu_(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A 3x3 convolution on a quarter of the channels, and a way around it."""

    expansion = 4

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = FrozenNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = FrozenNorm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = FrozenNorm(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _around(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 * width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return functional.relu_(out + (x if self.downsample is None else self.downsample(x)))


def _around(channels: int, width: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, stride=stride, bias=False), FrozenNorm(width)
    )
