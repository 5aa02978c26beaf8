"""A foxglove server for tests: the SDK's own, in a process of its own, on loopback.

with FoxgloveBridge("cdr") as bridge:
    backend = FoxgloveBackend(bridge.url)
    ...
    bridge.tell("publish")      # every message of `spoken("cdr")`, once all topics are heard
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from tests.bags import JOINT_COMMAND, JOINT_COMMAND_DEFINITION, Entry, command, message, typestore
from tests.live_topics import Encoding
from tests.small_robot import entries

ROOT = Path(__file__).parent.parent
LISTEN_S = 30.0
TOPICS = ("/arm", "/cam/image_raw", "/command", "/lead")


def way() -> list[Entry]:
    """What the bridge's robot does: 30 steps of the small robot, with a type of its own."""
    found = []
    for number, entry in enumerate(entries(30)):
        found += [entry, command(entry[2] + 1, [number, 0.5])]
    return found


def spoken(encoding: Encoding) -> list[tuple[str, bytes]]:
    """(topic, payload) of everything that one `publish` sends."""
    store = typestore(
        "ros1" if encoding == "ros1" else "mcap", {JOINT_COMMAND: JOINT_COMMAND_DEFINITION}
    )
    serialize = store.serialize_ros1 if encoding == "ros1" else store.serialize_cdr
    return [
        (topic, bytes(serialize(message(store, type_, values), type_)))
        for topic, type_, _, values in way()
    ]


class FoxgloveBridge:
    """The process. Use it in a `with` statement."""

    def __init__(self, encoding: Encoding, port: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.foxglove_bridge", encoding, str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())
        self.url = f"ws://127.0.0.1:{self.port}"

    def tell(self, *words: str) -> None:
        """Order something (`_orders`), and come back when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        assert self._line() == "done"

    def signal(self, number: int) -> None:
        """Send the process a signal, SIGSTOP for example."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a power cut would."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=LISTEN_S)


# --- the bridge's process -----------------------------------------------------------------------


def _channel(topic: str, type_: str, encoding: Encoding) -> Any:
    from foxglove import Channel, Schema

    ros1 = encoding == "ros1"
    store = typestore("ros1" if ros1 else "mcap", {JOINT_COMMAND: JOINT_COMMAND_DEFINITION})
    text, _ = store.generate_msgdef(type_, ros_version=1 if ros1 else 2)
    schema = Schema(
        name=type_.replace("/msg/", "/") if ros1 else type_,
        encoding="ros1msg" if ros1 else "ros2msg",
        data=text.encode(),
    )
    return Channel(topic, schema=schema, message_encoding=encoding)


def _bridge(encoding: Encoding, port: int) -> None:
    import foxglove

    types = {topic: type_ for topic, type_, _, _ in way()}
    channels = {topic: _channel(topic, type_, encoding) for topic, type_ in types.items()}
    server = foxglove.start_server(name="the robot", port=port)  # a client may be waiting for it
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order, *words = line.split()
        match order, words:
            case "publish", []:
                give_up = time.monotonic() + LISTEN_S
                while not all(channel.has_sinks() for channel in channels.values()):
                    assert time.monotonic() < give_up, "nobody listens"
                    time.sleep(0.02)
                for topic, payload in spoken(encoding):
                    channels[topic].log(payload)
                    time.sleep(0.002)
            case "close", [topic]:
                channels.pop(topic).close()
            case "open", [topic, type_]:
                channels[topic] = _channel(topic, type_, encoding)
            case "json", [topic]:
                foxglove.Channel(topic, message_encoding="json").log({"a": 1})
            case "warn", _:
                server.publish_status(" ".join(words), foxglove.StatusLevel.Warning)
        sys.stdout.write("done\n")
        sys.stdout.flush()
    server.stop()


if __name__ == "__main__":
    _bridge("ros1" if sys.argv[1] == "ros1" else "cdr", int(sys.argv[2]))
