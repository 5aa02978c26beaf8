"""What it takes to record the paper's bag set: 50 demonstrations with three 480x640 cameras.

    python benchmarks/sim_bags.py                      # 50 episodes, 2 processes
    python benchmarks/sim_bags.py --episodes 4         # some of them
    python benchmarks/sim_bags.py --quick              # one, tiny

The disk needs room for some episodes only: they are recorded a few at a time, counted, and deleted.
Processor time is that of all processes, so it can be told on a machine that has other work, too.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from act_model.sim.demonstrations import SimulateRequest, simulate

CAMERAS = ("top", "angle", "front_close")
AT_A_TIME = 4  # for each process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2, help="processes [2]")
    parser.add_argument("--raw", action="store_true", help="raw pictures instead of JPEG 95")
    parser.add_argument("--quick", action="store_true", help="one episode of 48x64")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    episodes, jobs = (1, 1) if options.quick else (options.episodes, options.jobs)
    size = (48, 64) if options.quick else (480, 640)
    found = measured(episodes, jobs, size, None if options.raw else 95)
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"{found['episodes']} episodes in {found['wall_s']:.0f} s "
        f"({found['cpu_s']:.0f} s of processors), {found['bytes'] / 1e9:.2f} GB"
    )


def measured(episodes: int, jobs: int, size: tuple[int, int], jpeg: int | None) -> dict[str, float]:
    """Of recording alone; the same recordings as `act-model simulate` makes in one go."""
    wall_s = cpu_s = 0.0
    written = kept = seed = 0
    with TemporaryDirectory() as scratch:
        while kept < episodes:
            out = Path(scratch, str(seed))
            before = _cpu_s()
            report = simulate(
                SimulateRequest(
                    task="transfer_cube",
                    out=out,
                    episodes=min(AT_A_TIME * jobs, episodes - kept),
                    first_seed=seed,
                    cameras=CAMERAS,
                    size=size,
                    jpeg=jpeg,
                    jobs=jobs,
                )
            )
            wall_s += report.wall_s
            cpu_s += _cpu_s() - before
            kept += sum(r.file is not None for r in report.recordings)
            written += sum(r.size for r in report.recordings)
            seed += len(report.recordings)
            shutil.rmtree(out)
    return {"episodes": kept, "wall_s": wall_s, "cpu_s": cpu_s, "bytes": written}


def _cpu_s() -> float:
    """Of this process and of those of its children that have ended."""
    return sum(
        use.ru_utime + use.ru_stime
        for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main()
