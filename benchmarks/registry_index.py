"""The registry as an index of 200,000 episodes: register, rebuild, list, search, diff.

    python benchmarks/registry_index.py                # minutes, and 2 GB of scratch space
    python benchmarks/registry_index.py --peers   # beside DVC and `datasets` in their own venv
    python benchmarks/registry_index.py --quick
    python benchmarks/registry_index.py --json

The dataset is one act-zarr store whose documents are all there: a record per episode, three
versions. Its arrays are not: the registry never reads them. Version 2 adds the last 2,000 episodes,
version 3 says something about 2,000 of them and leaves out 1,000. Beside it lies the same episode
table as LeRobot v3.0 writes it (meta/episodes/*.parquet, with its statistics per episode), read
with pyarrow, only the columns that a query needs. Of DVC, a folder of small files, one an episode,
in two commits; its times grow with the number of files, of which there are fewer, as printed. A
query that a peer cannot be asked has no row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))

TASKS = [
    f"{verb} the {what}"
    for verb in ("pour", "wipe", "fold", "stack", "open", "weld", "screw", "insert")
    for what in ("tea", "table", "shirt", "blue cubes", "left drawer")
]
OPERATORS = [f"operator{n:02d}" for n in range(25)]
NOTES = ("", "", "", "spilled a little", "the gripper was loose", "camera 2 was dark", "good one")
DAY_NS = 86_400 * 10**9
JANUARY_NS = 1_767_225_600 * 10**9
FILTERS = {
    "filter: success and length > 300 and task = 'pour the tea'": (
        "success and length > 300 and task = 'pour the tea'"
    ),
    "filter: recorded >= '2026-06-01' and valid_share < 0.9": (
        "recorded >= '2026-06-01' and valid_share < 0.9"
    ),
    "filter: operator in (3 names) and not notes contains 'loose'": (
        "operator in ('operator01', 'operator02', 'operator03') and not notes contains 'loose'"
    ),
    "filter: task like '%cubes' and index < 5000": "task like '%cubes' and index < 5000",
    "filter: length > 0 (all of them)": "length > 0",
}


# --- what is asked of -----------------------------------------------------------------------------


def length_of(n: int) -> int:
    return 200 + n * 7 % 301


def write_store(path: Path, episodes: int) -> None:
    """The documents of an act-zarr dataset with three versions."""
    from act_data.records import (
        Annotation,
        DatasetSchema,
        EpisodeEntry,
        EpisodeRecord,
        Feature,
    )
    from act_data.store import layout
    from act_data.store.episodes_of_version import version_record
    from act_data.store.zarr_records import Head, RootRecord, dump
    from act_data.types import Role

    features = (
        Feature(name="qpos", role=Role.OBSERVATION, dtype="float32", shape=(14,)),
        *(
            Feature(
                name=f"images/{camera}",
                role=Role.OBSERVATION,
                dtype="uint8",
                shape=(480, 640, 3),
                codec="jpeg",
            )
            for camera in ("top", "wrist")
        ),
        Feature(name="action", role=Role.ACTION, dtype="float32", shape=(14,)),
    )
    schema = DatasetSchema(robot="aloha", fps=50.0, features=features)
    stream = {
        "policy": "hold", "tolerance_ms": 20.0, "clock": "header", "received": 500, "used": 480,
        "unused": 20, "late": 0, "duplicate": 0, "rate_hz": 50.0, "required": True,
    }  # fmt: skip
    entries = []
    path.mkdir(parents=True)
    for n in range(episodes):
        uid, digest = (
            f"{n:06d}" + sha256(b"u%d" % n).hexdigest()[:10],
            sha256(b"%d" % n).hexdigest(),
        )
        length, ticks = length_of(n), 500
        start_ns = JANUARY_NS + n % 300 * DAY_NS
        record = {
            "uid": uid, "start": n * 512, "length": length, "hash": digest,
            "files": {
                f"data/{f.name}/c/{n}": {"bytes": 40_000, "sha256": digest} for f in features
            },
            "info": {
                "source": {
                    "name": f"bag{n:06d}", "kind": "ros1", "sha256": digest[::-1],
                    "files": [f"/bags/bag{n:06d}.bag"], "start_ns": start_ns,
                    "end_ns": start_ns + 10**10, "topics": ["/arm", "/top", "/wrist"],
                },
                "task": TASKS[n % len(TASKS)],
                "operator": OPERATORS[n // 7 % len(OPERATORS)],
                "success": (True, True, True, False, None)[n % 5],
                "notes": NOTES[n % len(NOTES)],
                "sync": {
                    "fps": 50.0, "clock": "header", "ticks": ticks, "valid": ticks - n % 97,
                    "streams": {
                        name: {**stream, "skew_abs_p95_ms": n % 50 / 10}
                        for name in ("arm", "top", "wrist")
                    },
                },
            },
            "created": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        if n == 0:
            EpisodeRecord.model_validate(record)
        file = path / layout.episode_key(uid)
        file.parent.mkdir(parents=True)
        file.write_bytes(layout.render(layout.group(act_episode=record)))
        entries.append(
            EpisodeEntry(
                uid=uid, start=n * 512, length=length, hash=digest,
                split="val" if n % 10 == 0 else "train",
            )
        )  # fmt: skip
    some = min(2000, episodes // 10)
    words = Annotation(task="pour the jasmine tea", operator="ann", success=True, notes="")
    said = {entry.uid: words for entry in entries[:some]}
    held = (entries[:-some], entries, entries[some // 2 :])
    for number, (of, notes) in enumerate(zip(held, ({}, {}, said), strict=True), 1):
        version = version_record(
            schema, number, of, created=f"2026-0{number}-01T00:00:00+00:00", message="",
            annotations=notes,
        )  # fmt: skip
        file = path / layout.version_key(number)
        file.parent.mkdir(parents=True)
        file.write_bytes(layout.render(layout.group(act_version=dump(version))))
    root = RootRecord(
        dataset_uid="0" * 32, name=path.stem, created_by="benchmark", dataset_schema=schema,
        shard_frames=512, next_shard=episodes, head=Head(version=3),
    )  # fmt: skip
    (path / "zarr.json").write_bytes(layout.render(layout.group(act=dump(root))))


def write_lerobot(path: Path, episodes: int) -> None:
    """meta/episodes of a LeRobot v3.0 dataset: the columns that it has."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = path / "meta" / "episodes" / "chunk-000"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    starts = np.cumsum([0, *(length_of(n) for n in range(episodes))])
    for file, first in enumerate(range(0, episodes, 50_000)):
        numbers = range(first, min(first + 50_000, episodes))
        columns: dict[str, Any] = {
            "episode_index": list(numbers),
            "tasks": [[TASKS[n % len(TASKS)]] for n in numbers],
            "length": [length_of(n) for n in numbers],
            "data/chunk_index": [0] * len(numbers),
            "data/file_index": [n // 100 for n in numbers],
            "dataset_from_index": starts[numbers.start : numbers.stop],
            "dataset_to_index": starts[numbers.start + 1 : numbers.stop + 1],
        }
        for camera in ("top", "wrist"):
            for column in ("chunk_index", "file_index", "from_timestamp", "to_timestamp"):
                columns[f"videos/observation.images.{camera}/{column}"] = [0] * len(numbers)
        for array in ("observation.state", "action"):
            for value in ("min", "max", "mean", "std"):
                cells = pa.array(rng.normal(size=14 * len(numbers)))
                columns[f"stats/{array}/{value}"] = pa.FixedSizeListArray.from_arrays(cells, 14)
        pq.write_table(pa.table(columns), folder / f"file-{file:03d}.parquet")


# --- ours -----------------------------------------------------------------------------------------


def p50_ms(ask: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        ask()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def once(do: Callable[[], Any]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    do()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def ours(scratch: Path, store: Path, repeats: int) -> list[dict[str, Any]]:
    from act_data.curate.diff import diff
    from act_data.registry import Registry
    from act_data.store import open_dataset

    file = scratch / "registry.db"
    os.environ["ACT_REGISTRY"] = str(file)
    registry = Registry()
    rows: list[dict[str, Any]] = []

    def row(query: str, **values: Any) -> None:
        rows.append({"who": "act-data", "query": query, **values})

    registry.datasets()
    for what, do in (
        ("register", lambda: registry.register(open_dataset(store))),
        ("rebuild", lambda: registry.rebuild([])),
    ):
        command = [sys.executable, str(HERE), "--other-writer"]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        other.stdout.readline()
        times = once(do)
        said, _ = other.communicate("stop\n", timeout=60)
        row(what, **times, other_writer=json.loads(said))
    row("size of the file", mb=file.stat().st_size / 1e6)
    (known,) = registry.datasets()
    row("list", p50_ms=p50_ms(registry.datasets, repeats))
    row("log", p50_ms=p50_ms(lambda: registry.log(known.name), repeats))
    searches: dict[str, dict[str, Any]] = {
        **{name: {"where": where} for name, where in FILTERS.items()},
        "text: jasmine tea": {"text": "jasmine tea"},
        "text: weld": {"text": "weld"},
        "text: spill*, in version 1": {"text": "spill*", "within": f"{known.name}@1"},
        "facets of all": {"facets": True},
        "facets of success and weld": {"facets": True, "where": "success", "text": "weld"},
    }
    for name, asked in searches.items():
        found = registry.search(**asked)
        row(
            name,
            p50_ms=p50_ms(partial(registry.search, **asked), repeats),
            found=found.matched,
        )
    difference = diff(f"{known.name}@1", f"{known.name}@3")
    row(
        "diff of versions 1 and 3",
        p50_ms=p50_ms(lambda: diff(f"{known.name}@1", f"{known.name}@3"), max(1, repeats // 3)),
        found=len(difference.added) + len(difference.removed) + len(difference.annotated),
    )
    return rows


def other_writer() -> None:
    """Write into the registry until told to stop; say how often, and how long the longest took."""
    import threading

    from act_data.registry import Registry

    class Trained:
        uid, version, content_hash = "u", 1, "h"

    def wait() -> None:
        sys.stdin.readline()
        stop.set()

    stop = threading.Event()
    threading.Thread(target=wait, daemon=True).start()
    registry = Registry()
    print("ready", flush=True)
    longest, writes = 0.0, 0
    while not stop.wait(0.02):
        began = time.perf_counter()
        registry.register_checkpoint(Path("run"), Trained(), 1)
        longest, writes = max(longest, time.perf_counter() - began), writes + 1
    print(json.dumps({"writes": writes, "longest_s": longest}))


# --- peers ----------------------------------------------------------------------------------------


def pyarrow_rows(root: Path, repeats: int) -> list[dict[str, Any]]:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    files = str(root / "meta" / "episodes")
    task = pc.field("task")

    def table(*columns: str) -> Any:
        read = ds.dataset(files).to_table(columns=["tasks", *columns])
        return read.set_column(0, "task", pc.list_element(read["tasks"], 0))

    queries: dict[str, Callable[[], int]] = {
        "filter: length > 300 and task = 'pour the tea'": lambda: (
            table("length", "episode_index")
            .filter((pc.field("length") > 300) & (task == "pour the tea"))
            .num_rows
        ),
        "filter: length > 0 (all of them)": lambda: (
            ds.dataset(files)
            .to_table(columns=["episode_index"], filter=pc.field("length") > 0)
            .num_rows
        ),
        "text: weld (a substring of the task)": lambda: (
            table("episode_index").filter(pc.match_substring(task, "weld")).num_rows
        ),
        "facets: tasks": lambda: len(pc.value_counts(table()["task"])),
    }
    size = sum(file.stat().st_size for file in root.rglob("*.parquet"))
    rows = [{"who": "LeRobot v3.0", "query": "size of the files", "mb": size / 1e6}]
    for query, ask in queries.items():
        found, times = ask(), p50_ms(ask, repeats)
        rows.append({"who": "LeRobot v3.0", "query": query, "p50_ms": times, "found": found})
    return rows


def datasets_rows(root: Path, repeats: int) -> list[dict[str, Any]]:
    """With Hugging Face `datasets`, in the interpreter that has it."""
    import datasets  # type: ignore[import-not-found]  # in the venv of the peers

    datasets.disable_progress_bars()
    datasets.disable_caching()
    files = sorted(map(str, root.rglob("*.parquet")))

    def load() -> Any:
        columns = ["episode_index", "length", "tasks"]
        return datasets.Dataset.from_parquet(files, columns=columns, cache_dir=str(root / "cache"))

    def keep(lengths: list[int], tasks: list[list[str]]) -> list[bool]:
        pairs = zip(lengths, tasks, strict=True)
        return [length > 300 and task[0] == "pour the tea" for length, task in pairs]

    def ask() -> int:
        asked = {"batched": True, "input_columns": ["length", "tasks"]}
        return len(load().filter(keep, **asked, load_from_cache_file=False))

    found = ask()
    query = "filter: length > 300 and task = 'pour the tea'"
    who = f"datasets {datasets.__version__}"
    return [{"who": who, "query": query, "p50_ms": p50_ms(ask, repeats), "found": found}]


def dvc_rows(program: Path, scratch: Path, files: int) -> list[dict[str, Any]]:
    """`files` small files, one an episode, in two versions that differ in one of a hundred."""
    repository = scratch / "dvc"
    data = repository / "episodes"
    data.mkdir(parents=True)
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": f"{program}:{os.environ['PATH']}"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=repository, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    def commit() -> None:
        run("git", "add", "-A")
        run("git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qm", "b")

    run("git", "init", "-q")
    run("dvc", "init", "-q")
    run("dvc", "config", "cache.type", "hardlink")
    for n in range(files):
        (data / f"{n:06d}.json").write_text(json.dumps({"n": n, "length": length_of(n)}))
    who = f"DVC {run('dvc', '--version').strip()}, {files} files"
    added = once(lambda: run("dvc", "add", "-q", "episodes"))
    rows: list[dict[str, Any]] = [
        {"who": who, "query": "register: dvc add", "wall_s": added["wall_s"]}
    ]
    commit()
    run("dvc", "unprotect", "episodes")
    for n in range(0, files, 100):
        (data / f"{n:06d}.json").write_text(json.dumps({"n": n, "length": 1}))
    run("dvc", "add", "-q", "episodes")
    commit()
    for query, command in {
        "list: dvc list": ("dvc", "list", ".", "episodes"),
        "status": ("dvc", "status", "-q"),
        "diff of two versions: dvc diff HEAD~1": ("dvc", "diff", "--json", "HEAD~1"),
    }.items():
        said = run(*command)
        row = {"who": who, "query": query, "p50_ms": p50_ms(partial(run, *command), 3)}
        found = {"found": len(json.loads(said)["modified"])} if "--json" in command else {}
        rows.append(row | found)
    return rows


def peers_environment() -> Path:
    """The folder of programs of a virtual environment with DVC and `datasets`, made once."""
    import platformdirs

    folder = platformdirs.user_cache_path("act", appauthor=False) / "benchmark-index-peers"
    if not (folder / "done").exists():
        print(f"building {folder} with dvc and datasets (1 GB, once)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "dvc", "datasets", "platformdirs"]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        (folder / "done").touch()
    return folder / "bin"


# --- the run --------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="600 episodes")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--episodes", type=int, default=200_000)
    parser.add_argument("--peers", action="store_true", help="DVC and datasets, too")
    parser.add_argument("--dvc-files", type=int, default=20_000)
    parser.add_argument("--other-writer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--datasets", metavar="PATH", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.other_writer:
        other_writer()
        return
    if options.datasets:
        print(json.dumps(datasets_rows(options.datasets, 3)))
        return
    episodes = 600 if options.quick else options.episodes
    repeats = 3 if options.quick else 9
    with TemporaryDirectory() as name:
        scratch = Path(name)
        written = once(lambda: write_store(scratch / "many.zarr", episodes))
        rows = ours(scratch, scratch / "many.zarr", repeats)
        write_lerobot(scratch / "lerobot", episodes)
        rows += pyarrow_rows(scratch / "lerobot", repeats)
        if options.peers:
            programs = peers_environment()
            command = [str(programs / "python"), str(HERE), "--datasets", str(scratch / "lerobot")]
            rows += json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
            rows += dvc_rows(programs, scratch, options.dvc_files)
    if options.json:
        said = {"episodes": episodes, "repeats": repeats, "made_s": written["wall_s"], "rows": rows}
        print(json.dumps(said))
        return
    print(f"{episodes} episodes, p50 over {repeats}")
    for row in rows:
        if "p50_ms" in row:
            value = f"{row['p50_ms']:10.1f} ms"
        elif "mb" in row:
            value = f"{row['mb']:10.1f} MB"
        else:
            value = f"{row['wall_s']:10.1f} s "
        found = f"  {row['found']} found" if "found" in row else ""
        if "other_writer" in row:
            other = row["other_writer"]
            found = (
                f"  {row['cpu_s']:.1f} s CPU; another process wrote {other['writes']} times "
                f"meanwhile, and waited {other['longest_s']:.2f} s at most"
            )
        print(f"{row['who']:<26}{row['query']:<66}{value}{found}")


if __name__ == "__main__":
    main()
