"""Between the policy and the robot: limits, and the filter that holds every action to them."""

from act_model.safety.filter import Filtered, Intervention, SafetyFilter, Tips
from act_model.safety.limits import DEFAULT_MARGIN, Limits, Sent, joint_range
from act_model.safety.urdf import read_urdf

__all__ = [
    "DEFAULT_MARGIN",
    "Filtered",
    "Intervention",
    "Limits",
    "SafetyFilter",
    "Sent",
    "Tips",
    "joint_range",
    "read_urdf",
]
