"""From what a robot sees to what it does: our policy beside the original's structure and LeRobot.

    python benchmarks/inference.py            # published size, 3 cameras 480x640
    python benchmarks/inference.py --quick    # a small network, without LeRobot: no download
    python benchmarks/inference.py --json

All in turns, with the same number of threads, on the CPU, from uint8 pictures and joints to a chunk
of actions in radians:

original   the structure of tonyzhaozh/act (peers/act_structure.py: 7 decoder layers, one used),
           camera by camera, its batch norms beside their convolutions, its own way from pictures
           to tensors
ours       `Policy.predict`, 4 decoder layers, all used
onnx       the same policy exported and run by ONNX Runtime
ours-1     `Policy.predict` with 1 decoder layer, as LeRobot's default network has
onnx-1     the same exported
lerobot    LeRobot 0.6.1 in an environment of its own: its preprocessing, `predict_action_chunk`,
           its postprocessing; the same sizes as ours-1. Its weights are random, as all here are:
           what is compared is time, which they do not change.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))

CAMERAS = ("cam_0", "cam_1", "cam_2")
JOINTS = 14


# --- inside the environment of LeRobot --------------------------------------------------------


def inside(height: int, width: int, threads: int) -> None:
    """One prediction for each line on stdin; its milliseconds on stdout."""
    import numpy as np
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.act.processor_act import make_act_pre_post_processors
    from lerobot.policies.utils import prepare_observation_for_inference

    torch.set_num_threads(threads)
    images = {f"observation.images.{name}": (3, height, width) for name in CAMERAS}
    inputs = {name: PolicyFeature(FeatureType.VISUAL, shape) for name, shape in images.items()}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (JOINTS,))
    config = ACTConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
        pretrained_backbone_weights=None,
        device="cpu",
    )
    one = {"mean": torch.zeros(JOINTS), "std": torch.ones(JOINTS)}
    color = {"mean": torch.full((3, 1, 1), 0.45), "std": torch.full((3, 1, 1), 0.22)}
    stats = {"observation.state": one, "action": one} | dict.fromkeys(images, color)
    policy = ACTPolicy(config).eval()
    before, after = make_act_pre_post_processors(config, stats)
    rng = np.random.default_rng(0)
    seen: dict[str, Any] = {
        name: rng.integers(0, 256, (height, width, 3), np.uint8) for name in images
    }
    seen["observation.state"] = rng.normal(size=JOINTS).astype(np.float32)
    for _ in sys.stdin:
        start = time.perf_counter()
        with torch.inference_mode():
            ready = prepare_observation_for_inference(dict(seen), torch.device("cpu"))
            actions = after(policy.predict_action_chunk(before(ready)))
        taken = (time.perf_counter() - start) * 1e3
        assert actions.shape == (1, config.chunk_size, JOINTS)
        print(taken, flush=True)


# --- here -------------------------------------------------------------------------------------


def original(config: Any, seen: dict[str, Any]) -> Callable[[], object]:
    """The original's inference: z = 0, one ResNet call per camera."""
    import numpy as np
    import torch
    from torch import nn
    from torchvision import models
    from torchvision.ops import FrozenBatchNorm2d
    from torchvision.transforms import Normalize

    from benchmarks.peers.act_structure import OriginalAct, OriginalDecoderLayer

    network = OriginalAct(config).eval()
    resnet = models.resnet18(weights=None, norm_layer=FrozenBatchNorm2d)
    backbone = nn.Sequential(*list(resnet.children())[:-2]).eval()
    normalize = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    names = [f"images/{name}" for name in config.cameras]
    mean, std = np.zeros(JOINTS, np.float32), np.ones(JOINTS, np.float32)

    def predict() -> object:
        with torch.inference_mode():
            stacked = np.stack([seen[name].transpose(2, 0, 1) for name in names])
            pictures = normalize(torch.from_numpy(stacked / 255.0).float()[None])
            state = torch.from_numpy((seen["qpos"] - mean) / std).float()[None]
            z = network.latent_out(torch.zeros(1, config.latent_dim))
            maps, cells = [], []
            for n in range(len(names)):
                features = network.input_proj(backbone(pictures[:, n]))
                maps.append(features.flatten(2).permute(2, 0, 1))
                cells.append(network.cells(features))
            memory = torch.cat([z[None], network.state(state)[None], *maps])
            position = torch.cat([network.extra_position.weight, *cells])[:, None]
            for layer in network.encoder_layers:
                memory = layer(memory, position, None)
            query = network.queries.weight[:, None]
            x, kept = torch.zeros_like(query), []
            for layer in network.decoder_layers:
                assert isinstance(layer, OriginalDecoderLayer)
                x = layer.decode(x, query, memory, position)
                kept.append(network.decoder_norm(x))
            decoded = torch.stack(kept)[0].transpose(0, 1)
            network.is_pad_head(decoded)
            actions: object = network.action_head(decoded).numpy()[0] * std + mean
            return actions

    return predict


