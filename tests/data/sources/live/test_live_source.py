"""Live topics and the recording of them are the same source."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from threading import Thread
from time import monotonic

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from act_data.errors import DataError, InputError, NotFoundError
from act_data.robot import load_robot
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import Inbox, LiveSource, MemoryBackend, ReplayBackend, Spool
from tests.bags import KINDS, Entry, Kind
from tests.live_topics import ENCODINGS, Encoding, channels, payloads, seen
from tests.small_robot import bag, entries, robot_file

MS = 10**6


class Clock:
    """A wall clock that is set by hand."""

    now = 0

    def __call__(self) -> int:
        return self.now


def played(
    way: list[Entry], target: Path, encoding: Encoding = "cdr", *, room: int = 2**30, late: str = ""
) -> tuple[LiveSource, Spool]:
    """A live source that has heard `way` at the receive times of its entries, and its end.

    Args:
        room: Of the inbox, in bytes.
        late: A topic that was not known when it began.
    """
    backend = MemoryBackend(channels(way, encoding))
    clock = Clock()
    inbox = Inbox(room, clock=clock)
    backend.subscribe(backend.topics(), inbox)
    topics = {t: c for t in backend.topics() if t != late and (c := backend.channel(t))}
    spool = Spool(target, list(topics.values()), {})
    source = LiveSource(backend, inbox, topics, spool)
    for clock.now, topic, payload in payloads(way, encoding):
        backend.publish(topic, payload)
    backend.end()
    return source, spool


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_frames_of_live_topics_are_those_of_their_recording_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, encoding: Encoding
) -> None:
    folder = tmp_path_factory.mktemp("g1")
    robot = load_robot(robot_file(folder))
    count = 0

    @settings(
        max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(st.integers(0, 2**32 - 1))
    def property_(seed: int) -> None:
        """Each message comes late by up to 60 ms, one in ten is lost, some come twice."""
        nonlocal count
        count += 1
        rng = np.random.default_rng(seed)
        way: list[Entry] = []
        for topic, type_, t, values in entries(40):
            if rng.random() > 0.1:
                arrived = t + int(rng.integers(0, 60 * MS))
                way += [(topic, type_, arrived, values)] * (2 if rng.random() < 0.1 else 1)
        way.sort(key=lambda entry: entry[2])
        source, spool = played(way, folder / f"{count}.mcap", encoding)
        try:
            live = list(seen(source, robot))
        finally:
            path = spool.finish({})
        with open_recording(find_recordings([path])[0]) as recorded:
            offline = list(seen(recorded, robot))
            assert recorded.record(["/arm"]) == source.record(["/arm"])
        assert live == offline
        assert len(live) > 20

    property_()
    assert count >= 25


def test_messages_end_with_stop_and_what_had_arrived_before_is_given(tmp_path: Path) -> None:
    way = entries(5)
    backend = MemoryBackend(channels(way))
    inbox = Inbox()
    topics = {topic: c for topic in backend.topics() if (c := backend.channel(topic))}
    backend.subscribe(topics, inbox)
    source = LiveSource(backend, inbox, topics)
    heard: list[str] = []
    reader = Thread(target=lambda: heard.extend(r.topic for r in source.messages(["/arm"])))
    reader.start()
    sent = list(payloads(way))
    for _, topic, payload in sent:
        backend.publish(topic, payload)
    source.stop()
    reader.join(10)
    assert heard == ["/arm"] * 5
    assert source.counts == {"/arm": 5, "/lead": 5, "/cam/image_raw": 5}
    assert not inbox.closed
    with pytest.raises(InputError, match="no finished recording"):
        source.record(["/arm"])
    with pytest.raises(NotFoundError, match="'/nose'"):
        source.messages(["/nose"])


def test_what_the_inbox_lost_and_what_appeared_too_late_is_told(tmp_path: Path) -> None:
    way = entries(30)
    source, spool = played(way, tmp_path / "x.mcap", room=20_000, late="/lead")
    given_ = list(source.arrivals())
    lost = source.lost["/cam/image_raw"]
    assert lost > 0
    assert source.counts["/cam/image_raw"] + lost == 30
    assert len(given_) == source.counts.total()
    assert any("/cam/image_raw" in n and f"{lost} messages lost" in n for n in source.notes)
    assert any("/lead: appeared later" in n for n in source.notes)
    spool.finish({})


def test_what_is_lost_between_two_sources_is_lost_to_the_second_and_later_losses_to_neither() -> (
    None
):
    way = entries(1)
    backend = MemoryBackend(channels(way))
    inbox = Inbox(max_bytes=2_000)
    backend.subscribe(backend.topics(), inbox)
    topics = {t: c for t in backend.topics() if (c := backend.channel(t))}
    picture = next(data for _, topic, data in payloads(way) if "cam" in topic)

    def lose(number: int) -> None:
        for _ in range(number + 1):  # the first one fits
            backend.publish("/cam/image_raw", picture)

    first = LiveSource(backend, inbox, topics)
    lose(3)
    first.stop()
    assert len(list(first.arrivals())) == 1
    lose(5)  # nobody reads: a file is being made
    second = LiveSource(backend, inbox, topics, after=first)
    second.stop()
    assert len(list(second.arrivals())) == 1
    lose(7)
    assert first.lost == {"/cam/image_raw": 3}
    assert second.lost == {"/cam/image_raw": 5}


def test_a_message_without_room_for_its_header_is_an_error_and_is_spooled(tmp_path: Path) -> None:
    way = entries(1)
    backend = MemoryBackend(channels(way))
    inbox = Inbox()
    topics = {topic: c for topic in backend.topics() if (c := backend.channel(topic))}
    backend.subscribe(topics, inbox)
    spool = Spool(tmp_path / "x.mcap", list(topics.values()), {})
    backend.publish("/arm", b"\0\1\0\0")
    source = LiveSource(backend, inbox, topics, spool)
    with pytest.raises(DataError, match=r"x: the message of '/arm' received at \d+ ns is no valid"):
        next(source.messages(["/arm"]))
    assert spool.counts == {"/arm": 1}
    spool.discard()


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_delivers_the_recording_with_its_own_times(tmp_path: Path, kind: Kind) -> None:
    way = entries(30)
    path = bag(tmp_path, "a", way, kind)
    backend = ReplayBackend(path, speed=5)
    assert {t.type for t in backend.topics().values()} == {
        "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"
    }  # fmt: skip
    assert backend.channel("/arm") is None  # not subscribed
    inbox = Inbox()
    began = monotonic()
    backend.subscribe(backend.topics(), inbox)
    channel = backend.channel("/arm")
    assert channel is not None
    assert channel.definition is not None
    source = LiveSource(backend, inbox, {"/arm": channel})
    live = list(source.messages(["/arm"]))
    assert 0.19 < monotonic() - began < 5  # 29/30 s at fivefold speed
    backend.close()
    with open_recording(find_recordings([path])[0]) as recorded:
        assert live == list(recorded.messages(["/arm"]))
    assert all(a.recv_ns < b.recv_ns for a, b in pairwise(live))


def test_a_replay_can_be_closed_in_the_middle(tmp_path: Path) -> None:
    backend = ReplayBackend(bag(tmp_path, "a", entries(30)), speed=0.01)
    inbox = Inbox()
    backend.subscribe(["/arm"], inbox)
    assert inbox.take(10)
    began = monotonic()
    backend.close()
    assert monotonic() - began < 1
    assert inbox.closed


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_a_replay_at_no_speed_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(InputError, match="speed is"):
        ReplayBackend(bag(tmp_path, "a", entries(2)), speed=speed)


def test_a_replay_is_of_one_recording(tmp_path: Path) -> None:
    bag(tmp_path, "a", entries(2))
    bag(tmp_path, "b", entries(2))
    with pytest.raises(InputError, match="holds 2 recordings"):
        ReplayBackend(tmp_path)
