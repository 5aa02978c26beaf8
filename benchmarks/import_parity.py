"""Do imported policies predict what they predicted where they come from?

    python benchmarks/import_parity.py --act PATH --act-plus-plus PATH --cobot-magic PATH
    python benchmarks/import_parity.py            # LeRobot alone
    python benchmarks/import_parity.py --quick    # the layouts, rebuilt from torch's own modules
    python benchmarks/import_parity.py --json

The paths are checkouts of tonyzhaozh/act, MarkFzp/act-plus-plus and agilexrobotics/cobot_magic.
Each program's own code, in an environment of its own, builds policies, takes training steps
(LeRobot's have random weights), saves them as it does, and says what they predict for random
pictures and joints. `act-model import` reads the files; `Policy.predict` gets the same pictures and
joints. The difference is in normalised units, the goal is 1e-5. A policy that told nothing apart
would pass as well, so `spread` says how far apart the predicted actions are from one observation to
the next.

`loss` compares a training step, with the posterior, the same draw of the style, padding and dropout
0: L1 and KL. The original's L1 is a mean over padding, too, so ours is multiplied by the share of
valid steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))

from benchmarks.peers import ACT, LEROBOT, NEWER, python_with  # noqa: E402

PROGRAMS = ("act", "act-plus-plus", "cobot_magic")
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
GOAL = 1e-5


def saved_by_lerobot(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder) of each policy that LeRobot saved; none where it cannot be had."""
    program = python_with("lerobot", LEROBOT, NEWER)
    if program is None:
        return
    said = _run(program, "lerobot_policies.py", folder)
    for name in sorted(path.name for path in folder.iterdir()):
        yield f"lerobot {said.strip()}, {name}", folder / name


def saved_by_originals(folder: Path, checkouts: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    """Likewise, of the programs that there are checkouts of."""
    program = python_with("act", ACT, NEWER) if checkouts else None
    if program is None:
        return
    for name, checkout in checkouts.items():
        _run(program, "act_originals.py", "save", folder / name, name, checkout.resolve())
        for variant in sorted(path.name for path in (folder / name).iterdir()):
            yield f"{name}, {variant}", folder / name / variant


def _run(python: Path, peer: str, *arguments: object) -> str:
    env = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    words = [str(word) for word in (python, HERE.parent / "peers" / peer, *arguments)]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout


def saved_in_its_layout(folder: Path) -> Iterator[tuple[str, Path]]:
    from benchmarks.peers.act_layout import Published, save_as_aloha, save_as_lerobot

    for layers in (1, 3):
        name = f"lerobot, {layers} decoder layers"
        net = Published(cameras=2, joints=14, chunk=20, decoder_layers=layers)
        save_as_lerobot(folder / name, net, CAMERAS[:2])
        yield f"rebuilt {name}", folder / name
    for program in PROGRAMS:
        net = Published(cameras=2, joints=14, chunk=20, per_camera=program != "act")
        save_as_aloha(folder / program, net, program)
        yield f"rebuilt {program}", folder / program


def compared(name: str, folder: Path, out: Path) -> dict[str, Any]:
    """One row of the table."""
    import numpy as np

    from act_data.interfaces import DatasetReader
    from act_model.legacy import ImportRequest, import_checkpoint
    from act_model.policy import Policy
    from tests.model.memory_dataset import dataset_of, schema_of

    seen = np.load(folder / "seen.npz")
    cameras = CAMERAS[: seen["pictures"].shape[1]]
    sizes = dict.fromkeys(cameras, seen["pictures"].shape[2:4])
    schema = schema_of(
        state=seen["joints"].shape[1],
        action=seen["actions"].shape[-1],
        cameras=sizes,
        depth=sizes if "depth" in seen else {},
    )
    robot = cast(DatasetReader, dataset_of(4, schema=schema))
    request = ImportRequest(
        path=folder,
        out=out,
        cameras=cameras,
        allow_pickle=True,
        vq_classes=int(seen["vq"]) or None if "vq" in seen else None,
    )
    import_checkpoint(request, robot)
    policy = Policy.load(out, "cpu")
    ours = np.stack(
        [policy.predict(_observation(seen, cameras, n)) for n in range(len(seen["joints"]))]
    )
    theirs = seen["actions"] / seen["std"]
    return {
        "name": name,
        "difference": float(np.abs(ours / seen["std"] - theirs).max()),
        "spread": float(np.abs(np.diff(theirs, axis=0)).max()),
        "loss": _loss_difference(policy, seen) if "l1" in seen else None,
        "parameters": sum(p.numel() for p in policy.network.parameters()),
    }


def _observation(seen: Any, cameras: tuple[str, ...], n: int) -> dict[str, Any]:
    found = {"qpos": seen["joints"][n]}
    for place, camera in enumerate(cameras):
        found[f"images/{camera}"] = seen["pictures"][n, place]
        if "depth" in seen:
            found[f"depth/{camera}"] = seen["depth"][n, place]
    return found


def _loss_difference(policy: Any, seen: Any) -> float:
    """The larger of the two differences, of L1 and of KL, in a training step."""
    import torch

    from act_model.config import LossConfig
    from act_model.nn import act_loss

    network, transform = policy.network.train(), policy.transform
    for module in network.modules():
        if isinstance(getattr(module, "dropout", None), float):  # of attention
            module.dropout = 0.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    images, state, targets, is_pad = (
        torch.from_numpy(seen[name]) for name in ("pictures", "joints", "targets", "is_pad")
    )
    depth = transform.depth(torch.from_numpy(seen["depth"])) if "depth" in seen else None
    # One without an encoder sees no actions in training either.
    actions = targets if seen["has_style"] else None
    torch.manual_seed(int(seen["seed"]))
    with torch.no_grad():
        output = network(transform.images(images), transform.state(state), actions, is_pad, depth)
        losses = act_loss(output, targets, is_pad, LossConfig())
    share = float((~is_pad).float().mean())
    l1 = abs(float(losses.reconstruction) * share - float(seen["l1"]))
    return max(l1, abs(float(losses.kl) - float(seen["kl"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without any other program")
    parser.add_argument("--json", action="store_true")
    for name in PROGRAMS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, help="a checkout of it")
    args = parser.parse_args()
    asked = {name: getattr(args, name.replace("-", "_")) for name in PROGRAMS}
    checkouts = {name: path for name, path in asked.items() if path is not None}

    def saved(folder: Path) -> Iterator[tuple[str, Path]]:
        if args.quick:
            yield from saved_in_its_layout(folder)
        else:
            yield from saved_by_lerobot(folder / "lerobot")
            yield from saved_by_originals(folder, checkouts)

    with TemporaryDirectory() as scratch:
        there, ours = Path(scratch) / "theirs", Path(scratch) / "ours"
        rows = [
            compared(name, folder, ours / str(n)) for n, (name, folder) in enumerate(saved(there))
        ]
    if args.json:
        print(json.dumps({"goal": GOAL, "rows": rows}, indent=2))
    else:
        print(f"{'':44}{'parameters':>12}{'difference':>12}{'loss':>10}{'spread':>8}")
        for row in rows:
            loss = "-" if row["loss"] is None else f"{row['loss']:.1e}"
            print(
                f"{row['name']:44}{row['parameters']:>12,}{row['difference']:>12.1e}{loss:>10}"
                f"{row['spread']:>8.2f}"
            )
    if any(max(row["difference"], row["loss"] or 0.0) > GOAL for row in rows):
        sys.exit(f"more than {GOAL}")


if __name__ == "__main__":
    main()