def lerobot(stack: ExitStack, picture: tuple[int, int], threads: int) -> Callable[[], float] | None:
    """Milliseconds of one prediction in LeRobot's process; None where it cannot be had."""
    from benchmarks.peers import LEROBOT, NEWER, python_with

    python = python_with("lerobot", LEROBOT, NEWER)
    if python is None:
        return None
    child = stack.enter_context(
        subprocess.Popen(
            [python, HERE, "--inside", *map(str, (*picture, threads))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
        )
    )
    stack.callback(child.kill)

    def predict() -> float:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
        return float(child.stdout.readline())

    return predict


def timed(predict: Callable[[], object]) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        predict()
        return (time.perf_counter() - start) * 1e3

    return once


def multiplying(file: Path, seen: dict[str, Any], threads: int) -> float:
    """Which share of an exported policy's time its convolutions and matrix products take.

    By ONNX Runtime's own profile: what is left is all that another graph could save.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.log_severity_level = 3
    options.profile_file_prefix = str(file.with_suffix(""))
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    for _ in range(3):
        session.run(None, {i.name: seen[i.name][None] for i in session.get_inputs()})
    took = {True: 0, False: 0}
    for event in json.loads(Path(session.end_profiling()).read_bytes()):
        if event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            took[kind in ("Conv", "FusedConv", "Gemm") or "MatMul" in kind] += event["dur"]
    return took[True] / sum(took.values())


def runtime_products(threads: int, quick: bool) -> Callable[[], float]:
    """FLOP/s of ONNX Runtime in one thing alone: the best of a large product and a convolution.

    The convolution is one of the backbone's: 3x3, 128 channels, three pictures of 60x80.
    """
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import helper

    side, (channels, height, width) = (256, (16, 12, 16)) if quick else (2048, (128, 60, 80))
    rng = np.random.default_rng(0)
    square = rng.normal(size=(side, side)).astype(np.float32)
    pictures = rng.normal(size=(3, channels, height, width)).astype(np.float32)
    weights = rng.normal(size=(channels, channels, 3, 3)).astype(np.float32)
    works: list[tuple[str, dict[str, Any], Any, Any, int]] = [
        ("MatMul", {}, square, square, 2 * side**3),
        ("Conv", {"pads": [1, 1, 1, 1]}, pictures, weights, 2 * 9 * channels * pictures.size),
    ]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    runs = []
    for kind, fields, given, constant, count in works:
        graph = helper.make_graph(
            [helper.make_node(kind, ["given", "constant"], ["made"], **fields)],
            kind,
            [helper.make_tensor_value_info("given", onnx.TensorProto.FLOAT, given.shape)],
            [helper.make_tensor_value_info("made", onnx.TensorProto.FLOAT, None)],
            [onnx.numpy_helper.from_array(constant, "constant")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        runs.append((session, given, count))

    def best() -> float:
        rates = []
        for session, given, count in runs:
            for _ in range(3):
                start = time.perf_counter()
                session.run(None, {"given": given})
                rates.append(count / (time.perf_counter() - start))
        return max(rates)

    return best


def contenders(
    stack: ExitStack,
    quick: bool,
    threads: int,
    shares: dict[str, float],
    flops: dict[str, float],
) -> dict[str, Callable[[], float]]:
    """By name; of the exported ones `shares` gets how much is multiplying, `flops` how many."""
    import torch

    from act_model import runtime
    from act_model.config import ModelConfig
    from act_model.export.onnx_file import export_onnx
    from act_model.policy import Policy
    from benchmarks.peers.compute import forward_flops
    from benchmarks.peers.serving import observation, save_checkpoint

    torch.set_num_threads(threads)
    small = {"hidden_dim": 64, "feedforward_dim": 128, "chunk_size": 20, "encoder_layers": 1}
    picture = (96, 128) if quick else (480, 640)
    config = ModelConfig.model_validate(
        {"state_dim": JOINTS, "action_dim": JOINTS, "cameras": CAMERAS, "image_size": picture}
        | (small if quick else {})
    )
    seen = observation(config, picture)
    found = {"original": timed(original(config, seen))}
    for suffix, layers in (("", 4), ("-1", 1)):
        model = config.model_copy(update={"decoder_layers": layers})
        folder = Path(stack.enter_context(TemporaryDirectory())) / "best"
        eager = Policy.load(save_checkpoint(folder, model, picture), "cpu")
        export_onnx(eager, runtime.onnx_file_of(folder))
        exported = runtime.load(folder, "onnx", "cpu")
        shares[f"onnx{suffix}"] = multiplying(runtime.onnx_file_of(folder), seen, threads)
        flops[f"onnx{suffix}"] = forward_flops(eager)
        for name, policy in (("ours", eager), ("onnx", exported)):
            found[name + suffix] = timed(lambda policy=policy: policy.predict(seen))  # type: ignore[misc]
    if not quick and (peer := lerobot(stack, picture, threads)) is not None:
        found["lerobot"] = peer
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    from benchmarks.peers.compute import matmul_flops

    threads = int(os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1)))
    rounds = 2 if args.quick else args.rounds
    with ExitStack() as stack:
        shares: dict[str, float] = {}
        flops: dict[str, float] = {}
        entrants = contenders(stack, args.quick, threads, shares, flops)
        peak = runtime_peak = 0.0
        products = runtime_products(threads, args.quick)
        times: dict[str, list[float]] = {name: [] for name in entrants}
        for turn in range(rounds + 2):
            peak = max(peak, matmul_flops(512 if args.quick else 2048, "cpu", times=3))
            runtime_peak = max(runtime_peak, products())
            for name, once in entrants.items():
                taken = once()
                if turn >= 2:  # the first ones warm up
                    times[name].append(taken)
    median = {name: statistics.median(taken) for name, taken in times.items()}
    peer = median.get("lerobot")
    rows = [
        {
            "name": name,
            "median_ms": round(median[name], 2),
            "min_ms": round(min(taken), 2),
            "of_original": round(median[name] / median["original"], 3),
            "of_lerobot": None if peer is None else round(median[name] / peer, 3),
        }
        for name, taken in times.items()
    ]
    if args.json:
        found = {"threads": threads, "rounds": rounds, "rows": rows, "multiplying": shares}
        found |= {"flop": flops, "peak_flop_per_s": peak, "runtime_peak_flop_per_s": runtime_peak}
        print(json.dumps(found, indent=2))
        return
    print(f"observation to actions on the CPU, {threads} threads, {rounds} rounds in turns")
    print(f"{'':10}{'median ms':>11}{'min ms':>9}{'of original':>13}{'of lerobot':>12}")
    for row in rows:
        ratio = "-" if row["of_lerobot"] is None else f"{row['of_lerobot']:.2f}"
        print(
            f"{row['name']:10}{row['median_ms']:11.1f}{row['min_ms']:9.1f}"
            f"{row['of_original']:13.2f}{ratio:>12}"
        )
    for name, share in shares.items():
        print(f"{name}: {share:.0%} of it in convolutions and matrix products")
    for name, count in flops.items():
        print(
            f"{name}: {count / 1e9:.0f} GFLOP, for which the best large matrix product here "
            f"({peak / 1e9:.0f} GFLOP/s by torch, {runtime_peak / 1e9:.0f} by ONNX Runtime) would "
            f"need {1e3 * count / peak:.0f} ms, {1e3 * count / runtime_peak:.0f} ms"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*map(int, sys.argv[2:5]))
    else:
        main()
