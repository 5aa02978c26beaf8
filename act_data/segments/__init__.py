"""Segments: the stretches of a recording that become episodes."""

from act_data.segments.segment import Mark, Segment, Segments

__all__ = ["Mark", "Segment", "Segments"]
