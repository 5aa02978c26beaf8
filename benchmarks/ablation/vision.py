"""Five small convolutions in place of a ResNet, offered as any installed package offers one."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

BACKBONE = "plugin:ablation"


class Backbone(nn.Sequential):
    """(B, 3, H, W) to (B, 64, H / 32, W / 32)."""

    channels = 64

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for narrow, wide in ((3, 16), (16, 24), (24, 32), (32, 48), (48, self.channels)):
            layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.ReLU()]
        super().__init__(*layers)


def offer(folder: Path) -> None:
    """Install, for this process, a package in `folder` that has this backbone as entry point."""
    package = folder / "act_ablation-1.dist-info"
    package.mkdir(parents=True, exist_ok=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: act-ablation\nVersion: 1\n")
    entry = f"[act_model.backbones]\nablation = {__name__}:Backbone\n"
    (package / "entry_points.txt").write_text(entry)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
