"""Recordings of every ROS bag format as one stream of raw messages."""
