"""Every fuzz target for its share of the time, each in a process of its own.

    python -m tests.fuzz.run --seconds 600
    python -m tests.fuzz.run --seconds 60 --only mcap_file,payload

Prints executions, findings and memory per target, and ends with 1 when there is a finding: an
exception outside the error tree, a process that died, an input that takes longer than 20 s, or
more than 512 MiB of resident memory above what the process had after its seeds. Needs atheris
(`pip install -e '.[fuzz]'`).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import counts
from tests.fuzz.targets import TARGETS

_GRACE_S = 120  # to import, run the seeds, and finish the input at hand
_ENDS = {70: "an input took too long", 71: "too much memory", 77: "the process crashed"}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one target."""

    name: str
    executions: int
    base_mb: int
    peak_mb: int
    findings: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together [600]")
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, by comma [all]")
    parser.add_argument("--keep", type=Path, help="a folder for inputs and findings")
    options = parser.parse_args()
    names = options.only.split(",")
    share = max(1, options.seconds // len(names))
    print(f"{len(names)} targets, {share} s each")
    print(f"{'target':20} {'executions':>10} {'base MiB':>9} {'peak MiB':>9}  findings")
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            result = fuzz(name, share, (options.keep or Path(scratch)) / name)
            results.append(result)
            print(
                f"{name:20} {result.executions:10} {result.base_mb:9} {result.peak_mb:9}  "
                f"{len(result.findings) or '-'}",
                flush=True,
            )
            for finding in result.findings:
                print(f"    {finding}")
    print(
        f"{sum(r.executions for r in results)} executions, "
        f"{sum(len(r.findings) for r in results)} findings"
    )
    return 1 if any(r.findings for r in results) else 0


def fuzz(name: str, seconds: int, folder: Path) -> Result:
    """Run one target; a finding is a line of text."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.fuzz.child", name]
    command += ["--seconds", str(seconds), "--folder", str(folder)]
    findings: list[str] = []
    with (folder / "log").open("wb") as log:
        try:
            ended = subprocess.run(
                command, stdout=log, stderr=log, timeout=seconds + _GRACE_S, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            ended = 70
    text = (folder / "findings.jsonl").read_text() if (folder / "findings.jsonl").exists() else ""
    for line in text.splitlines():
        found = json.loads(line)
        findings.append(f"{found['place']}: {found['error']} [{found['data'][:160]}]")
    if ended:
        tail = (folder / "log").read_text(errors="replace")
        inputs = ", ".join(re.findall(r"Test unit written to (\S+)", tail))
        what = _ENDS.get(ended, f"the process ended with {ended}")
        findings.append(f"{what}; {inputs or tail[-500:]}")
    executions, base_kb, peak_kb = counts.read(folder)
    return Result(
        name=name,
        executions=executions,
        base_mb=base_kb // 1024,
        peak_mb=peak_kb // 1024,
        findings=findings,
    )


if __name__ == "__main__":
    sys.exit(main())
