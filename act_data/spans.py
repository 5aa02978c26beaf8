"""Which part of a recording an episode is."""

from __future__ import annotations

from act_data.records import EpisodeInfo

SAME_PART = 0.5
"""Two episodes of one recording are the same part of it if they share more than this."""


def span_of(info: EpisodeInfo) -> tuple[int, int]:
    """Begin and end in its recording, ns; those of the recording where nothing was cut."""
    part = info.source if info.segment is None else info.segment
    return (part.start_ns, part.end_ns)


def shared(one: tuple[int, int], two: tuple[int, int]) -> float:
    """The part of the shorter span that lies in the other one, 0 to 1; negative when apart."""
    shorter = min(one[1] - one[0], two[1] - two[0])
    common = min(one[1], two[1]) - max(one[0], two[0])
    if shorter <= 0:  # no times are known, or one step: the same recording is all there is
        return float(common >= 0)
    return common / shorter
