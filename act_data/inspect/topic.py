"""One topic while its messages go by: what is asked of them, and the card that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from act_data.errors import DataError
from act_data.inspect.cards import ClockDomain, TopicCard
from act_data.inspect.joints import JointLook
from act_data.inspect.numbers import NumberLook
from act_data.inspect.pictures import PictureLook
from act_data.inspect.timing import Timing
from act_data.types import NS_PER_S, RawMessage, StreamKind, TopicInfo

Look = PictureLook | JointLook | NumberLook
Deserialize = Callable[[RawMessage], Any]

# Types whose numbers are no sample of a robot's state, and what they are instead.
NOT_READ = {
    "sensor_msgs/msg/PointCloud2": "a point cloud, which no stream kind decodes",
    "sensor_msgs/msg/PointCloud": "a point cloud, which no stream kind decodes",
    "sensor_msgs/msg/CameraInfo": "calibration of a camera",
    "tf2_msgs/msg/TFMessage": "a tree of transforms, of which each message holds a part",
    "tf/msg/tfMessage": "a tree of transforms, of which each message holds a part",
    "rosgraph_msgs/msg/Log": "text",
    "rosgraph_msgs/msg/Clock": "time itself",
    "rcl_interfaces/msg/Log": "text",
    "rcl_interfaces/msg/ParameterEvent": "parameters of nodes",
    "std_msgs/msg/String": "text",
    "diagnostic_msgs/msg/DiagnosticArray": "text",
}
# A topic that has failed so often is not tried any more.
_MAX_FAILURES = 100

_LOOKS: dict[str, Callable[[str], Look]] = {
    "sensor_msgs/msg/Image": PictureLook,
    "sensor_msgs/msg/CompressedImage": PictureLook,
    "sensor_msgs/msg/JointState": JointLook,
}


class TopicLook:
    """What is known about one topic so far; memory does not grow with its messages."""

    def __init__(self, info: TopicInfo, start_ns: int, capacity: int) -> None:
        """Args: capacity: Values kept for each percentile."""
        self._info = info
        self._start_ns = start_ns
        self._timing = Timing(info.name, start_ns, capacity)
        self._look: Look | None = None
        if info.type not in NOT_READ:
            self._look = _LOOKS.get(info.type, NumberLook)(info.name)
        self._messages = 0
        self._bytes = 0
        self._failures = 0
        self._problem = NOT_READ.get(info.type, "")

    def seen(self, raw: RawMessage, deserialize: Deserialize) -> None:
        """Take in one message."""
        self._messages += 1
        self._bytes += len(raw.payload)
        self._timing.seen(raw.recv_ns, raw.stamp_ns, raw.seq)
        if self._look is None or self._failures >= _MAX_FAILURES:
            return
        try:
            self._look.seen(raw.type, deserialize(raw))
        except DataError as e:
            self._failures += 1
            self._problem = self._problem or str(e)

    def card(self, end_ns: int) -> TopicCard:
        """Everything that was found; `end_ns` is when the recording ends."""
        known: dict[str, object] = {
            "topic": self._info.name,
            "type": self._info.type,
            "messages": self._messages,
            "promised": self._info.count,
            "bytes": self._bytes,
            "problem": self._problem,
        }
        if not self._messages:
            return TopicCard.model_validate(known)
        if isinstance(self._look, PictureLook):
            known["pictures"] = self._look.card()
        elif isinstance(self._look, JointLook):
            known["joints"] = self._look.card()
        elif self._look is not None:
            known["numbers"] = self._look.card()
        timing = self._timing
        report, clock, notes = timing.finish(end_ns)
        assert timing.first_ns is not None  # there was a message
        base = report.latency_p01_ms or 0.0 if clock is ClockDomain.OTHER else 0.0
        told = clock in (ClockDomain.SHARED, ClockDomain.OTHER)
        p50, p99 = report.latency_p50_ms, report.latency_p99_ms
        foreign = clock in (ClockDomain.OTHER, ClockDomain.DRIFTING)
        return TopicCard.model_validate(
            {
                **known,
                "first_s": (timing.first_ns - self._start_ns) / NS_PER_S,
                "last_s": (timing.last_ns - self._start_ns) / NS_PER_S,
                "rate_hz": report.rate_hz,
                "period_p50_ms": report.period_p50_ms,
                "period_p99_ms": report.period_p99_ms,
                "period_max_ms": report.period_max_ms,
                "estimated_drops": report.estimated_drops,
                "seq_gaps": report.seq_gaps,
                "clock": clock,
                "clock_behind_s": p50 / 1000 if foreign and p50 is not None else None,
                "drift_ppm": report.drift_ppm,
                "zero_stamps": report.zero_stamps,
                "backward_stamps": report.backward_stamps,
                "latency_p50_ms": p50 - base if told and p50 is not None else None,
                "latency_p99_ms": p99 - base if told and p99 is not None else None,
                "notes": tuple(notes),
            }
        )


def kind_of(card: TopicCard) -> StreamKind | None:
    """The stream kind that reads a topic; None when none does."""
    if card.problem:
        return None
    if card.pictures is not None:
        return StreamKind(card.pictures.kind) if card.pictures.kind else None
    if card.joints is not None:
        return StreamKind.JOINT_STATE
    return StreamKind(card.numbers.kind) if card.numbers and card.numbers.fields else None
