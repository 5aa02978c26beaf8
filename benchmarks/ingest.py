"""`act-data ingest` of a large bag beside what is possible, and beside what people do today.

    python benchmarks/ingest.py              # a bag of 1 GB, 5 rounds
    python benchmarks/ingest.py --quick      # seconds, for a machine that should not judge time
    python benchmarks/ingest.py --json

read    the bag's bytes, read once
floor   the bag through our reader, and simplejpeg quality 95 of every picture: no synchronisation,
        no hash, no file. What an ingest that stores these pictures has to pay
hashed  the floor, and the sha256 of the bag by which a recording is recognised
ingest  the command itself: synchronised, hashed, durable, registered
aloha   what collect_data.py and its converters do: the episode is read with rosbags, kept in
        memory, synchronised by the newest message, written with h5py in chunks of one frame. Raw
        pictures, so it saves the encoding and writes ten times as much
forge   forge-robotics, to LeRobot v3, from the same bag and from an MCAP of the same messages; in
        an environment of its own, which pip makes once in the user's cache folder. Once, at the
        end; left out, and said so, with --quick and where it cannot be had

Every run is a process of its own, in turns, after one that nobody times. CPU and peak memory are
what the kernel says about that process: interpreter and imports count, compiling them does not,
since pip does that when it installs.
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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))

from benchmarks.peers import python_with  # noqa: E402

FORGE = ("forge-robotics[lerobot,mcap,rosbag,video]==0.2.0",)
MAX_PEAK_MIB = 512
MAX_FLOOR_RATIO = 1.3
MIN_BAG_BYTES = 512 * 2**20


# --- the contenders; each runs in a process of its own, so imports are inside --------------------


def read(bag: Path, _out: Path) -> None:
    """Every byte, once."""
    buffer = bytearray(2**20)
    with bag.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def floor(bag: Path, _out: Path) -> None:
    """Every message delivered, every picture encoded."""
    import numpy as np

    from act_data.decode import decoder
    from act_data.sources import find_recordings, open_recording
    from act_data.store import jpeg
    from act_data.types import StreamKind, StreamSpec

    (recording,) = find_recordings([bag])
    with open_recording(recording) as source:
        decode = decoder(StreamSpec(name="camera", topic="", kind=StreamKind.IMAGE))
        for raw in source.messages(source.topics):
            if raw.type == "sensor_msgs/msg/Image":
                image = decode(raw.type, source.deserialize(raw))
                assert isinstance(image, np.ndarray)
                jpeg.encode(image, 95)


def hashed(bag: Path, out: Path) -> None:
    """The floor with the digest that every recording gets."""
    from act_data.sources import find_recordings, open_recording

    (recording,) = find_recordings([bag])
    with open_recording(recording) as source:
        source.record(source.topics)
    floor(bag, out)


def aloha(bag: Path, out: Path) -> None:
    """The episode in memory, then HDF5; the layout of the original."""
    import h5py
    import numpy as np
    from rosbags.highlevel import AnyReader

    messages: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([bag]) as reader:
        for connection, recv_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            messages.setdefault(connection.topic, []).append((recv_ns, message))
    cameras = [topic for topic in messages if "camera" in topic]
    times = {topic: [recv_ns for recv_ns, _ in held] for topic, held in messages.items()}
    start, end = max(t[0] for t in times.values()), min(t[-1] for t in times.values())
    steps: dict[str, list[Any]] = {topic: [] for topic in messages}
    for tick in range(start, end, 10**9 // 30):
        for topic, held in messages.items():
            newest = int(np.searchsorted(times[topic], tick, side="right")) - 1
            steps[topic].append(held[newest][1])
    arms = ("puppet", "master")
    joints = {
        arm: np.array([
            np.concatenate([left.position, right.position])
            for left, right in zip(
                steps[f"/{arm}/joint_left"], steps[f"/{arm}/joint_right"], strict=True
            )
        ])
        for arm in arms
    }  # fmt: skip
    count = len(joints["puppet"])
    with h5py.File(out, "w", rdcc_nbytes=1024**2 * 2) as root:
        root.attrs["sim"] = False
        images = root.create_group("observations/images")
        for topic in cameras:
            pictures = [m.data.reshape(m.height, m.width, 3) for m in steps[topic]]
            shape = (count, *pictures[0].shape)
            name = topic.split("/")[1]
            images.create_dataset(name, shape, "uint8", chunks=(1, *shape[1:]))
            for i, picture in enumerate(pictures):
                images[name][i] = picture
        root["observations/qpos"] = joints["puppet"].astype("f4")
        root["action"] = joints["master"].astype("f4")


CONTENDERS: dict[str, Callable[[Path, Path], None] | None] = {
    "read": read, "floor": floor, "hashed": hashed, "ingest": None, "aloha": aloha,
}  # fmt: skip


# --- measuring ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process: seconds, the most memory it ever held, and what it made of the bag."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    written: int
    kept: str


def run(name: str, bag: Path, folder: Path) -> Run:
    out = folder / ("out.zarr" if name == "ingest" else "out.hdf5")
    if CONTENDERS[name] is None:
        command = [Path(sys.executable).with_name("act-data"), "ingest", bag, "--out", out]
    else:
        command = [sys.executable, HERE, "--only", name, bag, out]
    environment = {**os.environ, "ACT_REGISTRY": str(folder / "registry.db")}
    known = [str(HERE.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(known)
    # What an installation has compiled beforehand, whatever this shell says about it.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    return _measured(name, command, out, folder, environment)


def run_forge(python: Path, source: Path, folder: Path) -> Run:
    forge = [python.with_name("forge"), "convert", source, folder / "forge", "--fps", 30]
    return _measured("forge", forge, folder / "forge", folder, dict(os.environ))


def _measured(
    name: str, command: Sequence[object], out: Path, folder: Path, environment: dict[str, str]
) -> Run:
    with (folder / "said").open("wb") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], env=environment, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{name} failed:\n{(folder / 'said').read_text()}")
    written = sum(f.stat().st_size for f in (out, *out.rglob("*")) if f.is_file())
    # Not here: a child's peak memory begins with what its parent holds.
    asked = [sys.executable, str(HERE), "--kept", str(out)]
    kept = subprocess.check_output(asked, text=True).strip() if out.exists() else ""
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)
    return Run(
        wall_s=wall_s,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        written=written,
        kept=kept,
    )


def kept(out: Path) -> str:
    """Frames, cameras and numbers per frame of the dataset at `out`."""
    import h5py
    import numpy as np

    if out.suffix == ".zarr":
        from act_data.store import open_dataset

        dataset = open_dataset(out)
        shapes = {f.name: f.shape for f in dataset.schema.features if f.role != "sync"}
        frames = sum(e.length for e in dataset.episodes)
    elif out.suffix == ".hdf5":
        shapes = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                shapes[name] = item.shape[1:]

        with h5py.File(out) as root:
            root.visititems(note)
            frames = len(root["action"])
    else:
        info = json.loads((out / "meta" / "info.json").read_text())
        ours = ("observation", "action")
        shapes = {k: v["shape"] for k, v in info["features"].items() if k.startswith(ours)}
        frames = info["total_frames"]
    cameras = sum(len(shape) == 3 for shape in shapes.values())
    numbers = sum(int(np.prod(shape)) for shape in shapes.values() if len(shape) < 3)
    return f"{frames} frames x {cameras} cameras, {numbers} numbers"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians over the rounds; ratios are medians of the ratios within a round."""

    name: str
    wall_s: float
    cpu_s: float
    mb_per_s: float
    s_per_gb: float
    peak_mib: float
    cpu_vs_floor: float
    wall_vs_floor: float
    written_mib: float
    kept: str


