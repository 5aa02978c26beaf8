"""Robots as deployment sees them: where observations come from, and where commands go."""

from act_model.commands import JsonSink, NullSink, Sink, labels, open_sink, velocities
from act_model.robot_io.bag_robot import BagRobot
from act_model.robot_io.dataset_robot import DatasetRobot
from act_model.robot_io.interface import Mode, RobotIO, RobotObservation
from act_model.robot_io.live_robot import LiveRobot
from act_model.robot_io.offer import columns_of, offered_by

__all__ = [
    "BagRobot",
    "DatasetRobot",
    "JsonSink",
    "LiveRobot",
    "Mode",
    "NullSink",
    "RobotIO",
    "RobotObservation",
    "Sink",
    "columns_of",
    "labels",
    "offered_by",
    "open_sink",
    "velocities",
]
