"""Segments: the stretches of a recording that become episodes, and what a person says of them."""

from act_data.segments.annotations import Sidecar, annotation_of
from act_data.segments.idle import IdleTrim
from act_data.segments.markers import listeners, opens_at_first
from act_data.segments.ranges import Ranges, read_ranges
from act_data.segments.segment import UNSAID, Action, Mark, Segment, Segments
from act_data.segments.split import Split, split_of

__all__ = [
    "UNSAID",
    "Action",
    "IdleTrim",
    "Mark",
    "Ranges",
    "Segment",
    "Segments",
    "Sidecar",
    "Split",
    "annotation_of",
    "listeners",
    "opens_at_first",
    "read_ranges",
    "split_of",
]
