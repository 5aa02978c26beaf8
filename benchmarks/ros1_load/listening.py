"""What every subscriber of the benchmark has in common, on whatever Python it runs.

It says "ready", hears until stdin is closed, and prints one JSON object: seconds of CPU of the
process without those that its main thread burned on purpose, and of each message its `header.seq`
and its latency in microseconds.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from threading import Event, Thread

HEAD = struct.Struct("<III")  # seq, stamp
SAMPLES: dict[str, list[tuple[int, int]]] = {}


def note(topic: str, recv_ns: int, head: bytes | memoryview) -> None:
    """Keep number and latency of a message that begins with a header."""
    seq, sec, nsec = HEAD.unpack_from(head)
    SAMPLES[topic].append((seq, (recv_ns - sec * 10**9 - nsec) // 1000))


def until_the_end(topics: list[str], *, busy: bool) -> None:
    """Wait, or compute in Python all the time, until stdin is closed; then print what was heard."""
    SAMPLES.update({topic: [] for topic in topics})
    over = Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    Thread(target=wait_for_the_end, daemon=True).start()
    print("ready", flush=True)
    cpu_s, main_s = time.process_time(), time.thread_time()
    number = 1
    if busy:
        while not over.is_set():
            for _ in range(1000):
                number = number * 3 % 1_000_003
    else:
        over.wait()
    cpu_s, main_s = time.process_time() - cpu_s, time.thread_time() - main_s
    print(json.dumps({"cpu_s": cpu_s - main_s, "samples": SAMPLES}), flush=True)
