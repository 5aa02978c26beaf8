"""Messages that mark where episodes begin and end: switches, buttons, calls, silence."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from act_data.errors import DataError
from act_data.segments import Action, Mark, listeners, split_of
from act_data.segments.service_event import service_event
from act_data.sources import find_recordings, open_recording
from act_data.types import RawMessage
from tests.bags import KINDS, Entry, Kind, write
from tests.data.segments.marks import BOOL, EMPTY, JOY, event_payload

S = 10**9
BAGS = Path(os.environ.get("ACT_TEST_BAGS", Path(__file__).parents[4] / "shared" / "bags"))


def marks(path: Path, *splits: str, required: Sequence[str] = ()) -> list[tuple[int, Action]]:
    """Time and action of the marks in a recording."""
    found: list[Mark] = []
    (recording,) = find_recordings([path])
    with open_recording(recording) as source:
        heard = listeners(
            [split_of(s) for s in splits], source.topics, required, source.deserialize, found.append
        )
        for raw in source.messages(tuple(heard)):
            heard[raw.topic](raw)
    return [(mark.recv_ns // S, mark.action) for mark in found]


def joy(t: int, *buttons: int) -> Entry:
    return ("/joy", JOY, t * S, {"header": t * S, "axes": [0.0], "buttons": buttons})


@pytest.mark.parametrize("kind", KINDS)
def test_a_switch_starts_and_stops_however_often_it_says_so(tmp_path: Path, kind: Kind) -> None:
    values = [False, True, True, False, False, True]
    path = write(
        tmp_path / "a", kind, [("/on", BOOL, t * S, {"data": v}) for t, v in enumerate(values, 1)]
    )
    on, off = Action.START, Action.STOP
    assert marks(path, "marker:/on") == list(enumerate([off, on, on, off, off, on], 1))
    assert marks(path, "cut:/on") == [(2, Action.CUT), (6, Action.CUT)]


def test_empty_messages_toggle(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "ros1", [("/press", EMPTY, t * S, {}) for t in (1, 3)])
    assert marks(path, "marker:/press") == [(1, Action.TOGGLE), (3, Action.TOGGLE)]
    assert marks(path, "start:/press") == [(1, Action.START), (3, Action.START)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_button_counts_when_it_goes_down(tmp_path: Path, kind: Kind) -> None:
    presses = [(0, 0), (0, 1), (0, 1), (1, 0), (0, 0), (1, 1)]
    path = write(tmp_path / "a", kind, [joy(t, *b) for t, b in enumerate(presses, 1)])
    assert marks(path, "marker:/joy:1") == [(2, Action.TOGGLE), (6, Action.TOGGLE)]
    assert marks(path, "start:/joy:1", "stop:/joy:0") == [
        (2, Action.START), (4, Action.STOP), (6, Action.START), (6, Action.STOP),
    ]  # fmt: skip
    with pytest.raises(DataError, match="has 2 buttons, and none with number 2"):
        marks(path, "marker:/joy:2")


def test_a_button_that_is_down_in_the_first_message_was_pressed(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "ros1", [joy(1, 1), joy(2, 0)])  # ROS 1 tells changes only
    assert marks(path, "cut:/joy:0") == [(1, Action.CUT)]


@pytest.mark.parametrize(
    ("gap", "cuts"), [("silence:1.5", [5, 8]), ("silence:2", [5]), ("silence:3", [])]
)
def test_a_silence_of_all_required_topics_cuts_where_it_ends(
    tmp_path: Path, gap: str, cuts: list[int]
) -> None:
    times = {"/a": (1, 2, 5, 6, 8), "/b": (1, 2, 6, 8), "/other": (1, 2, 3, 4, 5, 6, 7, 8)}
    path = write(
        tmp_path / "a", "ros1",
        sorted([(n, EMPTY, t * S, {}) for n, each in times.items() for t in each],
               key=lambda e: e[2]),
    )  # fmt: skip
    assert marks(path, gap, required=["/a", "/b"]) == [(t, Action.CUT) for t in cuts]


def test_a_topic_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a", "ros1",
        [("/record_on", BOOL, S, {"data": True}), ("/text", "std_msgs/msg/String", S, {})],
    )  # fmt: skip
    with pytest.raises(DataError, match="no topic '/recrd_on' to split by") as caught:
        marks(path, "marker:/recrd_on")
    assert "Markers here: /record_on." in caught.value.hint
    with pytest.raises(DataError, match="'std_msgs/msg/String', which marks nothing"):
        marks(path, "marker:/text")


# --- calls of a service ---


def call(kind: int, number: int, request: bytes | None, order: str = "<") -> bytes:
    return event_payload(kind, number, request, order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_service_event_is_read_from_its_bytes(order: str) -> None:
    event = service_event(call(1, 7, b"\x01", order))
    assert event.request is not None
    assert (event.kind, event.call[1], event.request[:1]) == (1, 7, b"\x01")
    assert service_event(call(3, 7, None, order)).request is None
    for wrong in (b"", b"\x00", b"\x00\x01\x00\x00" + bytes(20), b"\x01\x01" + bytes(60)):
        with pytest.raises(ValueError, match=r"too few|not plain CDR"):
            service_event(wrong)


def events(type_: str, payloads: Sequence[bytes], split: str) -> list[tuple[int, Action]]:
    """The marks of events as a recorder delivers them: the type is not one that can be decoded."""
    from act_data.types import TopicInfo

    topic = "/record/_service_event"
    found: list[Mark] = []

    def never(raw: RawMessage) -> object:
        raise AssertionError("its definition cannot be read")

    topics = {topic: TopicInfo(name=topic, type=type_)}
    heard = listeners([split_of(split)], topics, (), never, found.append)
    for t, payload in enumerate(payloads):
        heard[topic](RawMessage(topic=topic, recv_ns=t, stamp_ns=None, seq=None, type=type_,
                                encoding="cdr", payload=payload))  # fmt: skip
    return [(mark.recv_ns, mark.action) for mark in found]


def test_a_call_counts_once_whoever_saw_it() -> None:
    payloads = [call(kind, n, b"\x00") for n in (1, 2) for kind in (0, 1, 2, 3)]
    payloads += [call(kind, 3, b"\x00") for kind in (1, 2)]  # only the server publishes
    assert events("std_srvs/srv/Trigger_Event", payloads, "marker:/record") == [
        (0, Action.TOGGLE), (4, Action.TOGGLE), (8, Action.TOGGLE),
    ]  # fmt: skip


def test_set_bool_says_whether_to_start_or_stop() -> None:
    payloads = [call(1, n, bytes([n % 2])) for n in (1, 2, 3)]
    type_ = "std_srvs/srv/SetBool_Event"
    assert [a for _, a in events(type_, payloads, "marker:/record")] == [
        Action.START, Action.STOP, Action.START,
    ]  # fmt: skip
    assert events(type_, payloads, "stop:/record") == [(0, Action.STOP), (2, Action.STOP)]
    with pytest.raises(DataError, match="do not tell what was asked for") as caught:
        events(type_, [call(1, 1, None)], "marker:/record")
    assert "contents" in caught.value.hint


def test_what_is_no_event_is_an_error_with_topic_and_time() -> None:
    with pytest.raises(DataError, match="'/record/_service_event' received at 1 ns is no service"):
        events("x/srv/X_Event", [call(0, 1, b""), struct.pack("<I", 9)], "cut:/record")


@pytest.mark.skipif(not BAGS.is_dir(), reason=f"no real recordings at {BAGS}; set ACT_TEST_BAGS")
@pytest.mark.parametrize("suffix", ["mcap", "db3"])
def test_the_calls_of_a_real_recording_are_found_by_the_name_of_the_service(suffix: str) -> None:
    path = BAGS / f"rosbag2_topics_and_services.{suffix}"
    found = marks(path, "cut:/add_two_ints")
    assert [action for _, action in found] == [Action.CUT] * 3
    assert [t for t, _ in found] == sorted(t for t, _ in found)
