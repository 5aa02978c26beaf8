"""The recorder killed at random moments: all but the last second is on the disk.

A process that has imported everything forks a recorder per attempt. Its robot notes when it sent
each message in a file that survives the kill, before it sends it; so what should be there is known.
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from act_data.sources import Recording, find_recordings, open_recording
from act_data.sources.live import Arrival, Spool
from act_data.sources.live.spool import ACTIVE
from act_data.sources.recording import Reading
from tests.cli.commands import run
from tests.live_topics import channels, payloads, streamed
from tests.small_robot import entries, robot_file

KILLS = 50
AT_ONCE = 5
LONGEST_S = 2.5
PROMISE_NS = 10**9

# What a message says: its number, in the position of a joint, or all over the picture.
SERVER = """
import json, mmap, os, signal, struct, sys, time
from pathlib import Path
from threading import Thread
from act_data.record import Nobody, Phase, RecordSettings, record
from act_data.sources.live import MemoryBackend
from tests.live_topics import channels, payloads
from tests.small_robot import entries

WAY = entries(1, size=(120, 160))
PAYLOADS = {topic: payload for _, topic, payload in payloads(WAY)}

def publish(backend, log):
    numbers = dict.fromkeys(PAYLOADS, 0)
    tick = 0
    while True:
        for topic in ["/arm", "/lead", *(["/cam/image_raw"] if tick % 3 == 0 else [])]:
            number = numbers[topic]
            numbers[topic] = number + 1
            now = time.time_ns()
            data = bytearray(PAYLOADS[topic])
            data[4:12] = struct.pack("<II", now // 10**9, now % 10**9)  # header.stamp
            data[-8:] = struct.pack("<Q", number)
            slot = 16 + 24 * struct.unpack("<Q", log[:8])[0]
            log[slot : slot + 24] = struct.pack("<QQQ", list(PAYLOADS).index(topic), number, now)
            log[:8] = struct.pack("<Q", (slot - 16) // 24 + 1)
            backend.publish(topic, bytes(data))
        tick += 1
        time.sleep(0.01)

def recorder(folder, robot):
    folder = Path(folder)
    with (folder / "sent").open("w+b") as file:
        file.truncate(2**20)
        log = mmap.mmap(file.fileno(), 2**20)
    backend = MemoryBackend(channels(WAY))
    subscribe = backend.subscribe
    def subscribed(topics, inbox):
        subscribe(topics, inbox)
        Thread(target=publish, args=(backend, log), daemon=True).start()
    backend.subscribe = subscribed
    nobody = Nobody()
    def show(state):
        if state.phase is Phase.RECORDING and log[8:16] == bytes(8):
            log[8:16] = struct.pack("<Q", time.time_ns())
    nobody.show = show
    record(backend, folder, RecordSettings(robot=robot), operator=nobody)

print("ready", flush=True)
for line in sys.stdin:
    robot, attempts = json.loads(line)
    children = []
    for folder, delay in attempts:
        child = os.fork()
        if not child:
            signal.alarm(60)  # nobody stays behind
            try:
                recorder(folder, robot)
            finally:
                os._exit(70)
        children.append((time.monotonic() + delay, child))
    killed = []
    for due, child in sorted(children):
        time.sleep(max(0, due - time.monotonic()))
        now = time.time_ns()
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
        killed.append((child, now))
    at = dict(killed)
    print(json.dumps([at[child] for _, child in children]), flush=True)
"""
TOPICS = ["/cam/image_raw", "/arm", "/lead"]  # in the order of the small robot's entries


def sent(folder: Path) -> tuple[int, list[tuple[str, int, int]]]:
    """When recording had begun, 0 for never; (topic, number, when) of each message sent."""
    data = (folder / "sent").read_bytes()
    count, began_ns = struct.unpack_from("<QQ", data)
    found = (struct.unpack_from("<QQQ", data, 16 + 24 * i) for i in range(count))
    return began_ns, [(TOPICS[topic], number, when) for topic, number, when in found]


def left_in(folder: Path) -> list[Recording]:
    """The unfinished recording in `folder`, to be read as it is; none before the first one."""
    paths = list(folder.glob(f"*.mcap{ACTIVE}"))
    return find_recordings(paths, Reading(recover=True)) if paths else []


def recovered(folder: Path) -> list[tuple[str, int, int]]:
    """(topic, number, when) of each message in the file that the recorder left.

    As we read it; and see that mcap's own reader finds no other.
    """
    payloads: list[tuple[str, bytes]] = []
    for recording in left_in(folder):
        with open_recording(recording) as source:
            read = [(m.topic, bytes(m.payload)) for m in source.messages(source.topics)]
        of_mcap = [(t, m.data) for t, m in streamed(recording.files[0].read_bytes())]
        assert read[: len(of_mcap)] == of_mcap
        payloads += read
    found = []
    for topic, data in payloads:
        sec, nsec = struct.unpack_from("<II", data, 4)
        (number,) = struct.unpack_from("<Q", data, len(data) - 8)
        found.append((topic, number, sec * 10**9 + nsec))
    return found


def test_a_recorder_killed_at_50_moments_loses_at_most_its_last_second(tmp_path: Path) -> None:
    robot = str(robot_file(tmp_path))
    rng = random.Random(0)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        lost_ns: list[int] = []
        had_to_be = 0
        began = time.monotonic()
        for batch in range(KILLS // AT_ONCE):
            folders = [tmp_path / f"{batch}-{n}" for n in range(AT_ONCE)]
            attempts = [(str(folder), rng.uniform(0.3, LONGEST_S)) for folder in folders]
            for folder in folders:
                folder.mkdir()
            server.stdin.write(json.dumps([robot, attempts]) + "\n")
            server.stdin.flush()
            for folder, killed_ns in zip(
                folders, json.loads(server.stdout.readline()), strict=True
            ):
                (began_ns, told), there = sent(folder), recovered(folder)
                if began_ns:
                    due = {m for m in told if began_ns <= m[2] <= killed_ns - PROMISE_NS}
                    assert due <= set(there), (
                        f"{folder.name}: {len(due - set(there))} messages lost"
                    )
                    had_to_be += bool(due)
                if there:  # a stretch without a hole, in the order in which it was sent
                    first = told.index(there[0])
                    assert there == told[first : first + len(there)]
                    lost_ns.append(max(0, told[-1][2] - there[-1][2]))
    assert had_to_be > KILLS // 2
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{KILLS} kills in {seconds:.1f} s; lost ms before the kill: "
        f"median {np.median(lost_ns) / 1e6:.0f}, most {max(lost_ns) / 1e6:.0f}\n"
    )


def test_act_data_recover_makes_a_recording_of_it_that_everybody_reads(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "episode-000.mcap", channels(entries(1)), {})
    for i, (recv_ns, topic, payload) in enumerate(payloads(entries(60))):
        spool.write(Arrival(recv_ns + i, topic, payload))
    spool.flush()
    spool.keep()
    left, whole = tmp_path / f"episode-000.mcap{ACTIVE}", tmp_path / "whole.mcap"
    cut = left.read_bytes()
    left.write_bytes(cut[:-700])  # the kernel had not taken all of the last write
    ended = run("act-data", "recover", left, "--out", whole, "--json")
    assert ended.code in (0, 3), ended.err
    with AnyReader([whole]) as reader:
        read = [(t, c.topic, bytes(data)) for c, t, data in reader.messages()]
    sent = [(ns + i, topic, data) for i, (ns, topic, data) in enumerate(payloads(entries(60)))]
    assert read == sent[: len(read)]
    assert len(read) > 150
    with whole.open("rb") as file:
        assert [m.data for _, _, m in make_reader(file).iter_messages()] == [d for _, _, d in read]
