"""Recordings of every ROS bag format as one stream of raw messages."""

from act_data.sources.bag import BagSource, open_recording
from act_data.sources.given_types import given_types
from act_data.sources.recording import Reading, Recording, find_recordings
from act_data.sources.storage import readable

__all__ = [
    "BagSource",
    "Reading",
    "Recording",
    "find_recordings",
    "given_types",
    "open_recording",
    "readable",
]
