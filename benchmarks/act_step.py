"""One training step of ActCvae beside the structure of the original ACT, in turns.

    python benchmarks/act_step.py            # published size, 1 camera 480x640, batch 2
    python benchmarks/act_step.py --quick    # seconds, for a machine that should not judge time
    python benchmarks/act_step.py --json

The original's structure is restated here from torch.nn modules: MultiheadAttention, a decoder
of 7 layers that starts from zeros and of which the first one's output is used, an is_pad head
that no loss reads, a mean over padding. Both sides share the ResNet, so that what differs is
the transformer. "Dead" parameters are those whose gradient is zero after one step.

Shape suffixes: B batch, N cameras, C channels, H height, W width, K action chunk, S state dim,
A action dim, D hidden dim, T tokens, h and w of a feature map.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from act_model.config import LossConfig, ModelConfig
from act_model.nn import ActCvae, act_loss
from act_model.nn.backbone import CameraBackbone
from act_model.nn.position import SinePosition2d, sinusoid_table

DEAD_BELOW = 1e-12  # largest gradient of a parameter that counts as none


class OriginalEncoderLayer(nn.Module):
    """DETR's post-norm layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, inner = config.hidden_dim, config.feedforward_dim
        self.attention = nn.MultiheadAttention(dim, config.heads, config.dropout)
        self.linear1, self.linear2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_TBD: Tensor, position_T1D: Tensor, pad_BT: Tensor | None) -> Tensor:
        placed = x_TBD + position_T1D
        mixed = self.attention(placed, placed, x_TBD, key_padding_mask=pad_BT)[0]
        x_TBD = self.norm1(x_TBD + self.dropout(mixed))
        hidden = self.dropout(self.linear1(x_TBD).relu())
        out_TBD: Tensor = self.norm2(x_TBD + self.dropout(self.linear2(hidden)))
        return out_TBD


