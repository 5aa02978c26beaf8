from __future__ import annotations

from itertools import pairwise
from threading import Thread

from act_data.sources.live import Inbox


def test_the_order_of_the_queue_is_the_order_of_the_receive_times_with_many_writers() -> None:
    inbox = Inbox(clock=lambda: 1_000)  # a clock that stands still: every time is a tie

    def write(topic: str) -> None:
        for i in range(500):
            inbox.put(topic, bytes([i % 256]))

    writers = [Thread(target=write, args=(f"/t{n}",)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    arrivals = inbox.take(0)

    assert len(arrivals) == 2000
    assert all(a.recv_ns < b.recv_ns for a, b in pairwise(arrivals))
    for n in range(4):
        sent = [a.payload for a in arrivals if a.topic == f"/t{n}"]
        assert sent == [bytes([i % 256]) for i in range(500)]


def test_a_clock_that_steps_back_does_not_turn_the_order_around() -> None:
    times = iter([100, 50, 51, 200])
    inbox = Inbox(clock=lambda: next(times))
    for _ in range(4):
        inbox.put("/a", b"x")
    assert [a.recv_ns for a in inbox.take(0)] == [100, 101, 102, 200]


def test_what_does_not_fit_is_counted_by_topic_and_the_rest_is_kept() -> None:
    inbox = Inbox(max_bytes=10)
    inbox.put("/a", b"12345678")
    inbox.put("/b", b"1234")
    inbox.put("/b", b"1234")
    inbox.put("/a", b"12")
    assert [a.payload for a in inbox.take(0)] == [b"12345678", b"12"]
    assert inbox.overflow == {"/b": 2}
    inbox.put("/b", b"1234")  # taken: there is room again
    assert len(inbox.take(0)) == 1


def test_a_waiting_reader_wakes_for_a_message_and_for_the_end() -> None:
    inbox = Inbox()
    Thread(target=inbox.put, args=("/a", b"x")).start()
    assert [a.topic for a in inbox.take(30)] == ["/a"]
    Thread(target=inbox.close).start()
    assert inbox.take(30) == []
    assert inbox.closed
    inbox.put("/a", b"late")
    assert inbox.take(0) == []
