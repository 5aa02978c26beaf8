"""Which time a message has: the choice between header and receive time, and its upkeep.

Every sample gets one time on the *synchronizer's clock*. That clock is the one the headers share
(wall time or simulated time) or, where they share none, the receive clock. Choosing is a function
of the first second of a recording (`Timeline.choose`); afterwards `Timeline.place` turns each
message into its time, follows drift, and takes jumps out, so that the clock never runs backwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from act_data.sync.evidence import JUMP_NS, Evidence, Profile, profile_of
from act_data.types import NS_PER_S, ClockPolicy

# The lower envelope of (receive - stamp) rises by at most this share of the time that passed. A
# quarter follows simulated time down to three quarters of real time (a real recording lost 8 s in
# 46 s), and a stall of half a second moves a deadline by an eighth.
_LEAK_SHIFT = 2
# The same for one stream on a clock of its own: 500 ppm, five times a poor quartz.
_DRIFT_DIVISOR = 2000
# A clock that runs this much slower or faster than real time cannot be followed by an envelope.
_RATE_ERROR = 0.05
_NOTED_JUMPS = 3
_NEVER = -(2**63)


class StreamTime:
    """How the messages of one stream get their time. Made and kept by `Timeline`.

    Attributes:
        header: Header stamps are used; None while the stream has not delivered anything.
        shift_ns: Added to a header stamp to reach the synchronizer's clock.
        jumps: Clock jumps that were taken out.
        future: Samples set aside because their stamp lay in the future.
        past: Samples set aside because their stamp lay far behind the one before.
        behind: The sample that was set aside last lay in the past, not in the future.
    """

    __slots__ = (
        "_last_recv_ns",
        "_last_time_ns",
        "_newest_ns",
        "_own_clock",
        "_suspect_ns",
        "behind",
        "future",
        "header",
        "jumps",
        "name",
        "past",
        "shift_ns",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.header: bool | None = None
        self.shift_ns = 0
        self.jumps = 0
        self.future = 0
        self.past = 0
        self.behind = False
        self._own_clock = False
        self._newest_ns = _NEVER
        self._last_recv_ns = 0
        self._last_time_ns = 0
        self._suspect_ns: int | None = None


class Timeline:
    """The synchronizer's clock.

    Attributes:
        policy: HEADER or RECEIVE, never AUTO.
        offset_ns: Receive clock minus the synchronizer's clock: the lower envelope of receive time
            minus stamp over all streams that use their header. 0 for the receive clock.
        origin_ns: Time of the first message; sentences for people count from here.
        notes: Sentences for people.
    """

    def __init__(self, policy: ClockPolicy, offset_ns: int, first_ns: int) -> None:
        self.policy = policy
        self.offset_ns = offset_ns
        self.origin_ns = first_ns - offset_ns
        self.notes: list[str] = []
        # Streams without a header sit at their receive time where headers are wall time, and are
        # carried over by the offset where headers are another clock.
        self._foreign = abs(offset_ns) >= JUMP_NS
        self._asked = policy
        self._offset_at_ns = first_ns
        # Latencies far above the envelope: since when, the least one, the envelope before.
        self._above: tuple[int, int, int] | None = None
        self._steps = 0

    @classmethod
    def choose(
        cls,
        policy: ClockPolicy,
        evidence: Mapping[StreamTime, Evidence],
        required: Sequence[StreamTime],
        first_ns: int,
    ) -> Timeline:
        """The clock for a recording, from the messages of its start-up.

        `auto` takes the header stamps of a stream that are non-zero, in order, and whose distance
        from receive time varies by less than 0.25 s (p1 to p99), or that are even while the
        messages come in bursts. Required streams whose distance is below 1 s make the headers'
        wall time the clock. Without any such stream, required streams that are all in one other
        domain (simulated time) make that the clock. A stream on any other clock is carried over by
        the lower envelope of its receive time minus stamp. All other streams, and those without a
        header, have their receive time.

        Args:
            policy: HEADER and RECEIVE are taken as they are.
            evidence: What each stream delivered so far; may be empty.
            required: The streams that decide.
            first_ns: Receive time of the very first message: where people count from.
        """
        profiles = {
            time: profile
            for time, pairs in evidence.items()
            if policy is not ClockPolicy.RECEIVE
            and (profile := profile_of(pairs, trusted=policy is ClockPolicy.HEADER))
        }
        deciding = [profiles[time] for time in required if time in profiles]
        wall = [p for p in deciding if abs(p.median_ns) < JUMP_NS]
        medians = [p.median_ns for p in deciding]
        notes = []
        if policy is ClockPolicy.HEADER and deciding:
            domain = deciding
            if max(medians) - min(medians) >= 2 * JUMP_NS:
                notes.append(
                    "required streams are stamped by different clocks, "
                    f"{(max(medians) - min(medians)) / NS_PER_S:.1f} s apart; "
                    "clock 'auto' would bring them together"
                )
        elif wall:
            domain = wall
        elif deciding and max(medians) - min(medians) < JUMP_NS:
            domain = deciding
            notes.append(
                f"all headers are {_apart(min(medians))} the receive clock "
                "(simulated time, or another machine's): header time is used throughout"
            )
        else:
            domain = []
        if domain:
            timeline = cls(ClockPolicy.HEADER, min(p.floor_ns for p in domain), first_ns)
        else:
            timeline = cls(ClockPolicy.RECEIVE, 0, first_ns)
        timeline._asked = policy
        timeline._offset_at_ns = min(pairs[0][0] for pairs in evidence.values() if pairs)
        timeline.notes += notes
        for time, pairs in evidence.items():
            if pairs:
                timeline._admit(
                    time, profiles.get(time), headers=any(s is not None for _, s in pairs)
                )
        return timeline

    def place(self, time: StreamTime, recv_ns: int, stamp_ns: int | None) -> int | None:
        """Time of a message on the synchronizer's clock; None when its stamp cannot be believed.

        A single stamp more than 1 s in the future, or more than 1 s behind the newest of its
        stream, is set aside. When the next message of the stream agrees with it, the clock has
        jumped (a looped bag, an NTP step): from there on the stream continues where it was, with
        the latency it had, and a note says so.
        """
        if time.header is None:
            profile = profile_of([(recv_ns, stamp_ns)], trusted=True)
            self._admit(time, profile, headers=stamp_ns is not None)
        if not time.header:
            return recv_ns - self.offset_ns if self._foreign else recv_ns
        if not stamp_ns:
            if time._newest_ns == _NEVER:
                time.behind = False
                return None
            at = time._last_time_ns + recv_ns - time._last_recv_ns
        else:
            delay = recv_ns - stamp_ns
            if time._own_clock and delay > time.shift_ns - JUMP_NS:
                drifted = time.shift_ns + (recv_ns - time._last_recv_ns) // _DRIFT_DIVISOR
                time.shift_ns = min(drifted, delay)
            at = stamp_ns + time.shift_ns
            latency = recv_ns - at
            if latency < self.offset_ns - JUMP_NS or at < time._newest_ns - JUMP_NS:
                if not self._jumped(time, recv_ns, latency):
                    return None
                at = stamp_ns + time.shift_ns
            else:
                time._suspect_ns = None
                if not time._own_clock:
                    if self._above or latency >= self.offset_ns + JUMP_NS:
                        self._follow_step(recv_ns, latency)
                    offset = self.offset_ns + ((recv_ns - self._offset_at_ns) >> _LEAK_SHIFT)
                    self.offset_ns = latency if latency < offset else offset
                    self._offset_at_ns = recv_ns
        time._last_recv_ns = recv_ns
        time._last_time_ns = at
        if at > time._newest_ns:
            time._newest_ns = at
        return at

    def glance(self, time: StreamTime, recv_ns: int, stamp_ns: int | None) -> int | None:
        """What `place` would most likely say, without remembering the message."""
        if not time.header:
            return recv_ns - self.offset_ns if self._foreign else recv_ns
        if not stamp_ns or recv_ns - stamp_ns - time.shift_ns < self.offset_ns - JUMP_NS:
            return None
        return stamp_ns + time.shift_ns

    def seconds(self, time_ns: int) -> str:
        """A time on this clock as seconds since the first message, for sentences."""
        return f"{(time_ns - self.origin_ns) / NS_PER_S:.2f} s"

    def _admit(self, time: StreamTime, profile: Profile | None, *, headers: bool) -> None:
        if profile is None or self._asked is ClockPolicy.RECEIVE:
            time.header = False
            if headers and self._asked is not ClockPolicy.RECEIVE:
                self.notes.append(
                    f"{time.name}: its header stamps cannot be used; receive time is used instead"
                )
            return
        shared = (
            self.policy is ClockPolicy.HEADER and abs(profile.median_ns - self.offset_ns) < JUMP_NS
        )
        time.header = True
        if shared or self._asked is ClockPolicy.HEADER:
            return
        if self._foreign or abs(profile.rate_error) > _RATE_ERROR:
            time.header = False
            self.notes.append(
                f"{time.name}: stamped by a clock of its own, {_apart(profile.median_ns)} the "
                "receive clock; receive time is used instead"
            )
            return
        time.shift_ns = profile.floor_ns
        time._own_clock = True
        time._last_recv_ns = profile.first_recv_ns
        self.notes.append(
            f"{time.name}: stamped by a clock of its own, {_apart(profile.median_ns)} the receive "
            "clock; carried over by the least receive delay"
        )

    def _follow_step(self, recv_ns: int, latency: int) -> None:
        """Follow a receive clock that was set forward: nothing has come below for a second."""
        since_ns, floor, before = self._above or (recv_ns, latency, self.offset_ns)
        floor = min(floor, latency)
        if floor < before + JUMP_NS:
            self._above = None
            return
        if recv_ns - since_ns < JUMP_NS:
            self._above = since_ns, floor, before
            return
        self.offset_ns, self._above = floor, None
        self._steps += 1
        if self._steps <= _NOTED_JUMPS:
            self.notes.append(
                f"receive times moved {(floor - before) / NS_PER_S:.2f} s away from the stamps "
                f"before {self.seconds(recv_ns - floor)}: the recorder's clock was set, or all is "
                "delayed; until then ticks left without what was on its way"
            )

    def _jumped(self, time: StreamTime, recv_ns: int, latency: int) -> bool:
        """Whether a stamp that looks wrong is the second in agreement; then shift the stream."""
        future = latency < self.offset_ns - JUMP_NS
        if time._suspect_ns is None or abs(latency - time._suspect_ns) >= JUMP_NS // 2:
            time._suspect_ns = latency
            time.future += future
            time.past += not future
            time.behind = not future
            return False
        if time._newest_ns == _NEVER:
            correction = latency - self.offset_ns
        else:
            correction = latency - (time._last_recv_ns - time._last_time_ns)
        time.shift_ns += correction
        time._suspect_ns = None
        time.jumps += 1
        if time.jumps <= _NOTED_JUMPS:
            self.notes.append(
                f"{time.name}: its clock jumped by {-correction / NS_PER_S:+.3f} s at "
                f"{self.seconds(recv_ns - self.offset_ns)}; the jump was taken out"
            )
        return True


def _apart(delay_ns: int) -> str:
    return f"{abs(delay_ns) / NS_PER_S:.1f} s {'behind' if delay_ns > 0 else 'ahead of'}"
