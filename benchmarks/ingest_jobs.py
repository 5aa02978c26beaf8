"""`act-data ingest --jobs N` of many bags beside one process, and beside N commands of their own.

    python benchmarks/ingest_jobs.py            # 8 bags, 2 GB together, --jobs 2, 3 rounds
    python benchmarks/ingest_jobs.py --jobs 4
    python benchmarks/ingest_jobs.py --quick    # seconds, for a machine that should not judge time

serial   act-data ingest of all bags, one after the other
jobs     the same with --jobs N
apart    N commands at once, each with its share of the bags and a dataset of its own: what N
         processes can do on this machine when nothing has to come together

Speed-up is the wall time of serial over that of the row. What `jobs` loses against `apart` is what
it costs to start processes, to share bags out and to bring episodes into one dataset. The content
hash of serial and jobs must be the same, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()


@dataclass(frozen=True, kw_only=True)
class Took:
    """Wall time, and CPU time of all processes together."""

    wall_s: float
    cpu_s: float


def bags(folder: Path, count: int, seconds: float) -> list[Path]:
    """Recordings that differ a little in length: equal ones would be recognised as one."""
    paths = [folder / f"{n}.bag" for n in range(count)]
    for n, path in enumerate(paths):
        length = f"{seconds + 0.1 * n:.1f}"
        make = [sys.executable, str(HERE.with_name("make_bag.py"))]
        subprocess.run([*make, "--seconds", length, "--out", str(path)], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    return paths


def command(paths: Sequence[Path], out: Path, jobs: int) -> list[str]:
    program = str(Path(sys.executable).with_name("act-data"))
    return [program, "ingest", *map(str, paths), "--out", str(out), "--jobs", str(jobs), "--json"]


def timed(commands: Sequence[list[str]], folder: Path) -> tuple[Took, list[str]]:
    """All commands at once; what each of them wrote."""
    environment = {**os.environ, "ACT_REGISTRY": str(folder / "registry.db")}
    known = [str(HERE.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(known)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    running = [
        subprocess.Popen(c, env=environment, stdout=subprocess.PIPE, text=True) for c in commands
    ]
    said = [process.communicate()[0] for process in running]
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if any(process.returncode for process in running):
        sys.exit("an ingest failed")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall_s=wall_s, cpu_s=cpu_s), said


def one_round(paths: Sequence[Path], folder: Path, jobs: int) -> dict[str, Took]:
    shares = [paths[n::jobs] for n in range(jobs)]
    contenders = {
        "serial": [command(paths, folder / "serial.zarr", 1)],
        "jobs": [command(paths, folder / "jobs.zarr", jobs)],
        "apart": [command(s, folder / f"apart_{n}.zarr", 1) for n, s in enumerate(shares)],
    }
    took, hashes = {}, {}
    for name, commands in contenders.items():
        took[name], said = timed(commands, folder)
        hashes[name] = json.loads(said[0])["content_hash"]
        for dataset in folder.glob("*.zarr"):
            shutil.rmtree(dataset)
    if hashes["jobs"] != hashes["serial"]:
        sys.exit(f"--jobs {jobs} made another version than one process: {hashes}")
    return took


def row(name: str, rounds: Sequence[dict[str, Took]], size: int) -> dict[str, Any]:
    wall_s = statistics.median(r[name].wall_s for r in rounds)
    return {
        "name": name,
        "wall_s": wall_s,
        "cpu_s": statistics.median(r[name].cpu_s for r in rounds),
        "mb_per_s": size / 1e6 / wall_s,
        "speedup": statistics.median(r["serial"].wall_s / r[name].wall_s for r in rounds),
        "cpu_vs_serial": statistics.median(r[name].cpu_s / r["serial"].cpu_s for r in rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="processes [2]")
    parser.add_argument("--bags", type=int, default=8, help="recordings [8]")
    parser.add_argument("--seconds", type=float, default=2.7, help="of the shortest one [2.7]")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, in turns [3]")
    parser.add_argument("--quick", action="store_true", help="2 bags of half a second, one round")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if options.quick:
        options.bags, options.seconds, options.rounds = 2, 0.5, 1
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = bags(folder, options.bags, options.seconds)
        size = sum(path.stat().st_size for path in paths)
        timed([command(paths[:1], folder / "warm.zarr", 1)], folder)  # nobody looks at the clock
        shutil.rmtree(folder / "warm.zarr")
        rounds = [one_round(paths, folder, options.jobs) for _ in range(options.rounds)]
    rows = [row(name, rounds, size) for name in ("serial", "jobs", "apart")]
    if options.json:
        seen = [{k: asdict(v) for k, v in each.items()} for each in rounds]
        print(json.dumps({"bytes": size, "jobs": options.jobs, "rows": rows, "rounds": seen}))
        return
    print(
        f"{len(paths)} bags, {size / 1e9:.2f} GB, {os.cpu_count()} cores, {options.jobs} processes"
    )
    print(f"{'':8}{'wall s':>8}{'CPU s':>8}{'MB/s':>8}{'speed-up':>10}{'CPU / serial':>14}")
    for each in rows:
        print(
            f"{each['name']:8}{each['wall_s']:8.2f}{each['cpu_s']:8.2f}{each['mb_per_s']:8.0f}"
            f"{each['speedup']:10.2f}{each['cpu_vs_serial']:14.2f}"
        )


if __name__ == "__main__":
    main()
