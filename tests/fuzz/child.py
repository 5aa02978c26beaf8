"""One target under atheris in a process of its own: `python -m tests.fuzz.child --help`.

The library and rosbags are instrumented, so that inputs that reach new code are kept and changed
further. An exception that is no ActError is written down, once per place, and the run goes on.
Too much memory, a hang and a crash end the process, which its parent sees.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["act_data", "rosbags"], enable_loader_override=False):
    from act_data.errors import ActError
    from tests.fuzz.counts import Counts
    from tests.fuzz.targets import TARGETS

RSS_MB = 512  # above what the process has after its seeds
SLOW_S = 20  # a single input
_EVERY = 64  # executions between two looks at the RSS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for inputs and findings")
    options = parser.parse_args()
    target = TARGETS[options.target]
    corpus = options.folder / "corpus"
    corpus.mkdir(parents=True)
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed{number:03}").write_bytes(seed)
    run = _Run(options.target, options.folder)
    for seed in seeds:
        run(seed)
    base_kb = run.begin()
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={options.seconds}",
            f"-rss_limit_mb={base_kb // 1024 + RSS_MB}",
            f"-timeout={SLOW_S}",
            f"-artifact_prefix={options.folder}/",
            "-max_len=65536",
            "-len_control=0",
            "-print_final_stats=1",
            "-verbosity=0",
            str(corpus),
        ],
        run,
    )
    atheris.Fuzz()


class _Run:
    """The function under test, its counts in a file that outlives a crash."""

    def __init__(self, name: str, folder: Path) -> None:
        self._target = TARGETS[name].run
        self._findings = (folder / "findings.jsonl").open("a")
        self._seen: set[str] = set()
        self._counts = Counts(folder)
        self._executions = 0
        self._base_kb = 0

    def begin(self) -> int:
        """From here on memory and executions count; gives the largest RSS so far in KiB."""
        self._base_kb = _peak_kb()
        self._executions = 0
        return self._base_kb

    def __call__(self, data: bytes) -> None:
        self._executions += 1
        try:
            self._target(data)
        except ActError:
            pass
        except Exception as e:
            self._found(e, data)
        if self._executions % _EVERY == 1:
            self._counts.write(self._executions, self._base_kb, _peak_kb())

    def _found(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if "act_data" in f.filename] or frames
        place = f"{type(error).__name__} at {own[-1].filename}:{own[-1].lineno}"
        if place in self._seen:
            return
        self._seen.add(place)
        text = "".join(traceback.format_exception(error))
        finding = {"place": place, "error": str(error)[:300], "data": data.hex(), "trace": text}
        self._findings.write(json.dumps(finding) + "\n")
        self._findings.flush()


def _peak_kb() -> int:
    """The largest RSS of this process. Not ru_maxrss: that begins with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