class OriginalDecoderLayer(OriginalEncoderLayer):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.cross = nn.MultiheadAttention(config.hidden_dim, config.heads, config.dropout)
        self.norm3 = nn.LayerNorm(config.hidden_dim)

    def decode(self, x_KBD: Tensor, query_K1D: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        placed = x_KBD + query_K1D
        x_KBD = self.norm1(x_KBD + self.dropout(self.attention(placed, placed, x_KBD)[0]))
        read = self.cross(x_KBD + query_K1D, memory + position, memory)[0]
        x_KBD = self.norm2(x_KBD + self.dropout(read))
        hidden = self.dropout(self.linear1(x_KBD).relu())
        out_KBD: Tensor = self.norm3(x_KBD + self.dropout(self.linear2(hidden)))
        return out_KBD


class OriginalAct(nn.Module):
    """Seven decoder layers, one used; cameras without identity; sequence first."""

    table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, layer = config.hidden_dim, OriginalEncoderLayer
        self.config = config
        self.backbone = CameraBackbone(config.backbone, 1, per_camera=False)
        self.input_proj = nn.Conv2d(self.backbone.channels, dim, 1)
        self.cells = SinePosition2d(dim)
        self.style_layers = nn.ModuleList(layer(config) for _ in range(config.style_layers))
        self.encoder_layers = nn.ModuleList(layer(config) for _ in range(config.encoder_layers))
        self.decoder_layers = nn.ModuleList(OriginalDecoderLayer(config) for _ in range(7))
        self.decoder_norm = nn.LayerNorm(dim)
        self.cls, self.queries = nn.Embedding(1, dim), nn.Embedding(config.chunk_size, dim)
        self.extra_position = nn.Embedding(2, dim)
        self.style_state = nn.Linear(config.state_dim, dim)
        self.style_action = nn.Linear(config.action_dim, dim)
        self.latent_proj = nn.Linear(dim, 2 * config.latent_dim)
        self.latent_out = nn.Linear(config.latent_dim, dim)
        self.state = nn.Linear(config.state_dim, dim)
        self.action_head = nn.Linear(dim, config.action_dim)
        self.is_pad_head = nn.Linear(dim, 1)
        self.register_buffer("table", sinusoid_table(config.chunk_size + 2, dim)[:, None])

    def forward(
        self, images_BNCHW: Tensor, state_BS: Tensor, actions_BKA: Tensor, is_pad_BK: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch = len(state_BS)
        cls_1BD = self.cls.weight[:, None].expand(-1, batch, -1)
        actions_KBD = self.style_action(actions_BKA).transpose(0, 1)
        style = torch.cat([cls_1BD, self.style_state(state_BS)[None], actions_KBD])
        pad_BT = torch.cat([is_pad_BK.new_zeros(batch, 2), is_pad_BK], dim=1)
        for layer in self.style_layers:
            style = layer(style, self.table, pad_BT)
        mu, logvar = self.latent_proj(style[0]).chunk(2, dim=-1)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()

        maps, cells = [], []
        for n in range(images_BNCHW.shape[1]):  # camera by camera
            features_BDhw = self.input_proj(self.backbone(images_BNCHW[:, n : n + 1])[:, 0])
            maps.append(features_BDhw.flatten(2).permute(2, 0, 1))
            cells.append(self.cells(features_BDhw))
        memory = torch.cat([self.latent_out(z)[None], self.state(state_BS)[None], *maps])
        position = torch.cat([self.extra_position.weight, *cells])[:, None]
        for layer in self.encoder_layers:
            memory = layer(memory, position, None)
        query_K1D = self.queries.weight[:, None]
        x_KBD = torch.zeros_like(query_K1D).expand(-1, batch, -1)
        kept = []
        for layer in self.decoder_layers:
            assert isinstance(layer, OriginalDecoderLayer)
            x_KBD = layer.decode(x_KBD, query_K1D, memory, position)
            kept.append(self.decoder_norm(x_KBD))
        decoded_BKD = torch.stack(kept)[0].transpose(0, 1)
        self.is_pad_head(decoded_BKD)
        return self.action_head(decoded_BKD), mu, logvar


@dataclass(frozen=True, kw_only=True)
class Contender:
    name: str
    model: nn.Module
    loss: Callable[[], Tensor]
    optimiser: torch.optim.Optimizer

    def step(self) -> float:
        """Milliseconds of forward, backward and optimiser."""
        start = time.perf_counter()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(self.loss())
        self.optimiser.step()
        return (time.perf_counter() - start) * 1e3

    def gflop(self) -> float:
        """Operations of one step, in 10^9: unlike time, the same on every machine."""
        with FlopCounterMode(display=False) as counter:
            self.step()
        return float(counter.get_total_flops()) / 1e9

    def dead_share(self) -> float:
        """Share of parameters whose whole tensor has no gradient after the last step."""
        parameters = list(self.model.parameters())
        dead = sum(
            p.numel() for p in parameters if p.grad is None or p.grad.abs().max() < DEAD_BELOW
        )
        return dead / sum(p.numel() for p in parameters)


def contenders(config: ModelConfig, batch: int) -> list[Contender]:
    torch.manual_seed(0)
    images = torch.randn(batch, len(config.cameras), 3, *config.image_size)
    state = torch.randn(batch, config.state_dim)
    actions = torch.randn(batch, config.chunk_size, config.action_dim)
    is_pad = torch.zeros(batch, config.chunk_size, dtype=torch.bool)
    is_pad[-1, config.chunk_size // 2 :] = True

    def ours(model: ActCvae) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            output = model(images, state, actions, is_pad)
            return act_loss(output, actions, is_pad, LossConfig()).total

        return loss

    def theirs(model: OriginalAct) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            predicted, mu, logvar = model(images, state, actions, is_pad)
            l1: Tensor = ((predicted - actions).abs() * ~is_pad[..., None]).mean()
            kl: Tensor = (-0.5 * (1 + logvar - mu.square() - logvar.exp())).sum(-1).mean()
            return l1 + 10 * kl

        return loss

    original = OriginalAct(config)
    deep = ActCvae(config.model_copy(update={"decoder_layers": 4}))
    default = ActCvae(config)
    entries: list[tuple[str, nn.Module, Callable[[], Tensor]]] = [
        ("original structure, 7 decoder layers, 1 used", original, theirs(original)),
        ("ours, 4 decoder layers, all used", deep, ours(deep)),
        (f"ours, {config.decoder_layers} decoder layer", default, ours(default)),
    ]
    return [
        Contender(
            name=name,
            model=model,
            loss=loss,
            optimiser=torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=1e-4),
        )
        for name, model, loss in entries
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4, help="timed steps of each, in turns")
    parser.add_argument("--quick", action="store_true", help="a small network and picture")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    small = {"image_size": (96, 128), "hidden_dim": 64, "feedforward_dim": 128, "chunk_size": 20}
    size = {"state_dim": 14, "action_dim": 14, "cameras": ("top",)}
    config = ModelConfig.model_validate(size | (small if args.quick else {}))
    batch = 2

    entrants = contenders(config, batch)
    gflop = [entrant.gflop() for entrant in entrants]  # and warm up
    dead = [entrant.dead_share() for entrant in entrants]
    times: list[list[float]] = [[] for _ in entrants]
    for _ in range(args.rounds):
        for entrant, taken in zip(entrants, times, strict=True):
            gc.collect()
            taken.append(entrant.step())
    rows = [
        {
            "name": entrant.name,
            "median_ms": statistics.median(taken),
            "min_ms": min(taken),
            # Of the minima: other work on the machine only ever adds time.
            "speed_vs_original": min(times[0]) / min(taken),
            "gflop": work,
            "parameters": sum(p.numel() for p in entrant.model.parameters()),
            "dead_share": share,
        }
        for entrant, taken, work, share in zip(entrants, times, gflop, dead, strict=True)
    ]
    height, width = config.image_size
    setup = {
        "batch": batch,
        "cameras": len(config.cameras),
        "image": [height, width],
        "rounds": args.rounds,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    if args.json:
        print(json.dumps({"setup": setup, "rows": rows}, indent=2))
        return
    print(f"train step on CPU, batch {batch}, 1 camera {height}x{width}, {args.rounds} rounds")
    heads = ("median ms", "min ms", "speed", "GFLOP", "parameters", "dead")
    print(f"{'':46}" + "".join(f"{head:>11}" for head in heads))
    for row in rows:
        print(
            f"{row['name']:46}{row['median_ms']:11.0f}{row['min_ms']:11.0f}"
            f"{row['speed_vs_original']:10.2f}x{row['gflop']:11.1f}"
            f"{row['parameters']:11,}{row['dead_share']:11.1%}"
        )


if __name__ == "__main__":
    main()
