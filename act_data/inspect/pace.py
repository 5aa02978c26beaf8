"""How often, how late and how long: the tick rate and the tolerances of a proposed robot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from act_data.inspect.cards import ClockDomain, TopicCard
from act_data.inspect.drafts import PICTURES, Draft

# ALOHA's rate: what a state that comes more often is sampled at.
_MAX_STATE_HZ = 50.0
# Streams slower than this do not set the pace of faster ones.
_SLOW_HZ = 5.0
_ROUND_SHARE = 0.03
_LEAST_TOLERANCE_MS = 50.0
_STEP_MS = 5
# Periods whose p99 is this many medians are those of a stream that comes when it likes.
_IRREGULAR = 3.0
# What an ingest waits for a late message by default.
_WAIT_MS = 250.0


def nominal_hz(card: TopicCard) -> float:
    """Messages per second while nothing is lost: dropped ones count."""
    periods = max(1, card.messages - 1)
    return (card.rate_hz or 0.0) * (1 + card.estimated_drops / periods)


def tick_rate(observed: Sequence[Draft], commanded: Sequence[Draft]) -> tuple[float, str]:
    """Ticks per second, and why: the slowest camera, else the slowest state, else command."""
    required = [d for d in observed if d.required]
    cameras = [d for d in required if d.kind in PICTURES]
    others = [d for d in required if d.kind not in PICTURES] or list(commanded) or list(observed)
    drafts, what = (cameras, "camera") if cameras else (others, "state")
    paced = [d for d in drafts if nominal_hz(d.card) >= _SLOW_HZ] or drafts
    slowest = min(paced, key=lambda d: nominal_hz(d.card))
    measured = nominal_hz(slowest.card)
    rate = measured if cameras else min(measured, _MAX_STATE_HZ)
    whole = round(rate)
    if whole and abs(rate - whole) <= _ROUND_SHARE * rate:
        rate = float(whole)
    rate = min(1000.0, max(0.001, float(f"{rate:.4g}")))
    why = f"the slowest {what}, {slowest.card.topic}, comes at {measured:.4g} Hz"
    if not cameras and measured > _MAX_STATE_HZ:
        why += f"; more than {_MAX_STATE_HZ:g} is seldom of use"
    slow = [d.card.topic for d in drafts if d not in paced]
    if slow:
        why += f"; slower than {_SLOW_HZ:g} Hz and therefore not counted: {', '.join(slow)}"
    return rate, why


def tolerance(draft: Draft, floor_ms: float, *, command: bool) -> tuple[int, str]:
    """Milliseconds that a sample may be old, and why.

    Args:
        floor_ms: The least latency of the streams that share the receive clock.
        command: It tells a robot what to do until the next one.
    """
    card = draft.card
    p50, p99 = card.period_p50_ms or 0.0, card.period_p99_ms or 0.0
    irregular = p99 > _IRREGULAR * p50
    if command and irregular:
        longest = card.period_max_ms or 0.0
        wanted, why = 1.1 * longest, f"a command holds until the next one, up to {longest:.0f} ms"
    else:
        wanted, why = 1.5 * p99, f"1.5 periods at the 99th percentile, {p99:.1f} ms"
    if wanted < _LEAST_TOLERANCE_MS:
        wanted, why = _LEAST_TOLERANCE_MS, f"ample: 99 % of its periods are below {p99:.1f} ms"
    if card.clock is ClockDomain.SHARED and card.latency_p99_ms is not None:
        late = card.latency_p99_ms - floor_ms - _WAIT_MS
        if late > 0:
            wanted += late
            why += f", and it arrives up to {card.latency_p99_ms:.0f} ms after its stamp"
    return min(86_400_000, math.ceil(wanted / _STEP_MS) * _STEP_MS), why


def floor_ms(drafts: Sequence[Draft]) -> float:
    """The least median latency of streams that are stamped by the receive clock."""
    shared = [
        d.card.latency_p50_ms
        for d in drafts
        if d.card.clock is ClockDomain.SHARED and d.card.latency_p50_ms is not None
    ]
    return max(0.0, min(shared, default=0.0))


def window(drafts: Sequence[Draft]) -> tuple[float, float]:
    """From when to when most streams deliver, in seconds of the recording."""
    firsts = [d.card.first_s or 0.0 for d in drafts]
    lasts = [d.card.last_s or 0.0 for d in drafts]
    return median(firsts), max(median(firsts), median(lasts))


def coverage(card: TopicCard, span: tuple[float, float]) -> float:
    """The share of `span` in which a topic delivers."""
    start, stop = span
    if stop <= start:
        return 1.0
    inside = min(stop, card.last_s or 0.0) - max(start, card.first_s or 0.0)
    return max(0.0, inside) / (stop - start)
