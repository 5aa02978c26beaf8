"""Killed, full or locked: what was committed stays, what was not leaves nothing in the way."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.store import layout, open_dataset, open_writer
from act_data.store.zarr_records import RootRecord, dump
from tests.data.store.contract import (
    assert_reads_back,
    make_info,
    make_schema,
    make_steps,
    record,
)

ROOT = Path(__file__).parents[3]
EPISODES = 6
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def ingest(path: Path) -> None:
    with open_writer(path, make_schema("jpeg"), shard_frames=4) as writer:
        for n in range(EPISODES):
            if f"e{n}" not in writer.durable:
                record(writer, f"e{n}", make_steps(5 + n, seed=n), seed=n)
            if n % 2:
                writer.commit([f"e{m}" for m in range(n + 1)])


@contextlib.contextmanager
def forked(work: Callable[..., None], *arguments: object) -> Iterator[int]:
    """Run `work` in a child without the cost of a new interpreter; yields its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
        except BaseException:
            os._exit(1)
        os._exit(0)
    yield pid


def ended(pid: int) -> int:
    """Exit code of the child; minus the signal when it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def committed_files(path: Path) -> dict[str, str]:
    """sha256 of every file that a committed version refers to."""
    reader = open_dataset(path)
    keys = [layout.version_key(n) for n in range(1, reader.version.number + 1)]
    for entry in reader.episodes:
        keys += [layout.episode_key(entry.uid), *reader.episode(entry.uid).files]
    return {key: hashlib.sha256((path / key).read_bytes()).hexdigest() for key in keys}


@FORKS
def test_sigkill_at_any_moment_loses_only_what_was_not_committed(tmp_path: Path) -> None:
    ingest(tmp_path / "first.zarr")  # imports what the children find imported
    started = time.monotonic()
    ingest(tmp_path / "timed.zarr")
    reach = 0.4 * (time.monotonic() - started)
    rng = random.Random(0)
    kills = datasets = 0
    while datasets < 3 or kills < 5:
        assert datasets < 12, "the child was done before it could be killed: nothing was tested"
        datasets += 1
        path = tmp_path / f"{datasets}.zarr"
        before: dict[str, str] = {}
        for _ in range(5):
            with forked(ingest, path) as pid:
                time.sleep(rng.uniform(0, reach))
                os.kill(pid, signal.SIGKILL)
            killed = ended(pid) == -signal.SIGKILL
            kills += killed
            if not killed:
                reach *= 0.8  # the machine was busier when the time was taken
            try:
                now = committed_files(path)
                problems = open_dataset(path).verify()
            except NotFoundError:
                now, problems = {}, []
            assert problems == []
            assert before.items() <= now.items(), "a committed file was changed or lost"
            before = now
        ingest(path)
        reader = open_dataset(path)
        assert [e.uid for e in reader.episodes] == [f"e{n}" for n in range(EPISODES)]
        for n in range(EPISODES):
            assert_reads_back(reader, n, make_steps(5 + n, seed=n))
        assert reader.verify() == []
        assert before.items() <= committed_files(path).items()
        assert not path.with_name(f".{path.name}.partial").exists()


def exit_at(path: Path, operation: int) -> None:
    """Write two episodes and vanish just before the given file operation."""
    left = operation

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(77)
            return call(*arguments, **options)

        return counting

    for name in ("fsync", "replace", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        for n in range(2):
            record(writer, f"e{n}", make_steps(5, seed=n), seed=n)
            writer.commit([f"e{n}"])
    path.with_suffix(".count").write_text(str(operation - left))


@FORKS
def test_a_crash_before_any_file_operation_leaves_a_sound_dataset(tmp_path: Path) -> None:
    with forked(exit_at, tmp_path / "whole.zarr", 10**6) as pid:
        assert ended(pid) == 0
    operations = int((tmp_path / "whole.count").read_text())
    want = open_dataset(tmp_path / "whole.zarr").version.content_hash
    # The last ones make the second version visible; the others are sampled.
    late = range(operations - 11, operations + 1)
    for n in [*random.Random(1).sample(range(1, operations - 11), 10), *late]:
        with forked(exit_at, tmp_path / f"{n}.zarr", n) as pid:
            assert ended(pid) == 77
        path = tmp_path / f"{n}.zarr"
        try:
            reader = open_dataset(path)
        except NotFoundError:
            episodes = 0
        else:
            assert reader.verify() == [], f"after operation {n} of {operations}"
            episodes = len(reader.episodes)
            for i in range(episodes):
                assert_reads_back(reader, i, make_steps(5, seed=i))
        with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
            for i in range(episodes, 2):
                if f"e{i}" not in writer.durable:
                    record(writer, f"e{i}", make_steps(5, seed=i), seed=i)
                writer.commit([f"e{i}"])
        reader = open_dataset(path)
        assert reader.version.content_hash == want
        assert reader.verify() == []
        shards = {p.name for p in (path / "data/qpos/c").iterdir()}
        assert shards == {"0", "1", "2", "3"}, "leftovers of the killed writer"


FULL = """
    import resource, signal, sys
    from pathlib import Path
    from act_data.errors import StoreError
    from act_data.store import open_writer
    from tests.data.store.contract import make_schema, make_steps, record

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = Path(sys.argv[1])
    with open_writer(path, make_schema("raw"), shard_frames=64) as writer:
        record(writer, "small", make_steps(2), seed=0)
        writer.commit(["small"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        try:
            record(writer, "large", make_steps(int(sys.argv[2]), seed=1), seed=1)
        except StoreError as e:
            print(e, e.hint, sep="|")
        print(sorted(writer.durable))
"""


@pytest.mark.parametrize("steps", [26, 64, 200])
def test_a_full_disk_is_said_and_leaves_no_trace_of_the_episode(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "ds.zarr"
    process = child(FULL, path, steps)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    message, durable = output.strip().splitlines()
    assert "cannot write" in message
    assert "bytes to" in message
    assert str(tmp_path) in message
    assert "|Make room" in message
    assert durable == "['small']"
    assert not (tmp_path / ".ds.zarr.partial").exists()
    reader = open_dataset(path)
    assert reader.verify() == []
    files = {str(p.relative_to(path)) for p in (path / "data").rglob("*") if p.is_file()}
    assert {f for f in files if "/c/" in f} == set(reader.episode("small").files)
    with open_writer(path, make_schema("raw"), shard_frames=64) as writer:
        record(writer, "large", make_steps(30, seed=1), seed=1)
        writer.commit(["large"])
    assert_reads_back(open_dataset(path), 1, make_steps(30, seed=1))


HOLD = """
    import sys, time
    from pathlib import Path
    from act_data.store import open_writer
    from tests.data.store.contract import make_schema

    writer = open_writer(Path(sys.argv[1]), make_schema("raw"))
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_living_writer_locks_the_dataset_and_a_dead_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "ds.zarr"
    process = child(HOLD, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(ConflictError, match=r"\.ds\.zarr\.lock"):
        open_writer(path, make_schema("raw"))
    process.kill()
    process.communicate()
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        record(writer, "e", make_steps(2))
        writer.commit(["e"])
    assert open_dataset(path).verify() == []


MEMORY = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from act_data.records import DatasetSchema, Feature
    from act_data.store import open_writer
    from act_data.types import Role, StepType, Timestep
    from tests.data.store.contract import make_info

    camera = Feature(name="images/c", role=Role.OBSERVATION, dtype="uint8",
                     shape=(240, 320, 3), codec="raw")
    schema = DatasetSchema(robot="r", fps=30, features=(camera,))
    nothing = np.zeros(0, np.int64)
    image = np.zeros((240, 320, 3), np.uint8)

    def write(uid, frames):
        episode = writer.episode(uid)
        for t in range(frames):
            episode.record(Timestep(
                step_type=StepType.MID, tick_ns=t, observation={"images/c": image}, action={},
                skew_ns=nothing, reason=nothing, index=nothing))
        episode.finish(make_info())

    with open_writer(Path(sys.argv[1]), schema, shard_frames=512) as writer:
        write("short", 8)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        write("long", 400)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_does_not_grow_with_the_frames_of_a_raw_episode(tmp_path: Path) -> None:
    process = child(MEMORY, tmp_path / "ds.zarr")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert float(output) < 12, "MiB more for 92 MB of frames"


def test_a_path_that_is_not_ours_is_never_touched(tmp_path: Path) -> None:
    import zarr

    file = tmp_path / "file.zarr"
    file.write_text("notes")
    folder = tmp_path / "folder.zarr"
    folder.mkdir()
    (folder / "thesis.tex").write_text("")
    foreign = tmp_path / "foreign.zarr"
    zarr.create_group(foreign, attributes={"who": "somebody"})
    dangling = tmp_path / "dangling.zarr"
    dangling.symlink_to(tmp_path / "nowhere" / "ds.zarr")
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    for path in (file, folder, foreign):
        with pytest.raises(ConflictError, match=path.name):
            open_writer(path, make_schema("raw"))
    for path in (folder, foreign):
        with pytest.raises(StoreError, match=path.name):
            open_dataset(path)
    after = sorted(str(p) for p in tmp_path.rglob("*") if not p.name.endswith(".lock"))
    assert after == before
    assert file.read_text() == "notes"


def test_an_empty_folder_may_become_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "ds.zarr"
    path.mkdir()
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        record(writer, "e", make_steps(2))
        writer.commit(["e"])
    assert open_dataset(path).verify() == []


def test_a_newer_format_and_a_damaged_root_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        record(writer, "e", make_steps(2))
        writer.commit(["e"])
    root = path / "zarr.json"
    good = root.read_bytes()
    act = json.loads(good)["attributes"]["act"]
    kept = {**act, "owner": "lab 3"}
    root.write_bytes(layout.render(layout.group(act=kept)))
    with open_writer(path, make_schema("raw")) as writer:
        record(writer, "f", make_steps(2, seed=1), seed=1)
        writer.commit(["f"])
    assert json.loads(root.read_bytes())["attributes"]["act"]["owner"] == "lab 3"
    assert open_dataset(path).verify() == []
    newer = {**act, "format_version": 2}
    damaged = [good[:-20], b"", b"[]", b'{"zarr_format": 3}', good.replace(b'"head"', b'"haed"')]
    bad: list[tuple[bytes, str]] = [(layout.render(layout.group(act=newer)), "newer version")]
    bad += [(data, "damaged") for data in damaged]
    for data, what in bad:
        root.write_bytes(data)
        with pytest.raises(StoreError, match=what):
            open_dataset(path)
        with pytest.raises((StoreError, ConflictError)):
            open_writer(path, make_schema("raw"))
    root.unlink()
    with pytest.raises(StoreError, match="missing"):
        open_dataset(path)


def test_a_failed_commit_leaves_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        record(writer, "e", make_steps(2))
        first = writer.commit(["e"])
        made = record(writer, "f", make_steps(2, seed=1), seed=1)
        (path / next(iter(made.files))).unlink()
        with pytest.raises(StoreError, match=r"'f'.*missing"):
            writer.commit(["f"])
    assert open_dataset(path).version == first
    assert open_dataset(path).verify() == []


def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    schema = make_schema("raw")
    for change, what in [
        ({"name": "../qpos"}, "name of an array"),
        ({"name": "images"}, "also a group"),
        ({"name": "action"}, "twice"),
        ({"shape": (0,)}, "shape"),
        ({"codec": "jpeg"}, "codec"),
        ({"shape": (1 << 30,)}, "bytes"),
    ]:
        changed = schema.features[0].model_copy(update=change)
        wrong = schema.model_copy(update={"features": (changed, *schema.features[1:])})
        with pytest.raises(InputError) as error:
            open_writer(tmp_path / "ds.zarr", wrong)
        assert what in f"{error.value} {error.value.hint}"
    with open_writer(tmp_path / "ds.zarr", schema) as writer:
        for uid in ("", "..", "a/b", "x" * 101):
            with pytest.raises(InputError, match="uid"):
                writer.episode(uid)
        writer.episode("a")
        with pytest.raises(ConflictError, match="open"):
            writer.episode("b")
    with pytest.raises(ConflictError, match="closed"):
        writer.episode("c")
    assert {p.name for p in tmp_path.iterdir()} <= {".ds.zarr.lock"}


def test_the_root_record_knows_where_the_next_shard_goes(tmp_path: Path) -> None:
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        record(writer, "left", make_steps(9))
    with open_writer(path, make_schema("raw"), shard_frames=99) as writer:
        made = record(writer, "next", make_steps(2, seed=1), seed=1)
        assert made.start == 12, "after the three shards of the episode that was left behind"
        writer.commit(["next"])
        writer.commit(["left"])
    reader = open_dataset(path)
    assert [e.uid for e in reader.episodes] == ["next", "left"]
    assert_reads_back(reader, 0, make_steps(2, seed=1))
    assert_reads_back(reader, 1, make_steps(9))
    assert reader.verify() == []
    act = json.loads((path / "zarr.json").read_bytes())["attributes"]["act"]
    assert dump(RootRecord.model_validate(act)) == act
    assert act["next_shard"] == 4
    assert np.prod(reader.read("images/cam_high", 1).shape) == 9 * 16 * 24 * 3
    assert make_info().source.kind == "memory"
