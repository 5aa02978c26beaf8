"""Which topics of the robot are here, and which are waited for."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from act_data.errors import DataError
from act_data.fitting import fitting_robot
from act_data.record.settings import RecordSettings
from act_data.robot import bind, misses
from act_data.segments import Split, listeners
from act_data.sources.live import LiveBackend
from act_data.sources.storage import Channel
from act_data.types import RobotSpec, TopicInfo

_EVENTS = "/_service_event"  # the topic on which ROS 2 tells the calls of a service


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotHere:
    """A robot all of whose required topics are published.

    Attributes:
        required: Topics of required streams: no episode begins without a message of each.
        markers: Topics that start and stop episodes.
        optional: Topics of other streams: part of an episode once a message of them was heard.
        others: Topics that somebody asked for.
    """

    robot: RobotSpec
    required: tuple[str, ...]
    markers: tuple[str, ...]
    optional: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def topics(self) -> tuple[str, ...]:
        """All that is recorded."""
        every = (*self.required, *self.markers, *self.optional, *self.others)
        return tuple(dict.fromkeys(every))

    def missing(self, backend: LiveBackend, heard: Mapping[str, int]) -> tuple[str, ...]:
        """A line for each topic without which no episode can begin.

        Raises:
            DataError: Publishers of a topic disagree about its type.
        """
        untold = [t for t in (*self.required, *self.markers) if backend.channel(t) is None]
        silent = [t for t in self.required if t not in untold and not heard.get(t)]
        return (
            *(f"{topic}: no publisher has told its type yet" for topic in untold),
            *(f"{topic}: no message yet" for topic in silent),
        )

    def channels(self, backend: LiveBackend, heard: Mapping[str, int]) -> dict[str, Channel]:
        """The channels of an episode that begins now, by topic."""
        silent = {t for t in self.optional if t not in self.others and not heard.get(t)}
        return {
            topic: channel
            for topic in self.topics
            if topic not in silent and (channel := backend.channel(topic)) is not None
        }


def find_robot(
    robot: RobotSpec | None, settings: RecordSettings, topics: Mapping[str, TopicInfo]
) -> RobotHere | tuple[str, ...]:
    """The robot, if all its topics are published; else a line for each that is missing.

    Args:
        robot: None for the preset that fits.

    Raises:
        DataError: A topic that is to start or stop episodes is of a type that marks nothing.
    """
    if robot is None:
        try:
            robot = fitting_robot(topics)
        except DataError as e:
            return tuple(str(e).splitlines())
    missing = list(misses(robot, topics))
    markers: list[str] = []
    for split in (*settings.starts, *settings.stops):
        if topic := marker_topic(split, topics):
            markers.append(topic)
        else:
            missing.append(f"{split.name}: nobody publishes it")
    if missing:
        return tuple(missing)
    # Whether these topics can mark anything is known now, and not when the first episode begins.
    listeners((*settings.starts, *settings.stops), topics, (), lambda raw: None, lambda mark: None)
    bound = bind(robot, topics)
    return RobotHere(
        robot=robot,
        required=tuple(dict.fromkeys(bound[s.name].name for s in robot.streams if s.required)),
        markers=tuple(dict.fromkeys(markers)),
        optional=tuple(
            bound[s.name].name if s.name in bound else s.topic
            for s in robot.streams
            if not s.required
        ),
        others=settings.topics,
    )


def marker_topic(split: Split, topics: Container[str]) -> str | None:
    """The topic that `split` hears: the one it names, or the calls of the service it names."""
    return next((n for n in (split.name, split.name + _EVENTS) if n in topics), None)
