"""Whether the header stamps of a stream can be believed, from what it delivered so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from act_data.types import NS_PER_MS, NS_PER_S

# How far out of order stamps of one stream may be and still be sorted in.
REORDER_NS = 10 * NS_PER_MS
# Clocks nearer than this are one clock; a stamp further off than this is a jump.
JUMP_NS = NS_PER_S
# Headers are believed when receive minus stamp varies less than this (p1 to p99).
SPREAD_NS = 250 * NS_PER_MS
_ZERO_SHARE = 0.1
_BACKWARD_SHARE = 0.1
# Stamps are even when no step between them is longer than this many median ones.
_EVEN = 4
_BURST_SAMPLES = 8

Evidence = Sequence[tuple[int, int | None]]  # (receive time, header stamp) in order of arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Receive time minus header stamp of one stream, in short."""

    median_ns: int
    floor_ns: int
    rate_error: float
    first_recv_ns: int


def profile_of(pairs: Evidence, *, trusted: bool) -> Profile | None:
    """None when the stream has no header stamps, or (unless `trusted`) none to be believed."""
    headed = [(recv, stamp) for recv, stamp in pairs if stamp]
    if not headed or (not trusted and len(pairs) - len(headed) > _ZERO_SHARE * len(pairs)):
        return None
    delays = sorted(recv - stamp for recv, stamp in headed)
    count = len(delays)
    median = delays[count // 2]
    # p1 to p99 by rank. From eight samples on at least one falls away at either end, so that a
    # single broken stamp does not take the header from a whole recording.
    cut = -(-count // 100) if count >= 8 else 0
    backward = sum(b[1] < a[1] - REORDER_NS for a, b in pairwise(headed))
    spread = delays[count - 1 - cut] - delays[cut]
    uneven = spread >= SPREAD_NS and not _in_bursts(headed)
    if not trusted and (uneven or backward > _BACKWARD_SHARE * count):
        return None
    floor = min(d for d in delays if d >= median - JUMP_NS)
    half = count // 2
    rate_error = 0.0
    if half >= 4 and (elapsed := headed[half][0] - headed[0][0]) > 0:
        earlier = min(recv - stamp for recv, stamp in headed[:half])
        later = min(recv - stamp for recv, stamp in headed[half:])
        rate_error = (earlier - later) / elapsed
    return Profile(
        median_ns=median, floor_ns=floor, rate_error=rate_error, first_recv_ns=headed[0][0]
    )


def _in_bursts(headed: Sequence[tuple[int, int]]) -> bool:
    """Whether stamps go on evenly while messages are held up and come together.

    So a transport that stalls (DDS under load) does not cost a stream its good stamps. A clock
    that runs at another rate, or jumps, does not look like this.
    """
    if len(headed) < _BURST_SAMPLES:
        return False
    steps = sorted(b[1] - a[1] for a, b in pairwise(headed))
    silence = max(b[0] - a[0] for a, b in pairwise(headed))
    cut = -(-len(steps) // 100)  # one in a hundred may be odd
    even = steps[cut] > 0 and steps[-1 - cut] <= _EVEN * steps[len(steps) // 2]
    received, stamped = headed[-1][0] - headed[0][0], headed[-1][1] - headed[0][1]
    held_up = silence >= SPREAD_NS // 2 > steps[-1] or stamped > 2 * received
    return even and held_up
