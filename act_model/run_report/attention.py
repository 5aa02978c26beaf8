"""Where the actions look: attention of a policy's action queries, drawn over its pictures.

Shape suffixes: B batch, N cameras, H height, W width, h and w the cells of the last map, Q queries,
S tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from act_model.dataset import Batch
from act_model.nn.backbone import STRIDE
from act_model.nn.transformer import watched
from act_model.policy import Policy

_WIDTH = 300  # of a drawn picture, in pixels
_COLOURS = torch.tensor([[40.0, 20, 90], [190, 30, 110], [250, 130, 40], [255, 240, 120]])


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMap:
    """What one camera's picture meant to the actions of a chunk, the mean over them.

    Attributes:
        share: Of all attention that went to this picture.
        image: (H, W, 3) RGB: the picture, darkened where nobody looks, coloured where many do.
    """

    camera: str
    share: float
    image: NDArray[np.uint8]


def attention_maps(policy: Policy, batch: Batch) -> tuple[tuple[AttentionMap, ...], ...]:
    """Of every sample of `batch`, one per camera; () where the family has no such attention."""
    model, family = policy.checkpoint.model, policy.family
    if not model.cameras or family.attention is None:
        return ()
    with torch.inference_mode(), watched(family.attention(policy.network)) as seen:
        policy.predict_batch(batch)
    # One that walks from noise to actions reads several times.
    weights_BS = torch.stack([each_BQS.float().mean(dim=1) for each_BQS in seen]).mean(dim=0).cpu()
    cells = [-(-side // STRIDE) for side in model.image_size]
    on_images_BT = weights_BS[:, -len(model.cameras) * cells[0] * cells[1] :]
    maps_BNhw = on_images_BT.reshape(-1, len(model.cameras), *cells)
    return tuple(
        tuple(
            AttentionMap(
                camera=name,
                share=float(map_hw.sum()),
                image=_drawn(batch.images[n][sample], map_hw / maps_BNhw[sample].max()),
            )
            for n, (name, map_hw) in enumerate(zip(model.cameras, maps_BNhw[sample], strict=True))
        )
        for sample in range(len(maps_BNhw))
    )


def _drawn(image_HWC: Tensor, map_hw: Tensor) -> NDArray[np.uint8]:
    """The picture with `map_hw`, in [0, 1], over all of it."""
    height, width = image_HWC.shape[:2]
    size = [min(2 * _WIDTH, max(1, round(height * _WIDTH / width))), _WIDTH]
    picture_CHW = _resized(image_HWC.permute(2, 0, 1).float(), size)
    strength_1HW = _resized(map_hw[None], size).clamp(0, 1)
    place_HW = strength_1HW[0] * (len(_COLOURS) - 1)
    low_HW = place_HW.floor().long().clamp(max=len(_COLOURS) - 2)
    between_HW1 = (place_HW - low_HW)[..., None]
    colour_HWC = torch.lerp(_COLOURS[low_HW], _COLOURS[low_HW + 1], between_HW1)
    alpha_1HW = 0.15 + 0.5 * strength_1HW
    blend_CHW = picture_CHW * (1 - alpha_1HW) + colour_HWC.permute(2, 0, 1) * alpha_1HW
    drawn: NDArray[np.uint8] = blend_CHW.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(drawn)


def _resized(x_CHW: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(
        x_CHW[None], list(size), mode="bilinear", antialias=True, align_corners=False
    )[0]
