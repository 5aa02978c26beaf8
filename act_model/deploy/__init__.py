"""A policy on a robot: one clock, one control tick, and a report of what it did."""

from act_model.deploy.clock import Clock, MonotonicClock, SimulatedClock
from act_model.deploy.inference import Predictor, PrefixPredictor
from act_model.deploy.operator import Operator, estop_file, keys, signals
from act_model.deploy.recorder import COMMANDER, Recorder
from act_model.deploy.report import JointError, RolloutReport
from act_model.deploy.rollout import deploy
from act_model.deploy.settings import Rules, State, Stop
from act_model.robot_io import Mode

__all__ = [
    "COMMANDER",
    "Clock",
    "JointError",
    "Mode",
    "MonotonicClock",
    "Operator",
    "Predictor",
    "PrefixPredictor",
    "Recorder",
    "RolloutReport",
    "Rules",
    "SimulatedClock",
    "State",
    "Stop",
    "deploy",
    "estop_file",
    "keys",
    "signals",
]
