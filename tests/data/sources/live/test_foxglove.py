"""The foxglove backend against the SDK's server in another process, and against bad servers."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Thread
from threading import enumerate as threads

import pytest
from rosbags.highlevel import AnyReader
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from act_data.errors import DataError, InputError
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import Arrival, Inbox, Spool
from act_data.sources.live import foxglove as foxglove_module
from act_data.sources.live.foxglove import FoxgloveBackend
from act_data.sources.message_types import message_type
from tests.bags import JOINT_COMMAND
from tests.foxglove_bridge import TOPICS, FoxgloveBridge, spoken
from tests.live_topics import ENCODINGS, Encoding


@contextmanager
def listening(
    url: str, inbox: Inbox, topics: tuple[str, ...] = TOPICS
) -> Iterator[FoxgloveBackend]:
    backend = FoxgloveBackend(url)
    try:
        backend.subscribe(topics, inbox)
        yield backend
    finally:
        backend.close()


def taken(inbox: Inbox, number: int, within_s: float = 30.0) -> list[Arrival]:
    """The next `number` arrivals, or what came in time."""
    found: list[Arrival] = []
    end = time.monotonic() + within_s
    while len(found) < number and time.monotonic() < end:
        found += inbox.take(0.05)
    return found


def said(arrivals: list[Arrival]) -> list[tuple[str, bytes]]:
    return [(a.topic, bytes(a.payload)) for a in arrivals]


def eventually(true: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_message_arrives_as_it_was_sent_and_can_be_recorded(
    tmp_path: Path, encoding: Encoding
) -> None:
    inbox = Inbox()
    with FoxgloveBridge(encoding) as bridge, listening(bridge.url, inbox) as backend:
        assert {t.name: t.type for t in backend.topics().values()} == {
            "/arm": "sensor_msgs/msg/JointState",
            "/cam/image_raw": "sensor_msgs/msg/Image",
            "/command": JOINT_COMMAND,
            "/lead": "sensor_msgs/msg/JointState",
        }
        bridge.tell("publish")
        heard = taken(inbox, len(spoken(encoding)))
        channels = [channel for topic in TOPICS if (channel := backend.channel(topic))]
        assert "connected to 'the robot'" in backend.notes()
    assert said(heard) == spoken(encoding)
    assert all(a.recv_ns < b.recv_ns for a, b in pairwise(heard))
    assert [(c.topic, c.encoding) for c in channels] == [(t, encoding) for t in TOPICS]
    spool = Spool(tmp_path / "live.mcap", channels, {})
    for arrival in heard:
        spool.write(arrival)
    (recording,) = find_recordings([spool.finish({})])
    with open_recording(recording) as source:
        assert [(r.topic, bytes(r.payload)) for r in source.messages(TOPICS)] == spoken(encoding)
        (first, *_) = source.messages(["/command"])  # its type came over the wire only
        assert source.deserialize(first).cmd.tolist() == [0.0, 0.5]
    if encoding == "cdr":
        with AnyReader([spool.path]) as reader:
            assert reader.message_count == len(heard)


def test_a_topic_may_appear_later_and_go(tmp_path: Path) -> None:
    inbox = Inbox()
    with FoxgloveBridge("cdr") as bridge:
        bridge.tell("close", "/lead")
        with listening(bridge.url, inbox) as backend:
            assert "/lead" not in backend.topics()
            assert backend.channel("/lead") is None
            bridge.tell("open", "/lead", "sensor_msgs/msg/JointState")
            bridge.tell("publish")
            assert said(taken(inbox, len(spoken("cdr")))) == spoken("cdr")
            channel = backend.channel("/lead")
            assert channel is not None
            assert message_type(channel).name == "sensor_msgs/msg/JointState"
            bridge.tell("close", "/lead")
            eventually(lambda: "/lead: no more offered" in backend.notes())
            assert "/lead" not in backend.topics()


def test_a_bridge_that_was_killed_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foxglove_module, "_FIRST_RETRY_S", 0.05)
    inbox = Inbox()
    bridge = FoxgloveBridge("cdr")
    with listening(bridge.url, inbox) as backend:
        bridge.tell("publish")
        assert said(taken(inbox, len(spoken("cdr")))) == spoken("cdr")
        bridge.kill()
        eventually(lambda: any("the connection was lost" in n for n in backend.notes()))
        with pytest.raises(DataError, match="does not answer"):
            backend.topics()
        with FoxgloveBridge("cdr", bridge.port) as second:
            second.tell("publish")
            assert said(taken(inbox, len(spoken("cdr")))) == spoken("cdr")
    assert "/arm: subscribed (2 times)" in backend.notes()


def test_a_bridge_that_falls_silent_is_given_up_and_one_that_has_nothing_to_say_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(foxglove_module, "_PING_S", 0.3)
    inbox = Inbox()
    with FoxgloveBridge("cdr") as bridge, listening(bridge.url, inbox) as backend:
        time.sleep(1.5)
        bridge.tell("publish")
        assert said(taken(inbox, len(spoken("cdr")))) == spoken("cdr")
        assert "/arm: subscribed" in backend.notes()
        bridge.signal(signal.SIGSTOP)
        eventually(lambda: any("does not answer any more" in n for n in backend.notes()))
        bridge.signal(signal.SIGCONT)
        eventually(lambda: "/arm: subscribed (2 times)" in backend.notes())


def test_a_topic_that_is_not_in_an_encoding_of_ros_is_refused() -> None:
    with FoxgloveBridge("cdr") as bridge:
        bridge.tell("json", "/status")
        backend = FoxgloveBackend(bridge.url)
        eventually(lambda: "/status" in backend.topics())
        with pytest.raises(DataError, match="topic '/status' comes in an encoding that is not ROS"):
            backend.subscribe(["/arm", "/status"], Inbox())
        backend.close()


def test_a_topic_with_two_types_is_refused_and_the_others_go_on() -> None:
    inbox = Inbox()
    with FoxgloveBridge("cdr") as bridge, listening(bridge.url, inbox) as backend:
        bridge.tell("open", "/arm", "sensor_msgs/msg/Image")
        eventually(lambda: any("different types" in n for n in backend.notes()))
        with pytest.raises(
            DataError, match=r"JointState \(cdr\) and sensor_msgs/msg/Image \(cdr\)"
        ):
            backend.channel("/arm")
        assert backend.channel("/lead") is not None


def test_what_the_bridge_warns_of_is_noted() -> None:
    with FoxgloveBridge("cdr") as bridge, listening(bridge.url, Inbox()) as backend:
        bridge.tell("warn", "send", "buffer", "limit", "reached")
        eventually(lambda: "the bridge says: send buffer limit reached" in backend.notes())


def test_close_ends_every_thread_and_what_comes_later_is_not_heard() -> None:
    inbox = Inbox()
    with FoxgloveBridge("cdr") as bridge:
        before = {t.name for t in threads()}
        for _ in range(3):
            with listening(bridge.url, inbox) as backend:
                bridge.tell("publish")
                assert len(taken(inbox, len(spoken("cdr")))) == len(spoken("cdr"))
            backend.close()
            assert {t.name for t in threads()} == before
    FoxgloveBackend(bridge.url).close()  # one that was never used


@contextmanager
def answering(behave: Callable[[ServerConnection], object]) -> Iterator[str]:
    """A server of foxglove's protocol that does to each client what `behave` says."""
    with serve(
        behave, "127.0.0.1", 0, subprotocols=[Subprotocol("foxglove.websocket.v1")]
    ) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def advertisement(**changes: object) -> str:
    channel = {"id": 1, "topic": "/arm", "encoding": "cdr", "schema": "int32 a"}
    channel |= {"schemaName": "sensor_msgs/msg/JointState"}
    return json.dumps({"op": "advertise", "channels": [{**channel, **changes}]})


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        pytest.param("not json", "Expecting value", id="no-json"),
        pytest.param("[1]", "no message", id="no-object"),
        pytest.param('{"op": "advertise", "channels": 1}', "malformed", id="malformed"),
        pytest.param(advertisement(id=-1), "channel's number", id="bad-number"),
        pytest.param(advertisement(schema=1), "malformed channel", id="bad-schema"),
        pytest.param("[" * 100_000, "deeply", id="nested"),
        pytest.param(b"", "empty", id="empty-binary"),
        pytest.param(b"\x01\x02\x03", "3 bytes", id="cut-binary"),
        pytest.param(bytes(2000), "1009", id="too-long"),
    ],
)
def test_a_server_that_says_nonsense_is_left_with_its_reason(
    frame: str | bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "1009":
        monkeypatch.setattr(foxglove_module, "MAX_BYTES", 1000)

    def behave(connection: ServerConnection) -> None:
        connection.send(frame)
        connection.recv(timeout=10)

    with answering(behave) as url:
        backend = FoxgloveBackend(url)
        with pytest.raises(DataError, match=why) as told:
            backend.topics()
        assert url in str(told.value)
        backend.close()


def test_a_server_that_breaks_off_is_tried_again_with_longer_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(foxglove_module, "_FIRST_RETRY_S", 0.1)
    visits: list[float] = []

    def behave(connection: ServerConnection) -> None:
        visits.append(time.monotonic())
        connection.send(advertisement())
        connection.recv(timeout=10)  # the subscription
        connection.send("nonsense")

    with answering(behave) as url, listening(url, Inbox(), ("/arm",)):
        eventually(lambda: len(visits) == 4)
    pauses = [b - a for a, b in pairwise(visits)]
    assert all(pause > due for pause, due in zip(pauses, (0.1, 0.2, 0.4), strict=True))


@pytest.mark.parametrize("refusals", [2, 100])
def test_a_channel_that_is_offered_too_early_is_asked_for_again_but_not_forever(
    refusals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foxglove_module, "_ASK_AGAIN_S", 0.01)
    asked: list[int] = []
    too_early = json.dumps({"op": "status", "level": 2, "message": "Unknown channel ID: 1"})

    def behave(connection: ServerConnection) -> None:
        connection.send(advertisement())
        while True:
            order = json.loads(connection.recv(timeout=10))
            asked.append(order["subscriptions"][0]["id"])
            if len(asked) <= refusals:
                connection.send(too_early)
            else:
                connection.send(struct.pack("<BIQ", 1, asked[-1], 0) + b"payload")

    inbox = Inbox()
    with answering(behave) as url, listening(url, inbox, ("/arm",)) as backend:
        if refusals == 2:
            assert [a.payload for a in taken(inbox, 1)] == [b"payload"]
            assert len(asked) == 3
            assert not any("Unknown" in note for note in backend.notes())
        else:
            eventually(lambda: any("Unknown channel ID: 1" in n for n in backend.notes()))
            assert len(asked) == 21


def test_nobody_there_is_told_with_the_address() -> None:
    backend = FoxgloveBackend("ws://127.0.0.1:9")
    for _ in range(2):  # it may be there the next time
        with pytest.raises(DataError, match=r"ws://127\.0\.0\.1:9 does not answer") as told:
            backend.topics()
        assert "foxglove_bridge" in told.value.hint
    backend.close()


def test_a_web_server_that_is_no_bridge_is_told_from_one() -> None:
    with serve(lambda c: c.recv(timeout=10), "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        backend = FoxgloveBackend(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        with pytest.raises(DataError, match=r"speaks none of foxglove\.sdk\.v1"):
            backend.topics()
        backend.close()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "url", ["robot:8765", "http://robot:8765", "ws://", "ws://robot:port", "ws://robot:99999", ""]
)
def test_an_address_that_is_none_is_told_before_anything_is_contacted(url: str) -> None:
    with pytest.raises(InputError, match="no address of a foxglove bridge") as told:
        FoxgloveBackend(url)
    assert "ws://HOST:PORT" in told.value.hint


def test_without_websockets_the_error_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['websockets'] = None\n"
        "from act_data.errors import NotFoundError\n"
        "from act_data.sources.live.foxglove import FoxgloveBackend\n"
        "try: FoxgloveBackend('ws://robot:8765')\n"
        "except NotFoundError as e: print(e, '|', e.hint)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'act-toolkit[foxglove]'" in told.stdout
