"""Our subscriber, and the design that was not taken: one thread for all connections.

python hear_ours.py ours|selector quiet|busy|switch '{"/arm": ["JointState", 200]}'
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from act_data.sources.live import Inbox
from act_data.sources.live.ros1 import Ros1Backend
from act_data.sources.live.ros1.master import Master
from act_data.sources.live.ros1.publisher import connected
from act_data.sources.live.ros1.sockets import Sockets
from benchmarks.ros1_load.listening import SAMPLES, note, until_the_end

SWITCH_S = 0.0005


def main() -> None:
    how, main_thread, topics = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    SAMPLES.update({topic: [] for topic in topics})
    inbox = Inbox()
    if how == "ours":
        Ros1Backend().subscribe(topics, inbox)
    else:
        Thread(target=hear_all_in_one_thread, args=(list(topics), inbox), daemon=True).start()
    Thread(target=take, args=(inbox,), daemon=True).start()
    if main_thread == "switch":
        sys.setswitchinterval(SWITCH_S)
    until_the_end(list(topics), busy=main_thread != "quiet")
    os._exit(0)


def take(inbox: Inbox) -> None:
    while True:
        for arrival in inbox.take(1.0):
            note(arrival.topic, arrival.recv_ns, arrival.payload[:12])


def hear_all_in_one_thread(topics: list[str], inbox: Inbox) -> None:
    """As the product receives, but with non-blocking sockets and epoll."""
    sockets, uri = Sockets(), os.environ["ROS_MASTER_URI"]
    # It publishes nothing and is told nothing, so nobody calls this address.
    master = Master(sockets, uri, caller="/hear_all", node_uri="http://127.0.0.1:1/")
    waiting = selectors.DefaultSelector()
    with ExitStack() as stack:
        for topic in topics:
            while not (uris := master.register(topic)):
                time.sleep(0.05)
            opened = connected(sockets, uris[0], topic, caller="/hear_all")
            _, sock = stack.enter_context(opened)
            sock.setblocking(False)
            waiting.register(sock, selectors.EVENT_READ, [topic, None, bytearray(4), 0])
        while waiting.get_map():
            for key, _ in waiting.select():
                assert isinstance(key.fileobj, socket.socket)
                if not receive(key.fileobj, key.data, inbox):
                    waiting.unregister(key.fileobj)


def receive(sock: socket.socket, state: list[object], inbox: Inbox) -> bool:
    """All that has come on one connection; False at its end."""
    topic, message, length, have = state
    assert isinstance(topic, str)
    assert isinstance(length, bytearray)
    assert isinstance(have, int)
    try:
        while True:
            part = memoryview(length) if message is None else message
            assert isinstance(part, memoryview)
            got = sock.recv_into(part[have:])
            if not got:
                return False
            have += got
            if have < len(part):
                continue
            if message is None:
                message, have = np.empty(int.from_bytes(length, "little"), np.uint8).data, 0
            else:
                inbox.put(topic, part)
                message, have = None, 0
    except BlockingIOError:
        state[1], state[3] = message, have
        return True


if __name__ == "__main__":
    main()
