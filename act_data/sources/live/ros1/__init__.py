"""Live ROS 1 topics, heard without a ROS installation."""

from act_data.sources.live.ros1.backend import Ros1Backend

__all__ = ["Ros1Backend"]
