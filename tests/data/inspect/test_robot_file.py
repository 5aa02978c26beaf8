"""Whatever was recorded, a proposed file is a robot file, and it binds to the recording."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.inspect.cards import (
    FieldCard,
    JointCard,
    NumberCard,
    PictureCard,
    RecordingCard,
    TopicCard,
)
from act_data.inspect.proposal import propose
from act_data.robot import bind, parse_robot
from act_data.types import DEFAULT_FIELD, StreamKind, TopicInfo

TYPES = {
    StreamKind.ODOMETRY: "nav_msgs/msg/Odometry",
    StreamKind.TWIST: "geometry_msgs/msg/Twist",
    StreamKind.IMU: "sensor_msgs/msg/Imu",
    StreamKind.MULTI_ARRAY: "std_msgs/msg/Float64MultiArray",
    StreamKind.NUMERIC: "my_msgs/msg/Own",
}
parts = st.sampled_from([
    "left", "right", "leader", "follower", "cmd_vel", "camera", "depth", "image_raw", "state",
    "commands", "odom", "a", "1", "class", "timestamp", "action", "qpos", "joint_states",
])  # fmt: skip
names = st.lists(parts, min_size=1, max_size=4).map(lambda p: "/" + "/".join(p))
odd = st.text(string.printable + "é\u2028\x85#: \n", min_size=1, max_size=12)


@st.composite
def topics(draw: st.DrawFn, name: st.SearchStrategy[str] = names | odd) -> TopicCard:
    """A topic of any kind, as a look could have found it."""
    kind = draw(st.sampled_from(["image", "depth", "joints", *TYPES]))
    first = draw(st.floats(0, 5))
    p50 = draw(st.floats(1, 1000))
    known: dict[str, object] = {
        "topic": draw(name),
        "messages": draw(st.integers(0, 500)),
        "promised": 9,
        "bytes": 9,
        "first_s": first,
        "last_s": first + draw(st.floats(0.1, 10)),
        "rate_hz": 1000 / p50,
        "period_p50_ms": p50,
        "period_p99_ms": p50 * draw(st.floats(1, 20)),
        "period_max_ms": p50 * 21,
    }
    if kind in ("image", "depth"):
        picture = PictureCard(kind=kind, encodings=(draw(odd),), sizes=((4, 6),))
        return TopicCard.model_validate(
            {**known, "type": "sensor_msgs/msg/Image", "pictures": picture}
        )
    if kind == "joints":
        fields = draw(st.sets(st.sampled_from(["position", "velocity", "effort"])))
        joints = JointCard(
            names=tuple(draw(st.lists(odd, unique=True, max_size=5))),
            count=draw(st.integers(0, 3)),
            fields=tuple(f for f in ("position", "velocity", "effort") if f in fields),
        )
        return TopicCard.model_validate(
            {**known, "type": "sensor_msgs/msg/JointState", "joints": joints}
        )
    paths = DEFAULT_FIELD.get(kind, ("force", "tip.position[0]", "y"))
    numbers = NumberCard(
        kind=kind.value,
        fields=tuple(
            FieldCard(path=path, width=1, moves=draw(st.booleans()))
            for path in paths[: draw(st.integers(0, len(paths)))]
        ),
        left_out={"other": draw(odd)},
    )
    return TopicCard.model_validate({**known, "type": TYPES[kind], "numbers": numbers})


@settings(max_examples=300, deadline=None)
@given(st.lists(topics(), max_size=12, unique_by=lambda t: t.topic.removeprefix("/")), odd)
def test_a_proposed_file_is_a_robot_that_binds_to_its_recording(
    cards: list[TopicCard], name: str
) -> None:
    card = RecordingCard(name=name, kind="mcap", files=(), bytes=9, topics=tuple(cards))
    proposal = propose(card, lambda topic: True)
    if not proposal.yaml:
        assert len(proposal.why_none) == len(cards)
        return
    robot = parse_robot("proposed", proposal.yaml.encode())
    there = {
        t.topic: TopicInfo(name=t.topic, type=t.type, count=t.messages) for t in cards if t.messages
    }
    bound = bind(robot, there)
    assert list(bound) == [s.name for s in robot.streams]
    assert max(map(len, proposal.yaml.splitlines())) <= 100 or "field" in proposal.yaml
    for line in proposal.yaml.split("\n"):
        assert line.isprintable()
