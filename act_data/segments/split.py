"""`--split-by`: what begins and ends the segments of a recording, as text and as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from act_data.types import NS_PER_S

_SPLIT = re.compile(
    r"(?P<by>marker|start|stop|cut):(?P<name>[^:\s]+)(?::(?P<button>\d{1,3}))?"
    r"|silence:(?P<seconds>\d{1,6}(?:\.\d{1,9})?)"
)


class By(StrEnum):
    """What the events of a topic, or a silence, do."""

    MARKER = "marker"  # true starts and false stops; what is neither toggles
    START = "start"
    STOP = "stop"
    CUT = "cut"  # ends one segment and begins the next
    SILENCE = "silence"  # of all required topics: cuts


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One way in which segments begin and end.

    Attributes:
        name: A topic, or a service whose events were recorded.
        button: Of a joystick.
        silence_ns: How long nothing must come.
    """

    by: By
    name: str = ""
    button: int = 0
    silence_ns: int = 0


def split_of(text: str) -> Split:
    """The value of "marker:/topic", "cut:/joy:3", "silence:2.5".

    Raises:
        ValueError: It is none of these.
    """
    match = _SPLIT.fullmatch(text)
    if match is None or (match["seconds"] and float(match["seconds"]) <= 0):
        raise ValueError(
            "not one of marker:/TOPIC, start:/TOPIC, stop:/TOPIC, cut:/TOPIC (a service, or "
            "/JOY:BUTTON, may stand for the topic) and silence:SECONDS"
        )
    if match["seconds"]:
        return Split(by=By.SILENCE, silence_ns=round(float(match["seconds"]) * NS_PER_S))
    return Split(by=By(match["by"]), name=match["name"], button=int(match["button"] or 0))