def rows_of(rounds: Sequence[dict[str, Run]], once: dict[str, Run], bag_bytes: int) -> list[Row]:
    rows = []
    floors = [each["floor"] for each in rounds]
    for name in (*CONTENDERS, *once):
        runs = [each.get(name) or once[name] for each in rounds]
        pairs = list(zip(runs, floors, strict=True))
        wall_s = statistics.median(r.wall_s for r in runs)
        rows.append(
            Row(
                name=name,
                wall_s=wall_s,
                cpu_s=statistics.median(r.cpu_s for r in runs),
                mb_per_s=bag_bytes / 1e6 / wall_s,
                s_per_gb=wall_s / (bag_bytes / 1e9),
                peak_mib=max(r.peak_mib for r in runs),
                cpu_vs_floor=statistics.median(r.cpu_s / f.cpu_s for r, f in pairs),
                wall_vs_floor=statistics.median(r.wall_s / f.wall_s for r, f in pairs),
                written_mib=runs[0].written / 2**20,
                kept=runs[0].kept,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="of recording [12]")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, in turns [5]")
    parser.add_argument("--quick", action="store_true", help="1 s of recording, one round")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", nargs=3, metavar=("NAME", "BAG", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--kept", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kept:
        print(kept(options.kept))
        return
    if options.only:
        name, bag, out = options.only
        contender = CONTENDERS[name]
        assert contender is not None
        contender(Path(bag), Path(out))
        return
    seconds, rounds = (1.0, 1) if options.quick else (options.seconds, options.rounds)
    with TemporaryDirectory() as scratch:
        bag = Path(scratch, "cobot.bag")
        # In its own process, for the same reason.
        maker = [sys.executable, HERE.with_name("make_bag.py"), "--seconds", seconds, "--out", bag]
        subprocess.run([str(part) for part in maker], check=True, stdout=subprocess.DEVNULL)
        bag_bytes = bag.stat().st_size
        if not options.quick:
            for name in CONTENDERS:
                run(name, bag, Path(scratch))
        measured = [
            {name: run(name, bag, Path(scratch)) for name in CONTENDERS} for _ in range(rounds)
        ]
        once = {} if options.quick else forge(bag, Path(scratch))
    if options.quick:
        print("forge-robotics: left out with --quick", file=sys.stderr)
    rows = rows_of(measured, once, bag_bytes)
    report(rows, bag_bytes, seconds, rounds, as_json=options.json)


def forge(bag: Path, folder: Path) -> dict[str, Run]:
    """forge-robotics on the bag, and on an MCAP of the same messages; empty where it is not."""
    python = python_with("forge", FORGE)
    if python is None:
        return {}
    found = {"forge .bag": run_forge(python, bag, folder)}
    mcap = folder / "mcap"
    convert = [sys.executable, "-m", "rosbags.convert", "--src", bag, "--dst", mcap]
    convert += ["--dst-storage", "mcap", "--dst-version", "8"]
    subprocess.run([str(part) for part in convert], check=True)
    return {**found, "forge .mcap": run_forge(python, mcap / "mcap.mcap", folder)}


def report(
    rows: Sequence[Row], bag_bytes: int, seconds: float, rounds: int, *, as_json: bool
) -> None:
    setup = {
        "bag_mib": bag_bytes / 2**20,
        "bag_seconds": seconds,
        "rounds": rounds,
        "cores": os.cpu_count(),
    }
    ours = next(row for row in rows if row.name == "ingest")
    verdict = {
        "bag_larger_than_limit": bag_bytes > MIN_BAG_BYTES,
        "peak_within_512_mib": ours.peak_mib <= MAX_PEAK_MIB,
        "cpu_within_1_3_of_floor": ours.cpu_vs_floor <= MAX_FLOOR_RATIO,
    }
    if as_json:
        print(json.dumps({"setup": setup, "rows": [asdict(r) for r in rows], "verdict": verdict}))
        return
    print(
        f"bag of {setup['bag_mib']:.0f} MiB ({seconds:g} s: 3 cameras 640x480 rgb8 @30, "
        f"4 JointState @200, Odometry @50), {rounds} round(s), {setup['cores']} cores"
    )
    heads = ("wall s", "CPU s", "MB/s", "s/GB", "peak MiB", "CPU/floor", "wall/floor", "MiB out")
    print(f"{'':12}" + "".join(f"{head:>11}" for head in heads) + "  kept")
    for row in rows:
        print(
            f"{row.name:12}{row.wall_s:11.2f}{row.cpu_s:11.2f}{row.mb_per_s:11.0f}"
            f"{row.s_per_gb:11.1f}{row.peak_mib:11.0f}{row.cpu_vs_floor:11.2f}"
            f"{row.wall_vs_floor:11.2f}{row.written_mib:11.0f}  {row.kept}"
        )
    for text, holds in (
        (f"the bag is larger than {MAX_PEAK_MIB} MiB", verdict["bag_larger_than_limit"]),
        (f"peak memory of ingest <= {MAX_PEAK_MIB} MiB", verdict["peak_within_512_mib"]),
        (f"CPU of ingest <= {MAX_FLOOR_RATIO} x floor", verdict["cpu_within_1_3_of_floor"]),
    ):
        print(f"{text}: {'yes' if holds else 'NO'}")


if __name__ == "__main__":
    main()
