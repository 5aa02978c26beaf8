"""Commands to a robot: where they go, and what their elements are. Light: without torch."""

from act_model.commands.interface import Plan, PlanSink, Sink, labels, velocities
from act_model.commands.sinks import JsonSink, NullSink, open_sink, robot_of

__all__ = [
    "JsonSink",
    "NullSink",
    "Plan",
    "PlanSink",
    "Sink",
    "labels",
    "open_sink",
    "robot_of",
    "velocities",
]
