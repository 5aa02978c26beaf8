"""The only way into and out of the network: training, evaluation and deployment all pass here.

What comes out for one sample does not depend, to the bit, on the other samples of its batch.

Shape suffixes: B batch, N cameras, M depth cameras, C channels, H height, W width, K action chunk,
S state dim, A action dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from act_data.errors import InputError
from act_data.records import StatsRecord
from act_data.stats import normaliser
from act_model.config import AugmentConfig, Contract, NetworkConfig, TrainConfig, VectorContract

# What torchvision's pretrained backbones were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MM_PER_M = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How one sample is augmented: the same for all its cameras.

    Attributes:
        top: Place of the crop between the two edges, in [0, 1); left too.
        angle_deg: Rotation, counter-clockwise.
        brightness: Factor; contrast and saturation too.
        order: In which of the six orders the three factors are applied.
    """

    top: float
    left: float
    angle_deg: float
    brightness: float
    contrast: float
    saturation: float
    order: tuple[int, int, int]


class Transform(nn.Module):
    """Between a robot's units and the network's, both ways. Has constants and no parameters.

    Args:
        model: Sizes at the network's door.
        contract: Which arrays make up state and action, in order.
        stats: Of the training split: the constants of the normalisation.
        train: Kind of normalisation, augmentation.

    Raises:
        InputError: The sizes of contract and model differ, or the statistics lack an array.
    """

    state_offset: Tensor
    state_factor: Tensor
    action_offset: Tensor
    action_factor: Tensor
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self, model: NetworkConfig, contract: Contract, stats: StatsRecord, train: TrainConfig
    ) -> None:
        super().__init__()
        self.chunk_size = model.chunk_size
        self._cameras = len(model.cameras)
        self._size = list(model.image_size)
        self._augment = train.augment
        for role, arrays, dim in (
            ("state", contract.state, model.state_dim),
            ("action", contract.action, model.action_dim),
        ):
            offset, factor = _constants(arrays, stats, train)
            if len(offset) != dim:
                raise InputError(
                    f"the model's {role} has {dim} dimensions, the contract's {len(offset)}",
                    hint=f"The contract's {role} is {', '.join(a.name for a in arrays)}.",
                )
            self.register_buffer(f"{role}_offset", offset, persistent=False)
            self.register_buffer(f"{role}_factor", factor, persistent=False)
        mean, std = (torch.tensor(c).reshape(1, 1, 3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("image_mean", mean, persistent=False)
        self.register_buffer("image_std", std, persistent=False)

    def images(self, images: Tensor | Sequence[Tensor], draws: Sequence[Draw] = ()) -> Tensor:
        """(B, N, 3, H, W) float32, resized, augmented if there are draws, ImageNet-normalised.

        For a network without cameras it is (0, 0, 3, H, W), which the network does not look at.

        Args:
            images: (B, N, H, W, 3) uint8 RGB, or one (B, H, W, 3) per camera, of any sizes.
            draws: One per sample: training only.
        """
        cameras = images.unbind(1) if isinstance(images, Tensor) else tuple(images)
        if len(cameras) != self._cameras:
            raise InputError(
                f"{len(cameras)} pictures for a network with {self._cameras} cameras",
                hint="Give the cameras of the contract, in its order.",
            )
        if not cameras:
            return self.image_mean.new_zeros(0, 0, 3, *self._size)
        pixels_BNCHW = torch.stack([self._pixels(image_BHWC) for image_BHWC in cameras], dim=1)
        return (self._augmented(pixels_BNCHW, draws) - self.image_mean) / self.image_std

    def depth(self, depth: Tensor | Sequence[Tensor], draws: Sequence[Draw] = ()) -> Tensor | None:
        """(B, M, 1, H, W) float32 metres, 0 where nothing was measured; None without cameras.

        Args:
            depth: (B, M, H, W) uint16 millimetres, or one (B, H, W) per depth camera.
            draws: Those of the pictures: crop and rotation are shared.
        """
        cameras = depth.unbind(1) if isinstance(depth, Tensor) else tuple(depth)
        if not cameras:
            return None
        metres_BM1HW = torch.stack([self._metres(depth_BHW) for depth_BHW in cameras], dim=1)
        return self._augmented(metres_BM1HW, draws)

    def state(self, state_BS: Tensor) -> Tensor:
        """(B, S) in the robot's units -> normalised."""
        return (state_BS - self.state_offset) / self.state_factor

    def action(self, actions_BKA: Tensor) -> Tensor:
        """(..., A) in the robot's units -> normalised."""
        return (actions_BKA - self.action_offset) / self.action_factor

    def unaction(self, actions_BKA: Tensor) -> Tensor:
        """(..., A) normalised -> the robot's units: the inverse of `action`."""
        return actions_BKA * self.action_factor + self.action_offset

    def draws(self, count: int, generator: torch.Generator) -> tuple[Draw, ...]:
        """How to augment `count` samples; none when the configuration does not augment."""
        if self._augment is None:
            return ()
        return draw(self._augment, count, generator)

    def _augmented(self, images_BNCHW: Tensor, draws: Sequence[Draw]) -> Tensor:
        if self._augment is None or not draws:
            return images_BNCHW
        return augment(images_BNCHW, draws, crop=self._augment.crop)

    def _pixels(self, image_BHWC: Tensor) -> Tensor:
        if image_BHWC.dtype != torch.uint8 or image_BHWC.ndim != 4 or image_BHWC.shape[-1] != 3:
            raise InputError(
                f"a picture batch is {tuple(image_BHWC.shape)} {image_BHWC.dtype}, "
                "expected (B, H, W, 3) torch.uint8",
                hint="Pictures stay uint8 RGB, height first, until here.",
            )
        # Contiguous: torch resizes channels-last memory in another kernel, and whether a batch of
        # one is channels-last is ambiguous. Always the same kernel gives always the same bits.
        pixels_BCHW = image_BHWC.permute(0, 3, 1, 2).to(torch.float32).contiguous()
        if list(pixels_BCHW.shape[-2:]) != self._size:
            pixels_BCHW = functional.interpolate(
                pixels_BCHW, self._size, mode="bilinear", antialias=True, align_corners=False
            )
        return pixels_BCHW / 255

    def _metres(self, depth_BHW: Tensor) -> Tensor:
        metres_B1HW = depth_BHW.to(torch.float32).unsqueeze(1) / MM_PER_M
        if list(metres_B1HW.shape[-2:]) != self._size:  # nearest: no mean of a depth and no depth
            metres_B1HW = functional.interpolate(metres_B1HW, self._size, mode="nearest-exact")
        return metres_B1HW


def draw(config: AugmentConfig, count: int, generator: torch.Generator) -> tuple[Draw, ...]:
    """`count` independent draws, a function of the state of `generator` (on the CPU)."""
    chance = torch.rand((count, 9), generator=generator, dtype=torch.float64).tolist()
    return tuple(
        Draw(
            top=c[0],
            left=c[1],
            angle_deg=config.rotation_deg * (2 * c[2] - 1),
            brightness=_factor(config.brightness, c[3]),
            contrast=_factor(config.contrast, c[4]),
            saturation=_factor(config.saturation, c[5]),
            order=_order(c[6:]),
        )
        for c in chance
    )


def _factor(strength: float, chance: float) -> float:
    """ColorJitter's range: [max(0, 1 - strength), 1 + strength)."""
    low = max(0.0, 1 - strength)
    return low + (1 + strength - low) * chance


def _order(chance: Sequence[float]) -> tuple[int, int, int]:
    first, second, third = np.argsort(chance).tolist()
    return first, second, third


def augment(images_BNCHW: Tensor, draws: Sequence[Draw], *, crop: float) -> Tensor:
    """The pictures (three channels in [0, 1]) or depths (one channel) after one draw per sample.

    Crop the share `crop` of each side and resize back, rotate, and for pictures change brightness,
    contrast and saturation; through torchvision, so that each number means what it means there.
    """
    return torch.stack(
        [
            _augment(images_NCHW, draw, crop)
            for images_NCHW, draw in zip(images_BNCHW, draws, strict=True)
        ]
    )


def _augment(images_NCHW: Tensor, draw: Draw, crop: float) -> Tensor:
    # Training alone: importing torchvision takes three times as long as torch itself.
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as vision

    height, width = images_NCHW.shape[-2:]
    kept = max(1, round(crop * height)), max(1, round(crop * width))
    color = images_NCHW.shape[1] == 3
    if kept != (height, width):
        images_NCHW = vision.resized_crop(
            images_NCHW,
            int(draw.top * (height - kept[0] + 1)),
            int(draw.left * (width - kept[1] + 1)),
            *kept,
            size=[height, width],
            interpolation=InterpolationMode.BILINEAR if color else InterpolationMode.NEAREST_EXACT,
            antialias=color,
        )
    if draw.angle_deg:
        images_NCHW = vision.rotate(
            images_NCHW,
            draw.angle_deg,
            interpolation=InterpolationMode.BILINEAR if color else InterpolationMode.NEAREST,
        )
    if color:
        for number in draw.order:
            adjust, factor = (
                (vision.adjust_brightness, draw.brightness),
                (vision.adjust_contrast, draw.contrast),
                (vision.adjust_saturation, draw.saturation),
            )[number]
            images_NCHW = adjust(images_NCHW, factor)
    return images_NCHW


def _constants(
    arrays: Sequence[VectorContract], stats: StatsRecord, train: TrainConfig
) -> tuple[Tensor, Tensor]:
    """Offset and factor of `arrays` side by side: scaled = (value - offset) / factor."""
    offsets, factors = [], []
    for array in arrays:
        if array.name not in stats.features:
            raise InputError(
                f"the statistics of {stats.dataset!r} lack {array.name!r}",
                hint=f"They have: {', '.join(stats.features)}.",
            )
        scaling = normaliser(train.normalise, stats.features[array.name], std_floor=train.std_floor)
        offsets.append(scaling.offset)
        factors.append(scaling.factor)
    return torch.from_numpy(np.concatenate(offsets)), torch.from_numpy(np.concatenate(factors))
