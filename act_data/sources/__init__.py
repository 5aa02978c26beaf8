"""Recordings of every ROS bag format as one stream of raw messages."""

from act_data.sources.bag import BagSource, open_recording
from act_data.sources.recording import Recording, find_recordings, readable

__all__ = ["BagSource", "Recording", "find_recordings", "open_recording", "readable"]
