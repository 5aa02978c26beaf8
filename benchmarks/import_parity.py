"""Do imported policies predict what they predicted where they come from?

    python benchmarks/import_parity.py            # real LeRobot, in an environment of its own
    python benchmarks/import_parity.py --quick    # its layout from torch's own modules
    python benchmarks/import_parity.py --json

LeRobot saves small policies with random weights and statistics, and what they predict for random
pictures and joints, through its own pre- and postprocessing. `act-model import` reads the folders;
`Policy.predict` gets the same pictures and joints. The difference is in normalised units, the goal
is 1e-5. A policy that told nothing apart would pass as well, so `spread` says how far apart the
predicted actions are from one observation to the next.
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

LEROBOT = ("lerobot==0.4.4",)
CAMERAS = ("left", "right")
GOAL = 1e-5


def saved_by_lerobot(folder: Path, python: str | None) -> Iterator[tuple[str, Path]]:
    """(name, folder) of each policy that LeRobot saved; none where it cannot be had."""
    from benchmarks.peers import python_with

    program = python or python_with("lerobot-0.4.4", LEROBOT, ("python3.11", "python3.10"))
    if program is None:
        return
    peer = HERE.parent / "peers" / "lerobot_policies.py"
    env = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [program, peer, folder], check=True, capture_output=True, text=True, env=env
    )
    for name in sorted(path.name for path in folder.iterdir()):
        yield f"lerobot {done.stdout.strip()}, {name}", folder / name


def saved_in_its_layout(folder: Path) -> Iterator[tuple[str, Path]]:
    from benchmarks.peers.act_layout import Published, save_as_lerobot

    for name, layers in (("1 decoder layer", 1), ("3 decoder layers", 3)):
        net = Published(cameras=2, joints=14, chunk=20, decoder_layers=layers)
        save_as_lerobot(folder / name, net, CAMERAS)
        yield f"rebuilt, {name}", folder / name


def compared(name: str, folder: Path, out: Path) -> dict[str, Any]:
    """One row of the table."""
    import numpy as np

    from act_data.interfaces import DatasetReader
    from act_model.legacy import ImportRequest, import_checkpoint
    from act_model.policy import Policy
    from tests.model.memory_dataset import dataset_of, schema_of

    seen = np.load(folder / "seen.npz")
    size = seen["pictures"].shape[2:4]
    joints = seen["joints"].shape[1]
    schema = schema_of(state=joints, action=joints, cameras=dict.fromkeys(CAMERAS, size))
    robot = cast(DatasetReader, dataset_of(4, schema=schema))
    import_checkpoint(ImportRequest(path=folder, out=out), robot)
    policy = Policy.load(out, "cpu")
    ours = np.stack(
        [
            policy.predict(
                {"qpos": state}
                | {f"images/{c}": picture for c, picture in zip(CAMERAS, pictures, strict=True)}
            )
            for pictures, state in zip(seen["pictures"], seen["joints"], strict=True)
        ]
    )
    theirs = seen["actions"] / seen["std"]
    return {
        "name": name,
        "difference": float(np.abs(ours / seen["std"] - theirs).max()),
        "spread": float(np.abs(np.diff(theirs, axis=0)).max()),
        "parameters": sum(p.numel() for p in policy.network.parameters()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without LeRobot")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--python", help="an interpreter that has lerobot [makes one, once: 5 GB]")
    args = parser.parse_args()
    with TemporaryDirectory() as scratch:
        there, ours = Path(scratch) / "theirs", Path(scratch) / "ours"
        saved = saved_in_its_layout(there) if args.quick else saved_by_lerobot(there, args.python)
        rows = [compared(name, folder, ours / str(n)) for n, (name, folder) in enumerate(saved)]
    if args.json:
        print(json.dumps({"goal": GOAL, "rows": rows}, indent=2))
    else:
        for row in rows:
            print(
                f"{row['name']:44} {row['parameters']:>11,} parameters  largest difference "
                f"{row['difference']:.1e}  spread {row['spread']:.2f}"
            )
    if any(row["difference"] > GOAL for row in rows):
        sys.exit(f"more than {GOAL}")


if __name__ == "__main__":
    main()
