"""A policy on a robot: one clock, one control loop, and a report of what it did."""

from act_model.deploy.action_log import ActionLog
from act_model.deploy.clock import Clock, MonotonicClock, SimulatedClock
from act_model.deploy.inference import Predictor
from act_model.deploy.loop import deploy
from act_model.deploy.report import JointError, RolloutReport, Stop
from act_model.robot_io import Mode

__all__ = [
    "ActionLog",
    "Clock",
    "JointError",
    "Mode",
    "MonotonicClock",
    "Predictor",
    "RolloutReport",
    "SimulatedClock",
    "Stop",
    "deploy",
]
