"""The same load from a foxglove server: serialised messages of the same sizes and rates.

    python serve_foxglove.py SECONDS '{"/arm": ["JointState", 200]}'

Prints its port first, and goes on as publish.py does.
"""

from __future__ import annotations

import heapq
import json
import struct
import sys
import time
from pathlib import Path

import foxglove
from rosbags.typesys import Stores, get_typestore

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bags import message

TYPES = {
    "Image": "sensor_msgs/msg/Image",
    "JointState": "sensor_msgs/msg/JointState",
    "Odometry": "nav_msgs/msg/Odometry",
}
PATIENCE_S = 30.0
WIDTH, HEIGHT = 640, 480
STAMP = struct.Struct("<iI")  # at 4, behind the encapsulation; the number's digits are at 16


def main() -> None:
    seconds, topics = float(sys.argv[1]), json.loads(sys.argv[2])
    server = foxglove.start_server(port=0)
    store = get_typestore(Stores.ROS2_JAZZY)
    channels, payloads = {}, {}
    for topic, (kind, _) in topics.items():
        text, _ = store.generate_msgdef(TYPES[kind], ros_version=2)
        schema = foxglove.Schema(name=TYPES[kind], encoding="ros2msg", data=text.encode())
        channels[topic] = foxglove.Channel(topic, schema=schema, message_encoding="cdr")
        built = message(store, TYPES[kind], values(kind))
        payloads[topic] = bytearray(store.serialize_cdr(built, TYPES[kind]))
    print(server.port, flush=True)
    give_up = time.monotonic() + PATIENCE_S
    while not all(channel.has_sinks() for channel in channels.values()):
        if time.monotonic() > give_up:
            sys.exit("nobody listens to all topics")
        time.sleep(0.05)
    print("subscribed", flush=True)
    sys.stdin.readline()

    sent = dict.fromkeys(topics, 0)
    latest = 0.0
    start = time.monotonic()
    queue = [(k / 7 / hz, topic, hz) for k, (topic, (_, hz)) in enumerate(topics.items())]
    heapq.heapify(queue)
    while queue[0][0] < seconds:
        due, topic, hz = queue[0]
        time.sleep(max(0.0, start + due - time.monotonic()))
        latest = max(latest, time.monotonic() - start - due)
        payload = payloads[topic]
        payload[16:24] = f"{sent[topic]:08d}".encode()
        STAMP.pack_into(payload, 4, *divmod(time.time_ns(), 10**9))
        channels[topic].log(bytes(payload))
        sent[topic] += 1
        heapq.heapreplace(queue, (due + 1 / hz, topic, hz))
    print(json.dumps({"sent": sent, "latest_ms": 1e3 * latest}), flush=True)
    sys.stdin.read()
    server.stop()


def values(kind: str) -> dict[str, object]:
    header: dict[str, object] = {"header": {"frame_id": "0" * 8}}
    if kind == "Image":
        size = {"width": WIDTH, "height": HEIGHT, "step": 3 * WIDTH, "encoding": "rgb8"}
        return {**header, **size, "data": bytes(3 * WIDTH * HEIGHT)}
    if kind == "JointState":
        names = [f"joint{i}" for i in range(7)]
        return {**header, "name": names, "position": [0.5] * 7, "velocity": [0.1] * 7}
    return header


if __name__ == "__main__":
    main()
