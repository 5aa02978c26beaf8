"""What a training sample costs to read, beside the decoder alone and beside what others do.

    python benchmarks/loader.py              # minutes; LeRobot in an environment of its own
    python benchmarks/loader.py --quick      # seconds, without LeRobot
    python benchmarks/loader.py --json

A sample is three 640x480 pictures at a random step of one episode, qpos, and 100 actions. CPU
milliseconds per sample, page cache warm. One after the other ("read"), and through a loader with
two workers and batches of 8, everything included that it starts ("loader"). "uint8" rows deliver
the bytes of the pictures; the others (B, 3, 480, 640) float32 in [0, 1], as the originals do: there
ours are converted after the loader, in the training process, into memory that is used again. "ours
raw" reads what `act-data cache --raw` makes: as many bytes on disk as ALOHA's.

"memory" is the most that the process and its workers hold beyond what it held before the first
batch, shared pages counted once; the model's own is not in it.

Then writing: bytes per picture, and pictures per second from memory to a committed, flushed
dataset. "kept" passes JPEG files of a camera through; "plain file" writes the same bytes to one
file and flushes it.

Every measurement is a process of its own (not with --quick), in turns; the least of the rounds is
shown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))

from benchmarks.peers import LEROBOT, NEWER, python_with  # noqa: E402
from benchmarks.peers.cost import BATCH, of_loading, of_memory, of_reading, tell  # noqa: E402

CODECS = ("kept", "jpeg", "zstd", "blosc", "raw")
MAX_FLOOR_RATIO, MAX_ZARR_RATIO, MAX_PEER_RATIO = 1.10, 0.5, 0.35
MAX_MEMORY_MIB = 1024
MIN_KEPT_PER_S, MIN_PLAIN_SHARE = 4000, 0.5
LEROBOT_ROWS = (("sample", ()), ("sample", ("uint8",)), ("loader", ("uint8",)), ("loader", ()))


# --- what runs in a process of its own ----------------------------------------------------------


def measure(kind: str, name: str, folder: Path, steps: int, samples: int) -> dict[str, float]:
    import torch

    from benchmarks.peers import loaders

    torch.set_num_threads(1)
    if kind == "read":
        return of_reading(loaders.READING[name](folder), steps, samples)
    if kind == "loader":
        return of_loading(loaders.LOADING[name](folder), steps, samples)
    if kind == "memory":
        return of_memory(loaders.LOADING[name](folder), steps, samples)
    return writing(name, folder, samples)


def writing(codec: str, folder: Path, pictures: int) -> dict[str, float]:
    """Wall seconds per picture and bytes per picture; "plain file" has the bytes of "kept"."""
    import numpy as np

    from act_data.store import jpeg
    from act_data.types import EncodedImage
    from benchmarks.make_bag import ring
    from benchmarks.peers.loaders import JOINTS, QUALITY, SHAPE, write_dataset

    raw = ring(0)
    files = [jpeg.encode(picture, QUALITY) for picture in raw]
    kept = [EncodedImage(data=file, shape=SHAPE) for file in files]
    source: Sequence[Any] = kept if codec == "kept" else raw
    write_dataset(folder / "first.zarr", [[raw[0]]], np.zeros((1, 2, JOINTS), np.float32))
    if codec in ("kept", "plain file"):
        pictures *= 10  # they take so little time
    numbers = np.zeros((pictures, 2, JOINTS), np.float32)
    frames = [[source[t % len(source)]] for t in range(pictures)]
    out = folder / ("written" if codec == "plain file" else "written.zarr")
    began_s, cpu_s = time.perf_counter(), time.process_time()
    if codec == "plain file":
        with out.open("wb") as plain:
            for t in range(pictures):
                plain.write(files[t % len(files)])
            plain.flush()
            os.fsync(plain.fileno())
    else:
        write_dataset(out, frames, numbers, "jpeg" if codec == "kept" else codec)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    shards = [f for f in out.glob("data/images/*/c/**/*") if f.is_file()]
    written = [out] if out.is_file() else shards
    size = sum(f.stat().st_size for f in written)
    subprocess.run(["rm", "-rf", str(out), str(folder / "first.zarr")], check=True)
    return {
        "cpu_ms": cpu_s / pictures * 1e3,
        "wall_ms": wall_s / pictures * 1e3,
        "bytes": size / pictures,
        "per_s": pictures / wall_s,
    }


# --- measuring ----------------------------------------------------------------------------------


def run(command: Sequence[object], folder: Path) -> dict[str, float]:
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"),
    }  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(str(part) for part in command)} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    return found


def contenders(folder: Path, steps: int, samples: int, lerobot: Path | None) -> dict[Any, Any]:
    """The command of every measurement, by (kind, name)."""
    from benchmarks.peers import loaders

    rows = [("read", name) for name in loaders.READING]
    rows += [("loader", name) for name in loaders.LOADING]
    rows += [("memory", name) for name in ("ours, threads uint8", "ours, DataLoader uint8")]
    rows += [("write", name) for name in ("plain file", *CODECS)]
    commands = {
        row: [sys.executable, HERE, "--only", *row, folder, steps, samples] for row in rows
    }  # fmt: skip
    if lerobot is not None:
        script = HERE.parent / "peers" / "lerobot_loader.py"
        run([lerobot, script, "make", folder / "lerobot", folder / "raw", steps], folder)
        for what, extra in LEROBOT_ROWS:
            kind = "read" if what == "sample" else "loader"
            row = (kind, " ".join(("LeRobot", *extra)))
            commands[row] = [lerobot, script, what, folder / "lerobot", steps, samples, *extra]
    return commands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of the episode [300]")
    parser.add_argument("--samples", type=int, default=400, help="of each measurement [400]")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns [3]")
    parser.add_argument("--quick", action="store_true", help="16 steps, one round, no LeRobot")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        kind, name, folder, steps, samples = options.only
        tell(measure(kind, name, Path(folder), int(steps), int(samples)))
        return
    steps, samples, rounds = options.steps, options.samples, options.rounds
    if options.quick:
        steps, samples, rounds = 16, 2 * BATCH, 1
    lerobot = None if options.quick else python_with("lerobot", LEROBOT, NEWER)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        from benchmarks.peers import loaders

        loaders.make(folder, steps)
        commands = contenders(folder, steps, samples, lerobot)
        found: dict[Any, list[dict[str, float]]] = {row: [] for row in commands}
        for _ in range(rounds):
            for row, command in commands.items():
                if options.quick:  # in this process: most of a short one is importing torch
                    kind, name = row
                    found[row].append(measure(kind, name, folder, steps, samples))
                else:
                    found[row].append(run(command, folder))
    memory = {
        name: max(run["mib"] for run in runs)
        for (kind, name), runs in found.items()
        if kind == "memory"
    }
    rows = [
        {"kind": kind, "name": name, **min(runs, key=lambda r: r["cpu_ms"])}
        for (kind, name), runs in found.items()
        if kind != "memory"
    ]
    for row in rows:
        if row["kind"] == "write":
            row["per_s"] = max(r["per_s"] for r in found["write", row["name"]])
    setup = {"steps": steps, "samples": samples, "rounds": rounds}
    report(rows, memory, setup, as_json=options.json)


def verdicts(rows: Sequence[dict[str, Any]], memory: dict[str, float]) -> dict[str, bool]:
    cpu = {(row["kind"], row["name"]): float(row["cpu_ms"]) for row in rows}
    per_s = {row["name"]: float(row["per_s"]) for row in rows if row["kind"] == "write"}
    ours = cpu["read", "ours"]
    found = {
        f"ours <= {MAX_FLOOR_RATIO} x decode floor":
            ours <= MAX_FLOOR_RATIO * cpu["read", "decode floor"],
        f"ours <= {MAX_ZARR_RATIO} x zarr-python":
            ours <= MAX_ZARR_RATIO * cpu["read", "zarr-python"],
        f"kept >= {MIN_KEPT_PER_S} pictures/s, or {MIN_PLAIN_SHARE} x plain file":
            per_s["kept"] >= min(MIN_KEPT_PER_S, MIN_PLAIN_SHARE * per_s["plain file"]),
    }  # fmt: skip
    pairs = [(mine, peer) for mine in ("ours", "ours raw") for peer in ("ALOHA HDF5", "LeRobot")]
    for mine, peer in pairs:
        for how in ("threads", "DataLoader"):
            for kind in ("", " uint8"):
                if ("loader", peer + kind) in cpu:
                    found[f"{mine}, {how}{kind} <= {MAX_PEER_RATIO} x {peer}{kind}"] = (
                        cpu["loader", f"{mine}, {how}{kind}"]
                        <= MAX_PEER_RATIO * cpu["loader", peer + kind]
                    )
    for name, mib in memory.items():
        found[f"{name}: holds <= {MAX_MEMORY_MIB} MiB"] = mib <= MAX_MEMORY_MIB
    return found


def report(
    rows: Sequence[dict[str, Any]],
    memory: dict[str, float],
    setup: dict[str, int],
    *,
    as_json: bool,
) -> None:
    found = verdicts(rows, memory)
    if as_json:
        said = {"setup": setup, "rows": rows, "memory_mib": memory, "verdict": found}
        print(json.dumps(said))
        return
    floor = next(row["cpu_ms"] for row in rows if row["name"] == "decode floor")
    print(", ".join(f"{name} {value}" for name, value in setup.items()))
    print(f"{'':34}{'CPU ms':>10}{'wall ms':>10}{'x floor':>10}{'bytes':>10}{'per s':>10}")
    for row in rows:
        ratio = "" if row["kind"] == "write" else f"{row['cpu_ms'] / floor:.2f}"
        written = (f"{row['bytes']:.0f}", f"{row['per_s']:.0f}") if "bytes" in row else ("", "")
        print(
            f"{row['kind']:8}{row['name']:26}{row['cpu_ms']:10.2f}{row['wall_ms']:10.2f}"
            f"{ratio:>10}{written[0]:>10}{written[1]:>10}"
        )
    for name, mib in memory.items():
        print(f"memory  {name:26}{mib:10.0f} MiB more than before the first batch")
    for text, holds in found.items():
        print(f"{text}: {'yes' if holds else 'NO'}")


if __name__ == "__main__":
    main()
