"""Which segment a tick lies in: every tick in at most one, whatever marks come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.segments import Action, Mark, Segment, Segments, split_of
from act_data.segments.split import By

TICKS = range(0, 100)

marks = st.lists(st.tuples(st.integers(0, 99), st.sampled_from(list(Action))), max_size=12).map(
    lambda pairs: [Mark(recv_ns=t, action=a) for t, a in sorted(pairs, key=lambda p: p[0])]
)


def placed(segments: Segments) -> list[int | None]:
    """The number of each tick's segment."""
    found = [segments.at(tick) for tick in TICKS]
    return [None if segment is None else segment.number for segment in found]


@given(marks=marks, open_at_first=st.booleans())
def test_every_tick_lies_in_the_one_segment_whose_bounds_hold_it(
    marks: list[Mark], open_at_first: bool
) -> None:
    segments = Segments(marks, open_at_first=open_at_first)
    numbers = placed(segments)
    segments.end()

    def holds(segment: Segment, tick: int) -> bool:
        start = -1 if segment.start_ns is None else segment.start_ns
        return start <= tick < (100 if segment.stop_ns is None else segment.stop_ns)

    for tick, number in zip(TICKS, numbers, strict=True):
        assert [s.number for s in segments.begun if holds(s, tick)] == (
            [] if number is None else [number]
        )


@given(times=st.lists(st.integers(1, 99), unique=True, max_size=10).map(sorted))
def test_cuts_part_a_recording_without_leaving_a_tick_out(times: list[int]) -> None:
    numbers = placed(Segments([Mark(recv_ns=t, action=Action.CUT) for t in times]))
    assert numbers == [sum(t <= tick for t in times) for tick in TICKS]


@given(marks=marks, open_at_first=st.booleans())
def test_marks_that_are_heard_on_the_way_do_what_marks_known_before_do(
    marks: list[Mark], open_at_first: bool
) -> None:
    heard = Segments(open_at_first=open_at_first)
    numbers: list[int | None] = []
    waiting = list(marks)
    for tick in TICKS:
        while waiting and waiting[0].recv_ns <= tick:
            heard.put(waiting.pop(0))
        segment = heard.at(tick)
        numbers.append(None if segment is None else segment.number)
    assert numbers == placed(Segments(marks, open_at_first=open_at_first))


@pytest.mark.parametrize(
    ("actions", "inside"),
    [
        pytest.param([(2, Action.START), (5, Action.STOP)], [2, 3, 4], id="start-and-stop"),
        pytest.param([(2, Action.START), (4, Action.START), (6, Action.STOP)], [2, 3, 4, 5],
                     id="a-second-start-changes-nothing"),
        pytest.param([(1, Action.STOP), (8, Action.START)], [8, 9], id="a-stop-without-a-start"),
        pytest.param([(2, Action.CUT)], [], id="a-cut-where-nothing-is-open"),
        pytest.param([(2, Action.TOGGLE), (3, Action.TOGGLE)], [2], id="toggled"),
        pytest.param([(3, Action.START), (3, Action.STOP)], [], id="empty"),
    ],
)  # fmt: skip
def test_marks_begin_and_end_segments(actions: list[tuple[int, Action]], inside: list[int]) -> None:
    segments = Segments([Mark(recv_ns=t, action=a) for t, a in actions], open_at_first=False)
    assert [tick for tick in range(10) if segments.at(tick) is not None] == inside


def test_segments_that_no_tick_lies_in_are_known_too() -> None:
    segments = Segments(
        [Mark(recv_ns=t, action=a) for t, a in [(3, Action.START), (4, Action.STOP)]],
        open_at_first=False,
    )
    assert segments.at(2) is None
    assert not segments.over
    segments.end()
    assert [(s.start_ns, s.stop_ns) for s in segments.begun] == [(3, 4)]
    assert segments.over


@pytest.mark.parametrize(
    ("text", "by", "name", "button"),
    [
        ("marker:/episode", By.MARKER, "/episode", 0),
        ("start:/joy:4", By.START, "/joy", 4),
        ("stop:/ns/stop_it", By.STOP, "/ns/stop_it", 0),
        ("cut:marks", By.CUT, "marks", 0),
    ],
)
def test_a_split_says_what_the_events_of_a_topic_do(
    text: str, by: By, name: str, button: int
) -> None:
    split = split_of(text)
    assert (split.by, split.name, split.button) == (by, name, button)


def test_a_silence_has_a_length() -> None:
    assert split_of("silence:2.5").silence_ns == 2_500_000_000


@pytest.mark.parametrize(
    "text", ["", "/topic", "marker:", "mark:/t", "silence:", "silence:0", "silence:-1",
             "silence:1e3", "marker:/t:x", "marker:/t:1:2", "cut:/a b", "silence:nan"],
)  # fmt: skip
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="marker:/TOPIC"):
        split_of(text)
